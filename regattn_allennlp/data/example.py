from typing import Any, NamedTuple, Optional


class Example(NamedTuple):
    """
    One item of a source as it stands there: the input, with the keys that the task's predictor takes ("premise" and
    "hypothesis"), and what would be right for it in words (a label, a translation), if that is known.
    """

    inputs: dict[str, Any]
    gold: Optional[str]
