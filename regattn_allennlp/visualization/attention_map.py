"""The attention of one prediction as the data that heat maps are drawn from: pictures, HTML files and the web page."""

import unicodedata
from collections.abc import Iterable, Sequence

from allennlp.common.util import JsonDict

from regattn_allennlp.visualization.equal_weights import Run, equal_groups


def attention_map(prediction: JsonDict, direction: str = "hypothesis_to_premise") -> JsonDict:
    """
    What `renderHeatMap` of heat_map.js takes. A map of an image's regions, as `VqaPredictor` makes it, has "boxes" and
    "image" besides: see `renderRegions` there.

    # Parameters

    prediction : `JsonDict`
        With the words of both sides, as "premise_tokens", and with the weights, as "hypothesis_to_premise_attention".
    direction : `str`, optional (default = `"hypothesis_to_premise"`)
        From what attends, the rows, to what is attended to, the columns.

    # Returns

    rows, columns : `List[str]`
        The words that attend, and those that are attended to.
    weights : `List[List[float]]`
        For each row its weights over the columns; they sum to 1.
    groups : `List[List[List[Tuple[int, int]]]]`
        For each row its `equal_groups`, but for those that are one word, which occurs more than once: these have one
        weight with any attention, because they have one score.
    rowTitle, columnTitle : `str`
        Which sentence is which: "hypothesis", "premise".
    rightToLeft : `bool`
        Whether the columns' sentence is of a script that is read from right to left.
    """
    row_title, column_title = direction.split("_to_")
    columns = prediction[f"{column_title}_tokens"]
    weights = prediction[f"{direction}_attention"]
    return {
        "rows": prediction[f"{row_title}_tokens"],
        "columns": columns,
        "weights": weights,
        "groups": [
            [runs for runs in equal_groups(of_row) if _number_of_words(columns, runs) > 1] for of_row in weights
        ],
        "rowTitle": row_title,
        "columnTitle": column_title,
        "rightToLeft": is_right_to_left(columns),
    }


def _number_of_words(tokens: Sequence[str], runs: Iterable[Run]) -> int:
    """How many different ones, whatever their case."""
    return len({token.casefold() for start, stop in runs for token in tokens[start:stop]})


def is_right_to_left(tokens: Iterable[str]) -> bool:
    """By the first character that has a direction, as Unicode's rule for paragraphs has it."""
    directions = (unicodedata.bidirectional(character) for token in tokens for character in token)
    return next((direction for direction in directions if direction in ("L", "R", "AL")), "L") != "L"
