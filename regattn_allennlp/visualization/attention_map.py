"""The attention of one prediction as the data that heat maps are drawn from: pictures, HTML files and the web page."""

import unicodedata
from collections.abc import Hashable, Iterable, Sequence

from allennlp.common.util import JsonDict

from regattn_allennlp.visualization.equal_weights import Run, equal_groups


def attention_map(prediction: JsonDict, direction: str = "hypothesis_to_premise") -> JsonDict:
    """
    What `renderHeatMap` of heat_map.js takes. A map of an image's regions, as `VqaPredictor` makes it, has "boxes" and
    "image" besides: see `renderRegions` there.

    # Parameters

    prediction : `JsonDict`
        With the words of both sides, as "premise_tokens", and with the weights, as "hypothesis_to_premise_attention";
        if it is known, with what the model sees of the words, as "premise_same_as" and "premise_unknown": see
        `SeenWords`. Otherwise words are the same if their letters are, whatever the case.
    direction : `str`, optional (default = `"hypothesis_to_premise"`)
        From what attends, the rows, to what is attended to, the columns.

    # Returns

    rows, columns : `List[str]`
        The words that attend, and those that are attended to.
    weights : `List[List[float]]`
        For each row its weights over the columns; they sum to 1.
    groups : `List[List[List[Tuple[int, int]]]]`
        For each row its `equal_groups`, but for those that are one word to the model, such as a word that occurs more
        than once, or words that it does not know: these have one weight with any attention, because they have one
        score.
    unknownRows, unknownColumns : `List[int]`
        The positions of the words that are out of the model's vocabulary.
    rowTitle, columnTitle : `str`
        Which sentence is which: "hypothesis", "premise".
    rightToLeft : `bool`
        Whether the columns' sentence is of a script that is read from right to left.
    """
    row_title, column_title = direction.split("_to_")
    columns = prediction[f"{column_title}_tokens"]
    weights = prediction[f"{direction}_attention"]
    same_as = prediction.get(f"{column_title}_same_as") or [token.casefold() for token in columns]
    return {
        "rows": prediction[f"{row_title}_tokens"],
        "columns": columns,
        "weights": weights,
        "groups": [
            [runs for runs in equal_groups(of_row) if _number_of_words(same_as, runs) > 1] for of_row in weights
        ],
        "unknownRows": prediction.get(f"{row_title}_unknown", []),
        "unknownColumns": prediction.get(f"{column_title}_unknown", []),
        "rowTitle": row_title,
        "columnTitle": column_title,
        "rightToLeft": is_right_to_left(columns),
    }


def _number_of_words(same_as: Sequence[Hashable], runs: Iterable[Run]) -> int:
    return len({word for start, stop in runs for word in same_as[start:stop]})


def is_right_to_left(tokens: Iterable[str]) -> bool:
    """By the first character that has a direction, as Unicode's rule for paragraphs has it."""
    directions = (unicodedata.bidirectional(character) for token in tokens for character in token)
    return next((direction for direction in directions if direction in ("L", "R", "AL")), "L") != "L"
