import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional
from urllib.parse import quote

import numpy as np
from allennlp.common.checks import ConfigurationError
from allennlp.common.registrable import Registrable
from allennlp.common.util import JsonDict
from allennlp.data import Instance
from allennlp.modules.attention import Attention
from pydantic import ValidationError
from torch import Tensor

from regattn_allennlp.data.example import Example
from regattn_allennlp.modules.attention import RegularizedAttention
from regattn_allennlp.operators import RegularizedMax
from regattn_allennlp.predictors.archives import NamedPredictor
from regattn_allennlp.server.given_examples import GivenExamples
from regattn_allennlp.server.schema import (
    Archive,
    ArchiveAnswer,
    Archives,
    AttentionAnswer,
    AttentionMap,
    AttentionRequest,
    ExamplePrediction,
    GivenExample,
    Parameter,
    Picture,
    ServedTask,
    View,
)
from regattn_allennlp.server.tasks import TASKS, RequestError
from regattn_allennlp.server.tasks.task import IMAGE_ADDRESS, put_back

# Longer texts make maps that nobody reads, and answers of megabytes.
MAX_CHARACTERS = 1000
MAX_TOKENS = 100

# Of more examples the rest is not predicted: they would keep the models busy for long.
MAX_PREDICTED_EXAMPLES = 10_000

logger = logging.getLogger(__name__)

EXPLANATIONS = {
    "gamma": "How much regularization there is. Larger: more even weights, on more words. Smaller: few words, or one, "
    "get all the weight.",
    "lam": "How strongly weights are made equal: by fusedmax of words side by side, by oscarmax of any. At 0 it is "
    "sparsemax.",
    "alpha": "How sparse the weights are. At 1 it is softmax, with no zeros; at 2 it is sparsemax; beyond, there are "
    "more zeros still.",
}


