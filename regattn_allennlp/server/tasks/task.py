"""What all tasks that are served have in common."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, ClassVar

from allennlp.common.util import JsonDict
from allennlp.data import Instance

from regattn_allennlp.data.example import Example
from regattn_allennlp.predictors.attention_predictor import AttentionPredictor
from regattn_allennlp.server.schema import ArchiveAnswer, AttentionRequest, TaskField, View

# Where a map's picture is, on this server.
IMAGE_ADDRESS = "api/image/"


class RequestError(ValueError):
    """A request that cannot be answered; the message says what would be right, `field` what is wrong."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Task:
    """
    What requests and answers have of their own for one task. A subclass is all that a further task needs: the page
    makes its form of the `fields`, and draws the maps that the answer has by the names of the `views`.

    # Attributes

    name : `str`
        The predictor's registered name.
    request, answer : `type`
        What goes over the wire.
    example_request : `str`
        JSON, for messages.
    subject : `str`
        A sentence for the head of the page.
    texts : `Dict[str, str]`
        The fields that are texts and whose words can be taken out, and what they are called in an instance.
    map_has_words : `bool`, optional (default = `True`)
        Whether the rows and columns that are called as a text are its words.
    """

    name: ClassVar[str]
    request: ClassVar[type[AttentionRequest]]
    answer: ClassVar[type[ArchiveAnswer]]
    example_request: ClassVar[str]
    subject: ClassVar[str]
    fields: Sequence[TaskField]
    views: Sequence[View]
    texts: ClassVar[Mapping[str, str]]
    map_has_words: ClassVar[bool] = True
    examples: Sequence[Example] = ()

    def __init__(self, predictors: Sequence[AttentionPredictor]) -> None:
        pass

    def warm_up_request(self) -> AttentionRequest:
        """A small one, to compile what has to be."""
        raise NotImplementedError

    def instance(self, predictor: AttentionPredictor, request: Any) -> Instance:
        """A ConfigurationError for what cannot be predicted."""
        return predictor._json_to_instance(request.model_dump(include=set(predictor.required_keys)))

    def predict(self, predictor: AttentionPredictor, instance: Instance, request: Any) -> JsonDict:
        """The `answer`, less what all tasks have; its maps, by their names, as `attention_map` makes them."""
        raise NotImplementedError

    def influence(self, predictor: AttentionPredictor, instance: Instance, request: Any) -> dict[str, list[float]]:
        return predictor.influence(instance)

    def words(self, instance: Instance) -> dict[str, list[str]]:
        """What can be taken out."""
        return {text: [token.text for token in instance[field].tokens] for text, field in self.texts.items()}

    def take_out(self, instance: Instance, text: str, positions: set[int]) -> None:
        """Leaves of the text what the model is to read."""
        field = instance[self.texts[text]]
        field.tokens = [token for position, token in enumerate(field.tokens) if position not in positions]
        metadata = instance["metadata"].metadata
        metadata[f"{text}_tokens"] = [token.text for token in field.tokens]

    def title(self, answer: Any, text: int) -> str:
        """What is written over an archive's map in a picture."""
        raise NotImplementedError

    def part(self, answer: Any, text: int) -> Any:
        """What of an answer has the maps: itself, or of several texts this one."""
        return answer


def put_back(one: JsonDict, view: View, words: Mapping[str, list[str]], removed: Mapping[str, set[int]]) -> JsonDict:
    """
    A map of all words, made of one without those that were removed: their weights are 0.

    # Parameters

    one : `JsonDict`
        See `visualization.attention_map`.
    words : `Mapping[str, Sequence[str]]`
        By text, all of them. A text that is not there is a model's own, of which nothing is removed.
    removed : `Mapping[str, set[int]]`
        By text, positions.
    """
    rows, columns = words.get(view.rows, one["rows"]), words.get(view.columns, one["columns"])
    row_places = [row for row in range(len(rows)) if row not in removed.get(view.rows, ())]
    column_places = [column for column in range(len(columns)) if column not in removed.get(view.columns, ())]
    weights = [[0.0] * len(columns) for _ in rows]
    groups: list[list[Any]] = [[] for _ in rows]
    for row, of_row, groups_of_row in zip(row_places, one["weights"], one["groups"], strict=True):
        for column, weight in zip(column_places, of_row, strict=True):
            weights[row][column] = weight
        groups[row] = [
            _runs([column_places[column] for start, stop in runs for column in range(start, stop)])
            for runs in groups_of_row
        ]
    return {
        **one,
        "rows": rows,
        "columns": columns,
        "weights": weights,
        "groups": groups,
        "unknownRows": [row_places[row] for row in one["unknownRows"]],
        "unknownColumns": [column_places[column] for column in one["unknownColumns"]],
    }


def _runs(columns: Sequence[int]) -> list[tuple[int, int]]:
    """The runs of neighbours, as [first, one after the last]."""
    runs = []
    for _, members in groupby(enumerate(columns), key=lambda pair: pair[1] - pair[0]):
        run = [column for _, column in members]
        runs.append((run[0], run[-1] + 1))
    return runs
