"""Heat maps of attention as one HTML file, to point at, to page through and to filter; it needs no network."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allennlp.common.util import JsonDict

FOLDER = Path(__file__).parent
# A weight's digits in the file. Significant ones: what is not 0 does not become 0.
WEIGHT_DIGITS = 4


def attention_page(archives: Sequence[str], pairs: Sequence[JsonDict]) -> str:
    """
    # Parameters

    archives : `List[str]`
        The models' names.
    pairs : `List[JsonDict]`
        Each with "premise", "hypothesis", "label" (`None` if there is none) and "predictions": for each of the
        archives "label", "probability" and "map", made by `attention_map`.
    """
    # "<" would end the script that holds the data if a sentence says so.
    data = json.dumps({"archives": archives, "pairs": _rounded(pairs)}, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"data": data, **{name: (FOLDER / name).read_text("utf-8") for name in ("heat_map.css", "heat_map.js")}}
    template = (FOLDER / "attention_page.html").read_text("utf-8")
    return re.sub(r"/\* (data|heat_map\.\w+) \*/", lambda match: parts[match[1]], template)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{WEIGHT_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