class LoadedModels:
    """
    The models that a server answers with, all of one task. `predict` is not for several threads at once: a request's
    regularization is put into the models while they predict.

    # Parameters

    predictors : `Sequence[NamedPredictor]`
    max_characters, max_tokens : `int`, optional (default = 1000 and 100)
        How long a text may be.
    examples : `Sequence[Example]`, optional (default = none)
        What the page offers to try.
    """

    def __init__(
        self,
        predictors: Sequence[NamedPredictor],
        max_characters: int = MAX_CHARACTERS,
        max_tokens: int = MAX_TOKENS,
        examples: Sequence[Example] = (),
    ) -> None:
        self._predictors = {named.name: named.predictor for named in predictors}
        self.task = TASKS[predictors[0].predictor._model.default_predictor](list(self._predictors.values()))
        # As trained, whatever the request under way has put in their places. AllenNLP's own attentions have none.
        self._operators = {
            name: attention.regularized_max
            for name in self._predictors
            if isinstance(attention := self._attention(name), RegularizedAttention)
        }
        self.max_characters = max_characters
        self.max_tokens = max_tokens
        self.examples = GivenExamples(examples, list(self._predictors))

    def warm_up(self) -> None:
        """The first prediction compiles the operators and their gradients, for seconds: before anyone waits for it."""
        self.predict(self.task.warm_up_request().model_copy(update={"influence": True}))

    def archives(self) -> Archives:
        task = self.task
        return Archives(
            task=ServedTask(name=task.name, subject=task.subject, fields=[*task.fields], views=[*task.views]),
            archives=[
                Archive(
                    name=name,
                    operator=self._operator_name(name),
                    parameters=_parameters(self._operators[name]) if name in self._operators else [],
                    self_attention=self._self_attention_heads(name),
                )
                for name in self._predictors
            ],
            max_characters=self.max_characters,
            max_tokens=self.max_tokens,
            choices=self.examples.choices(),
        )

    def predict_examples(self, size: int) -> int:
        """
        Asks the models, as they were trained, about the next examples, no more than `size`; not for several threads at
        once either. Returns how many that were; 0 if none is left, or `MAX_PREDICTED_EXAMPLES` are predicted.
        """
        batch = self.examples.next(min(size, MAX_PREDICTED_EXAMPLES - self.examples.num_predicted))
        possible, instances = [], []
        for example in batch:
            try:
                instances.append(self._instances(example))
                possible.append(example)
            except (RequestError, ValidationError):
                pass  # who chooses it on the page is told what is wrong with it
        predictions: dict[int, list[ExamplePrediction]] = {example.number: [] for example in batch}
        try:
            of_archives = [
                self._predict_examples(name, possible, [one[name] for one in instances]) if possible else []
                for name in self._predictors
            ]
        except Exception:  # such as out of memory: the page is right without them
            logger.exception("Examples %s cannot be predicted.", [example.number for example in possible])
        else:
            for example, *of_example in zip(possible, *of_archives, strict=True):
                predictions[example.number] = of_example
        self.examples.add(predictions.values())
        return len(batch)

    def _instances(self, example: GivenExample) -> dict[str, Instance]:
        given = {field.name: example.inputs.get(field.name) for field in self.task.fields}
        request = self.task.request.model_validate(
            {name: str(value) for name, value in given.items() if value is not None}
        )
        self.check(request)
        return {name: self._instance(name, request) for name in self._predictors}

    def _predict_examples(
        self, name: str, examples: Sequence[GivenExample], instances: list[Instance]
    ) -> list[ExamplePrediction]:
        predictor = self._predictors[name]
        of_examples = []
        for example, prediction in zip(examples, predictor.predict_batch_instance(instances), strict=True):
            text, probability = predictor.answer(prediction)
            of_examples.append(
                ExamplePrediction(
                    name=name,
                    text=text,
                    probability=probability,
                    is_right=None if example.gold is None else text == example.gold,
                    zero_fractions={
                        direction: np.mean(np.array(predictor.attention_map(prediction, direction)["weights"]) == 0)
                        for direction in predictor._model.attention_directions
                    },
                )
            )
        return of_examples

    def picture_of(self, image_id: str) -> Optional[Path]:
        """Where an image that the dataset reader knows is."""
        reader = next(iter(self._predictors.values()))._dataset_reader
        path = reader.picture_of(image_id) if hasattr(reader, "picture_of") else None
        return None if path is None else Path(path)

    def check(self, request: AttentionRequest) -> None:
        """Raises a RequestError for what can be told without the models."""
        for field in self.task.fields:
            text = getattr(request, field.name)
            if text is None and field.is_optional:
                continue
            if not text.strip():
                raise RequestError(f'"{field.name}" is blank; write a sentence.', field.name)
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise RequestError(
                    f'"{field.name}" has half of a surrogate pair (\\ud800 to \\udfff), which is no character.',
                    field.name,
                )
            if len(text) > self.max_characters:
                raise RequestError(
                    f'"{field.name}" has {len(text):,} characters; no more than {self.max_characters:,} are taken.',
                    field.name,
                )
        if request.self_attention is not None:
            layers = {
                f"layer {layer} of {direction}"
                for name in self._predictors
                for direction, heads in self._self_attention_heads(name).items()
                for layer in range(len(heads))
            }
            wanted = f"layer {request.self_attention.layer} of {request.self_attention.direction}"
            if wanted not in layers:
                raise RequestError(
                    f'"self_attention": no archive has {wanted}; there is {", ".join(sorted(layers)) or "none"}.'
                )
        for name, values in request.regularization.items():
            if name not in self._predictors:
                raise RequestError(
                    f'"regularization": there is no archive "{name}"; there are {_quoted(self._predictors)}.'
                )
            if name not in self._operators:
                raise RequestError(
                    f'"regularization" of "{name}": its attention, {self._operator_name(name)}, has none.'
                )
            try:
                self._operators[name].with_regularization(**values)
            except ValueError as error:
                raise RequestError(f'"regularization" of "{name}": {error}.') from error

    def predict(self, request: AttentionRequest) -> AttentionAnswer[Any]:
        """
        The answer to a request that `check` has let pass; a RequestError if a text has too many tokens, or what is to
        be taken out is not there.
        """
        instances = {name: self._instance(name, request) for name in self._predictors}
        words = {name: self.task.words(instance) for name, instance in instances.items()}
        without = self._without(request, list(words.values()))
        return AttentionAnswer[self.task.answer](  # type: ignore[name-defined]
            archives=[
                self._predict(name, instance, request, words[name], without) for name, instance in instances.items()
            ]
        )

    def _instance(self, name: str, request: AttentionRequest) -> Instance:
        try:
            instance = self.task.instance(self._predictors[name], request)
        except ConfigurationError as error:
            raise RequestError(f"{error.message}.") from error
        for text, words in self.task.words(instance).items():
            if text in self.task.texts and len(words) > self.max_tokens:
                raise RequestError(
                    f'"{text}" has {len(words):,} words and punctuation marks; no more than {self.max_tokens:,} are '
                    "taken.",
                    text,
                )
        return instance

    def _without(self, request: AttentionRequest, words: Sequence[Mapping[str, list[str]]]) -> dict[str, set[int]]:
        """What is to be taken out of each text: the positions mean the same words to all archives."""
        without = {}
        for text, positions in request.without.items():
            if text not in words[0]:
                raise RequestError(f'"without": there is no "{text}"; there are {_quoted(words[0])}.')
            if any(of_archive[text] != words[0][text] for of_archive in words):
                raise RequestError(
                    f'"without": the archives split "{text}" into different words, so none can be told.'
                )
            length = len(words[0][text])
            if not all(position < length for position in positions):
                raise RequestError(f'"without": "{text}" has {length} words, from 0, but no number {max(positions)}.')
            if len(set(positions)) == length:
                raise RequestError(f'"without": nothing of "{text}" is left; leave a word in.')
            without[text] = set(positions)
        return without

    def _predict(
        self,
        name: str,
        instance: Instance,
        request: AttentionRequest,
        words: dict[str, list[str]],
        without: Mapping[str, set[int]],
    ) -> ArchiveAnswer:
        task, predictor, operator = self.task, self._predictors[name], self._operators.get(name)
        for text, positions in without.items():
            if positions:
                task.take_out(instance, text, positions)
        attention = self._attention(name)
        if operator is not None:
            operator = operator.with_regularization(**request.regularization.get(name, {}))
            attention.regularized_max = operator
        try:
            answer = task.predict(predictor, instance, request)
            influence = task.influence(predictor, instance, request) if request.influence else None
            self_attention = self._self_attention(name, instance, request)
        finally:
            if operator is not None:
                attention.regularized_max = self._operators[name]

        removed = {text: positions for text, positions in without.items() if text in task.texts}
        if influence is not None:
            for text, positions in removed.items():
                of_words = iter(influence[text])
                influence[text] = [0.0 if place in positions else next(of_words) for place in range(len(words[text]))]
        for part in (answer, *answer.get("texts", ())):
            for view in task.views:
                if view.name in part:
                    whole = part[view.name]
                    if task.map_has_words:
                        whole = put_back(whole, view, words, removed)
                    part[view.name] = _map(whole, request)
        return task.answer(
            name=name,
            regularization={} if operator is None else _values(operator),
            words=words,
            influence=influence,
            self_attention=self_attention,
            **answer,
        )

    def _self_attention_heads(self, name: str) -> dict[str, list[int]]:
        layers = self._predictors[name].self_attention_layers()
        return {direction: list(heads.values()) for direction, heads in layers.items()}

    def _self_attention(
        self, name: str, instance: Instance, request: AttentionRequest
    ) -> Optional[list[AttentionMap]]:
        wanted, predictor = request.self_attention, self._predictors[name]
        heads = [] if wanted is None else self._self_attention_heads(name).get(wanted.direction, [])
        if wanted is None or wanted.layer >= len(heads):
            return None
        predictor.self_attention = True
        try:
            prediction = predictor.predict_instance(instance)
        finally:
            predictor.self_attention = False
        return [
            _map(predictor.self_attention_map(prediction, wanted.direction, wanted.layer, head), request)
            for head in (None, *range(heads[wanted.layer]))
        ]

    def figure_maps(self, answer: AttentionAnswer[Any], picture: Picture) -> tuple[list[str], list[JsonDict]]:
        """What `attention_figure` takes: the titles, and the maps of the archives that have the picture's view."""
        view = next((view for view in self.task.views if view.name == picture.view), None)
        if view is None:
            names = _quoted([view.name for view in self.task.views])
            raise RequestError(f'"view": there is no "{picture.view}"; there are {names}.')
        titles, maps = [], []
        for one in answer.archives:
            part = self.task.part(one, picture.text)
            drawn: Optional[AttentionMap] = getattr(part, view.name)
            if drawn is not None:
                titles.append(f"{one.name}\n{self.task.title(one, picture.text)}")
                maps.append(_drawn(drawn, view, self.picture_of(getattr(picture, "image_id", ""))))
        if not maps:
            raise RequestError(f'"view": this request has no {view.title}.')
        return titles, maps

    def _attention(self, name: str) -> Attention:
        return self._predictors[name]._model.attention

    def _operator_name(self, name: str) -> str:
        operator = self._operators.get(name)
        if operator is None:
            return _registered_name(self._attention(name), Attention)
        return _registered_name(operator, RegularizedMax)


