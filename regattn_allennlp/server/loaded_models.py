from collections.abc import Mapping, Sequence

from allennlp.common.util import JsonDict
from allennlp.data import Instance
from torch import Tensor

from regattn_allennlp.modules.attention import RegularizedAttention
from regattn_allennlp.operators import RegularizedMax
from regattn_allennlp.predictors.archives import NamedPredictor
from regattn_allennlp.server.schema import (
    Archive,
    ArchiveAttention,
    AttentionAnswer,
    AttentionMap,
    AttentionRequest,
    Parameter,
)
from regattn_allennlp.visualization.attention_map import attention_map

SENTENCES = ("premise", "hypothesis")

# Longer sentences make maps that nobody reads, and answers of megabytes.
MAX_CHARACTERS = 1000
MAX_TOKENS = 100


class RequestError(ValueError):
    """A request that cannot be answered; the message says what would be right."""


class LoadedModels:
    """
    The models that a server answers with. `predict` is not for several threads at once: a request's regularization is
    put into the models while they predict.

    # Parameters

    predictors : `Sequence[NamedPredictor]`
    max_characters, max_tokens : `int`, optional (default = 1000 and 100)
        How long a sentence may be.
    """

    def __init__(
        self,
        predictors: Sequence[NamedPredictor],
        max_characters: int = MAX_CHARACTERS,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self._predictors = {named.name: named.predictor for named in predictors}
        # As trained, whatever the request under way has put in their places.
        self._operators = {name: self._attention(name).regularized_max for name in self._predictors}
        self.max_characters = max_characters
        self.max_tokens = max_tokens

    def archives(self) -> list[Archive]:
        return [
            Archive(name=name, operator=_registered_name(operator), parameters=_parameters(operator))
            for name, operator in self._operators.items()
        ]

    def check(self, request: AttentionRequest) -> None:
        """Raises a RequestError for what can be told without the models."""
        for key in SENTENCES:
            sentence = getattr(request, key)
            if not sentence.strip():
                raise RequestError(f'"{key}" is blank; write a sentence.')
            if any("\ud800" <= character <= "\udfff" for character in sentence):
                raise RequestError(
                    f'"{key}" has half of a surrogate pair (\\ud800 to \\udfff), which is no character.'
                )
            if len(sentence) > self.max_characters:
                raise RequestError(
                    f'"{key}" has {len(sentence):,} characters; no more than {self.max_characters:,} are taken.'
                )
        for name, values in request.regularization.items():
            if name not in self._predictors:
                raise RequestError(
                    f'"regularization": there is no archive "{name}"; there are {self._archive_names()}.'
                )
            try:
                self._operators[name].with_regularization(**values)
            except ValueError as error:
                raise RequestError(f'"regularization" of "{name}": {error}.') from error

    def predict(self, request: AttentionRequest) -> AttentionAnswer:
        """The answer to a request that `check` has let pass; a RequestError if a sentence has too many tokens."""
        instances = {name: self._instance(name, request) for name in self._predictors}
        return AttentionAnswer(
            archives=[
                self._predict(name, instance, request.regularization.get(name, {}))
                for name, instance in instances.items()
            ]
        )

    def _instance(self, name: str, request: AttentionRequest) -> Instance:
        instance = self._predictors[name]._json_to_instance(request.model_dump(include=set(SENTENCES)))
        for key in SENTENCES:
            length = len(instance[key])
            if length > self.max_tokens:
                raise RequestError(
                    f'"{key}" has {length:,} words and punctuation marks; no more than {self.max_tokens:,} are taken.'
                )
        return instance

    def _predict(self, name: str, instance: Instance, values: Mapping[str, float]) -> ArchiveAttention:
        operator = self._operators[name].with_regularization(**values)
        attention = self._attention(name)
        attention.regularized_max = operator
        try:
            prediction = self._predictors[name].predict_instance(instance)
        finally:
            attention.regularized_max = self._operators[name]
        return ArchiveAttention(
            name=name,
            label=prediction["label"],
            probabilities=prediction["probabilities"],
            regularization=_values(operator),
            premise_to_hypothesis=_map(prediction, "premise_to_hypothesis"),
            hypothesis_to_premise=_map(prediction, "hypothesis_to_premise"),
        )

    def _attention(self, name: str) -> RegularizedAttention:
        return self._predictors[name]._model.attention

    def _archive_names(self) -> str:
        return ", ".join(f'"{name}"' for name in self._predictors)


def _values(operator: RegularizedMax) -> dict[str, float]:
    values = {name: operator.get_regularization(name) for name in operator.regularization_names()}
    return {name: value.item() if isinstance(value, Tensor) else float(value) for name, value in values.items()}


def _parameters(operator: RegularizedMax) -> list[Parameter]:
    parameters = []
    for name, trained in _values(operator).items():
        lower_bound = operator.lower_bounds[name]
        parameters.append(
            Parameter(
                name=name,
                trained=trained,
                lower_bound=lower_bound,
                may_be_lower_bound=_accepts(operator, name, lower_bound),
            )
        )
    return parameters


def _accepts(operator: RegularizedMax, name: str, value: float) -> bool:
    try:
        operator.with_regularization(**{name: value})
    except ValueError:
        return False
    return True


def _registered_name(operator: RegularizedMax) -> str:
    names = (name for name in RegularizedMax.list_available() if RegularizedMax.by_name(name) is type(operator))
    return next(names, type(operator).__name__)


def _map(prediction: JsonDict, direction: str) -> AttentionMap:
    drawn = attention_map(prediction, direction)
    return AttentionMap(
        rows=drawn["rows"],
        columns=drawn["columns"],
        weights=drawn["weights"],
        groups=drawn["groups"],
        unknown_rows=drawn["unknownRows"],
        unknown_columns=drawn["unknownColumns"],
        right_to_left=drawn["rightToLeft"],
    )
