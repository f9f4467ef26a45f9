"""Heat maps of attention as one HTML file, to point at, to page through and to filter; it needs no network."""

from __future__ import annotations

import base64
import json
import mimetypes
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict, lazy_groups_of

from regattn_allennlp.modules.latent_alignment import DISTRIBUTIONS

if TYPE_CHECKING:  # predictors know this package, not the other way round
    from regattn_allennlp.predictors.attention_predictor import AttentionPredictor

FOLDER = Path(__file__).parent
# What attention_page.html has a place for, besides its data.
PARTS = ("heat_map.css", "heat_map.js", "items.js")
# A weight's digits in the file. Significant ones: what is not 0 does not become 0.
WEIGHT_DIGITS = 4

BATCH_SIZE = 32


def panels_of(alignment: str) -> Sequence[Optional[str]]:
    """
    What stands side by side of each model: what it says, or of a given target the distributions up to the alignment,
    for each is to be compared with those before it.

    # Raises

    `ConfigurationError`
        If it is none of the `DISTRIBUTIONS`.
    """
    if alignment not in DISTRIBUTIONS:
        raise ConfigurationError(f'The alignment must be one of {", ".join(DISTRIBUTIONS)}, but is "{alignment}".')
    return [None] if alignment == "prior" else DISTRIBUTIONS[: DISTRIBUTIONS.index(alignment) + 1]


def panel_title(name: str, panel: Optional[str]) -> str:
    return name if panel is None else f"{name}, {panel.replace('_', ' ')}"


def page_example(inputs: Mapping[str, Any], gold: Optional[str], predictions: Sequence[JsonDict]) -> JsonDict:
    """One of the examples of `attention_page`."""
    # What is no text, such as the numbers of an image's regions, is nothing to read.
    readable = {key: value for key, value in inputs.items() if isinstance(value, str | int)}
    return {"inputs": readable, "gold": gold, "predictions": list(predictions)}


def page_predictions(
    predictor: AttentionPredictor, items: Sequence[JsonDict], directions: Sequence[str]
) -> list[JsonDict]:
    """Of each item, which is what `predict_json` takes, one of the "predictions" of `attention_page`."""
    return [prediction for (prediction,) in page_panels(predictor, items, directions, [None])]


def page_panels(
    predictor: AttentionPredictor,
    items: Sequence[JsonDict],
    directions: Sequence[str],
    distributions: Sequence[Optional[str]],
) -> list[list[JsonDict]]:
    """
    As `page_predictions`, several of each item: for each of the distributions, of the target that the item has. `None`
    stands for what the model says.
    """
    return [
        [page_prediction(predictor, prediction, directions, distribution) for distribution in distributions]
        for batch in lazy_groups_of(items, BATCH_SIZE)
        for prediction in predictor.predict_batch_json(batch)
    ]


def page_prediction(
    predictor: AttentionPredictor, prediction: JsonDict, directions: Sequence[str], distribution: Optional[str]
) -> JsonDict:
    if distribution is not None:
        prediction = predictor.as_written(prediction, distribution)
    return {
        **predictor.answer(prediction)._asdict(),
        "maps": [predictor.attention_map(prediction, direction) for direction in directions],
    }


def attention_page(archives: Sequence[str], examples: Sequence[JsonDict], are_given: bool = False) -> str:
    """
    # Parameters

    archives : `List[str]`
        The models' names.
    examples : `List[JsonDict]`
        Each with "inputs", a dictionary of texts, by what they are; "gold" (`None` if there is none) and
        "predictions": for each of the archives "text" and "probability" of its `Answer`, and "maps", one or more to
        choose from by their direction, as `AttentionPredictor.attention_map` makes them; or "map", if it is one. The
        images that maps name become part of the page.
    are_given : `bool`, optional (default = `False`)
        Whether the predictions are of targets that were given, and the archives' names those of their distributions:
        then there is nothing that models could be right or wrong about.

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
    content = {
        "archives": archives,
        "examples": examples,
        "images": [_data_uri(path) for path in images],
        "areGiven": are_given,
    }
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
