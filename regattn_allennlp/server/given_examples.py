"""The examples that a server offers: found and ordered as visualization/items.js does it, by what the models say."""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, permutations

from regattn_allennlp.data.example import Example
from regattn_allennlp.server.schema import (
    ExampleChoices,
    ExamplePrediction,
    Examples,
    ExamplesQuery,
    GivenExample,
)
from regattn_allennlp.server.tasks.task import RequestError

# The gold answer, to ask for, of those that have none.
NO_GOLD = "none"
DISAGREE = "disagree"
MOST_DISAGREEMENT = "most disagreement first"
# Among more answers than this nobody looks for one: they are sentences, not labels.
MAX_ANSWERS = 30

Test = Callable[[GivenExample], bool]


class GivenExamples:
    """
    The examples, and for each, once it is predicted, what the models say.

    # Parameters

    examples : `Sequence[Example]`
    archives : `Sequence[str]`
        The models' names, in the order of the predictions.
    """

    def __init__(self, examples: Sequence[Example], archives: Sequence[str]) -> None:
        self._examples = [
            GivenExample(number=number, inputs=example.inputs, gold=example.gold)
            for number, example in enumerate(examples, start=1)
        ]
        self._archives = archives
        self._texts = [
            [_folded(str(text)) for text in (*one.inputs.values(), one.gold or "") if isinstance(text, str | int)]
            for one in self._examples
        ]
        self._has_gold = any(one.gold is not None for one in self._examples)
        self._golds = {NO_GOLD if one.gold is None else one.gold for one in self._examples}
        self._answers: set[str] = set()
        self.num_predicted = 0
        self._tests = self._model_tests()

    def __len__(self) -> int:
        return len(self._examples)

    def next(self, size: int) -> Sequence[GivenExample]:
        """Those to predict next."""
        return self._examples[self.num_predicted : self.num_predicted + size]

    def add(self, predictions: Iterable[Sequence[ExamplePrediction]]) -> None:
        """What each archive says of the next ones; of one that cannot be predicted, nothing."""
        for of_archives in predictions:
            self._examples[self.num_predicted].predictions = list(of_archives)
            self._texts[self.num_predicted] += [_folded(one.text) for one in of_archives]
            self._answers.update(one.text for one in of_archives)
            self.num_predicted += 1

    def choices(self) -> ExampleChoices:
        return ExampleChoices(
            gold=_few(self._golds) if self._has_gold else [],
            correctness=["correct", "wrong"] if self._has_gold else [],
            archive=list(self._archives) if len(self._archives) > 1 else [],
            models=[name for name in self._tests if self._has_gold or name == DISAGREE],
            sort=[name for name in ORDERS if len(self._archives) > 1 or name != MOST_DISAGREEMENT],
        )

    def find(self, query: ExamplesQuery) -> Examples:
        """
        # Raises

        `RequestError`
            If the query has what is not among the `choices`.
        """
        choices = self.choices()
        for name in "correctness", "archive", "models", "sort":
            value, allowed = getattr(query, name), getattr(choices, name)
            if value and value not in allowed:
                there_are = ", ".join(f'"{choice}"' for choice in allowed)
                raise RequestError(f'"{name}": there is no "{value}"; there is {there_are or "no choice here"}.', name)
        word = _folded(query.search)
        found = [
            one
            for one, texts in zip(self._examples, self._texts, strict=True)
            if self._is_wanted(one, texts, word, query)
        ]
        if query.sort:
            order = ORDERS[query.sort]
            # Those that are not predicted come last.
            keys = {
                one.number: (not one.predictions, [-key for key in order(one, query)] if one.predictions else [])
                for one in found
            }
            found.sort(key=lambda one: keys[one.number])
        start = query.start
        if query.item is not None:
            place = next((place for place, one in enumerate(found) if one.number == query.item), 0)
            start = place - place % query.count
        return Examples(
            found=len(found),
            start=start,
            examples=found[start : start + query.count],
            total=len(self),
            predicted=self.num_predicted,
            answers=_few(self._answers.copy()),
        )

    def _is_wanted(self, one: GivenExample, texts: Sequence[str], word: str, query: ExamplesQuery) -> bool:
        if query.gold and query.gold != (NO_GOLD if one.gold is None else one.gold):
            return False
        if query.models and not (one.predictions and self._tests[query.models](one)):
            return False
        if (query.predicted or query.correctness) and not any(
            query.predicted in ("", prediction.text)
            and (not query.correctness or prediction.is_right is (query.correctness == "correct"))
            for prediction in _chosen(one, query)
        ):
            return False
        return any(word in text for text in texts)

    def _model_tests(self) -> dict[str, Test]:
        """By their names, whether models disagree, or one is right and another wrong."""
        tests: dict[str, Test] = {}
        if len(self._archives) > 1:
            tests[DISAGREE] = lambda one: len({prediction.text for prediction in one.predictions}) > 1
        for right, wrong in permutations(range(len(self._archives)), 2):
            tests[f"{self._archives[right]} right, {self._archives[wrong]} wrong"] = _right_and_wrong(right, wrong)
        return tests


def _right_and_wrong(right: int, wrong: int) -> Test:
    return lambda one: one.predictions[right].is_right is True and one.predictions[wrong].is_right is False


def _chosen(one: GivenExample, query: ExamplesQuery) -> Sequence[ExamplePrediction]:
    return [prediction for prediction in one.predictions if query.archive in ("", prediction.name)]


def _confidence(one: GivenExample, query: ExamplesQuery) -> float:
    return _mean([prediction.probability or 0.0 for prediction in _chosen(one, query)])


def _disagreement(one: GivenExample) -> list[float]:
    """How many pairs of models answer differently; where as many do, how far their probabilities are apart."""
    differing = sum(first.text != second.text for first, second in combinations(one.predictions, 2))
    probabilities = [prediction.probability or 0.0 for prediction in one.predictions]
    return [differing, max(probabilities) - min(probabilities)]


def _sparsity(one: GivenExample, query: ExamplesQuery) -> float:
    # The posterior is not predicted: the first direction stands for it.
    return _mean(
        [
            prediction.zero_fractions.get(query.direction, next(iter(prediction.zero_fractions.values())))
            for prediction in _chosen(one, query)
        ]
    )


# Of each order, its name and by what the examples stand; the larger first.
ORDERS: dict[str, Callable[[GivenExample, ExamplesQuery], Sequence[float]]] = {
    "most confident first": lambda one, query: [_confidence(one, query)],
    "least confident first": lambda one, query: [-_confidence(one, query)],
    MOST_DISAGREEMENT: lambda one, query: _disagreement(one),
    "sparsest first": lambda one, query: [_sparsity(one, query)],
    "densest first": lambda one, query: [-_sparsity(one, query)],
}


def _few(answers: set[str]) -> list[str]:
    return sorted(answers) if len(answers) <= MAX_ANSWERS else []


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _folded(text: str) -> str:
    """As "Straße" and "STRASSE" are one word, and an é of one character and one of two."""
    return unicodedata.normalize("NFC", text).upper().lower().strip()
