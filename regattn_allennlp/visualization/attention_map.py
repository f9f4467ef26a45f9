"""The attention of one prediction as the data that heat maps are drawn from: pictures, HTML files and the web page."""

import unicodedata
from collections.abc import Iterable

from allennlp.common.util import JsonDict

from regattn_allennlp.visualization.equal_weights import equal_groups

# Each attends from the words of its first sentence, the rows, to those of its second, the columns.
DIRECTIONS = ("hypothesis_to_premise", "premise_to_hypothesis")


def attention_map(prediction: JsonDict, direction: str = DIRECTIONS[0]) -> JsonDict:
    """
    What `renderHeatMap` of heat_map.js takes, made of a prediction of `EntailmentPredictor`.

    # Returns

    rows, columns : `List[str]`
        The words that attend, and those that are attended to.
    weights : `List[List[float]]`
        For each row its weights over the columns; they sum to 1.
    groups : `List[List[List[Tuple[int, int]]]]`
        For each row its `equal_groups`.
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
        "groups": [equal_groups(of_row) for of_row in weights],
        "rowTitle": row_title,
        "columnTitle": column_title,
        "rightToLeft": is_right_to_left(columns),
    }


def is_right_to_left(tokens: Iterable[str]) -> bool:
    """By the first character that has a direction, as Unicode's rule for paragraphs has it."""
    directions = (unicodedata.bidirectional(character) for token in tokens for character in token)
    return next((direction for direction in directions if direction in ("L", "R", "AL")), "L") != "L"
