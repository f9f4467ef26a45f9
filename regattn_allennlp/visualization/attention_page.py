"""Heat maps of attention as one HTML file, to point at, to page through and to filter; it needs no network."""

import base64
import json
import mimetypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict

FOLDER = Path(__file__).parent
# What attention_page.html has a place for, besides its data.
PARTS = ("heat_map.css", "heat_map.js", "items.js")
# A weight's digits in the file. Significant ones: what is not 0 does not become 0.
WEIGHT_DIGITS = 4


def attention_page(archives: Sequence[str], examples: Sequence[JsonDict]) -> str:
    """
    # Parameters

    archives : `List[str]`
        The models' names.
    examples : `List[JsonDict]`
        Each with "inputs", a dictionary of texts, by what they are; "gold" (`None` if there is none) and
        "predictions": for each of the archives "text" and "probability" of its `Answer`, and "maps", one or more to
        choose from by their direction, as `AttentionPredictor.attention_map` makes them; or "map", if it is one. The
        images that maps name become part of the page.

    # Raises

    `ConfigurationError`
        For an image that cannot be read.
    """
    examples = _rounded(examples)
    predictions = [prediction for example in examples for prediction in example["predictions"]]
    for prediction in predictions:
        if "map" in prediction:
            prediction["maps"] = [prediction.pop("map")]
    maps = [one for prediction in predictions for one in prediction["maps"]]
    # Each once, however many maps are of it, and by number: where it lies on this machine is nobody's business.
    images = list(dict.fromkeys(one["image"] for one in maps if one.get("image")))
    for one in maps:
        if "image" in one:
            one["image"] = images.index(one["image"]) if one["image"] else None
    content = {"archives": archives, "examples": examples, "images": [_data_uri(path) for path in images]}
    # "<" would end the script that holds the data if a sentence says so.
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"data": data, **{name: (FOLDER / name).read_text("utf-8") for name in PARTS}}
    template = (FOLDER / "attention_page.html").read_text("utf-8")
    return re.sub(r"/\* ([\w.]+) \*/", lambda match: parts[match[1]], template)


def _data_uri(path: str) -> str:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f'The image "{path}" cannot be read: {error}') from error
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{WEIGHT_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