def _map(one: JsonDict, request: AttentionRequest) -> AttentionMap:
    """What goes over the wire of what `visualization.attention_map` makes."""
    return AttentionMap(
        rows=one["rows"],
        columns=one["columns"],
        weights=one["weights"],
        groups=one["groups"],
        unknown_rows=one["unknownRows"],
        unknown_columns=one["unknownColumns"],
        right_to_left=one["rightToLeft"],
        boxes=one.get("boxes"),
        # Where it lies on this machine is nobody's business.
        image=f"{IMAGE_ADDRESS}{quote(request.image_id, safe='')}" if one.get("image") else None,  # type: ignore[attr-defined]
    )


def _drawn(one: AttentionMap, view: View, image: Optional[Path]) -> JsonDict:
    """The way back, for pictures."""
    return {
        **one.model_dump(include={"rows", "columns", "weights", "groups", "boxes"}),
        "unknownRows": one.unknown_rows,
        "unknownColumns": one.unknown_columns,
        "rightToLeft": one.right_to_left,
        "rowTitle": view.rows,
        "columnTitle": view.columns,
        "image": str(image) if one.image else None,
    }


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
                explanation=EXPLANATIONS[name],
            )
        )
    return parameters


def _accepts(operator: RegularizedMax, name: str, value: float) -> bool:
    try:
        operator.with_regularization(**{name: value})
    except ValueError:
        return False
    return True


def _registered_name(thing: Any, base: type[Registrable]) -> str:
    names = (name for name in base.list_available() if base.by_name(name) is type(thing))
    return next(names, type(thing).__name__)


def _quoted(names: Collection[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
