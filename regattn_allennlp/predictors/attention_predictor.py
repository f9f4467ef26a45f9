import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple, Optional

import numpy as np
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import Batch, DatasetReader, Instance
from allennlp.models import Model
from allennlp.nn.util import move_to_device
from allennlp.predictors import Predictor

from regattn_allennlp.data.dataset_readers.source_dataset_reader import SourceDatasetReader
from regattn_allennlp.data.seen_words import seen_words
from regattn_allennlp.data.source_rows import is_unicode
from regattn_allennlp.modules.self_attention_record import RecordedLayer, recording_self_attention
from regattn_allennlp.predictors.self_attention import layer_of_item, layers_by_direction, texts_of
from regattn_allennlp.visualization.attention_map import attention_map


class Answer(NamedTuple):
    """What a model says of an item, in words, and how probable it holds that, if it says so."""

    text: str
    probability: Optional[float]


class AttentionPredictor(Predictor):
    """
    What the commands of this package ask of a predictor, whatever its task. It reads JSON lines and ignores keys that
    it does not know.

    Of each text, say "premise", a prediction has "premise_unknown", the positions of the words that the model does not
    know, and "premise_same_as", for each word the position of the first that is the same to it: see `SeenWords`.

    With `self_attention`, which may be set at any time, a prediction has "self_attention": by direction, such as
    "premise_to_premise", for each layer from the first on a dict with "name", where it is in the model; "tokens",
    "same_as" and "unknown" of the words, or of a transformer's word pieces; and "weights", for each head and each row
    the weights over all columns, which sum to 1.

    Where a line, or an instance of the dataset reader, has the task's `given_key`, say "target", the prediction has
    "given_target": what the model holds of that target, whether it would write it or not. It is a dict with

    - "log_prob", of the target's marginal probability, in nats;
    - "attention", the weights, which are the prior p(z) of a latent alignment;
    - "posterior", p(z | target), what a latent alignment makes of these once the target is known;
    - "approximate_posterior", what the alignment's inference network, if it has one, holds the posterior to be.

    See `LatentAlignment`. A target that is blank or null is none.

    What cannot be predicted is a ConfigurationError. The command `predict` names the line that it is in, and writes
    the predictions for the lines before it: see `compatibility.predict_command`.
    """

    # What every line must have, each with a text that is not empty.
    required_keys: ClassVar[tuple[str, ...]]

    # The text field whose words AllenNLP's attackers change unless they are told another; its gradients are
    # "grad_input_1". `None` where there is no text.
    attacked_field: ClassVar[Optional[str]]

    # The key of a given target in a line, which need not be there, and what an instance calls it. `None` where
    # nothing can be told of one.
    given_key: ClassVar[Optional[str]] = None
    given_field: ClassVar[Optional[str]] = None

    def __init__(
        self, model: Model, dataset_reader: DatasetReader, frozen: bool = True, self_attention: bool = False
    ) -> None:
        if not isinstance(self_attention, bool):
            raise ConfigurationError(f'"self_attention" must be true or false, but is {json.dumps(self_attention)}')
        if isinstance(dataset_reader, SourceDatasetReader):
            dataset_reader = dataset_reader.to_predict()
        super().__init__(model, dataset_reader, frozen)
        self.self_attention = self_attention

    def answer(self, prediction: JsonDict) -> Answer:
        raise NotImplementedError

    def attention_map(self, prediction: JsonDict, direction: str) -> JsonDict:
        """What is drawn of one of the model's `attention_directions`: see `visualization.attention_map`."""
        raise NotImplementedError

    def read_given(self, instances: list[Instance]) -> list[JsonDict]:
        """What the model holds of the targets of instances that have one each: what predictions have of them."""
        raise NotImplementedError

    def as_written(self, prediction: JsonDict, distribution: str = "prior") -> JsonDict:
        """
        The prediction as it would be if the model had written the target that was given, so that `answer` and
        `attention_map` tell of that.

        # Parameters

        distribution : `str`, optional (default = `"prior"`)
            Which weights are to be the attention: one that the model has, see `require_distribution`.

        # Raises

        `ConfigurationError`
            If no target was given, or one that the model does not know.
        """
        raise NotImplementedError

    def require_distribution(self, distribution: str, name: str) -> None:
        """
        Raises a ConfigurationError if the model, which is called by this name, has no such weights of a given target.
        """
        if distribution in self._model.given_distributions:
            return
        reason = 'it has no "latent_alignment" but "soft"'
        if "posterior" in self._model.given_distributions:
            reason = 'its "latent_alignment" has no inference network, as "variational" and "dirichlet" have'
        raise ConfigurationError(f'The model "{name}" has no {distribution.replace("_", " ")}: {reason}.')

    def _given_of(self, prediction: JsonDict) -> JsonDict:
        given = prediction.get(f"given_{self.given_key}")
        if given is None:
            raise ConfigurationError(f'it has no "{self.given_key}", whose weights are to be shown')
        return given

    def influence(self, instance: Instance) -> dict[str, list[float]]:
        """
        Gradient x input, to be compared with the attention: of each text by its name, for each of its words, what it
        adds to the log-probability of what the model says, to first order. See `interpret.gradient_times_input`.
        """
        raise ConfigurationError(f"{type(self).__name__} does not tell the influence of its inputs.")

    def _tensors(self, instances: list[Instance]) -> dict[str, Any]:
        """What the model's `forward` takes of them."""
        for instance in instances:
            self._dataset_reader.apply_token_indexers(instance)
        batch = Batch(instances)
        batch.index_instances(self._model.vocab)
        return move_to_device(batch.as_tensor_dict(), self._model._get_prediction_device())

    def self_attention_layers(self) -> dict[str, dict[str, int]]:
        """
        For each direction of self-attention that there is in this model, the numbers of heads by the layers' names,
        from the first layer on: {"premise_to_premise": {"_encoders.0._layers.0": 4}, "hypothesis_to_hypothesis": ...}
        """
        return self._model.self_attention_layers()

    def self_attention_map(
        self, prediction: JsonDict, direction: str, layer: int = -1, head: Optional[int] = None
    ) -> JsonDict:
        """
        What is drawn of self-attention, as `attention_map` makes it.

        # Parameters

        prediction : `JsonDict`
            Made while this predictor's `self_attention` was true.
        direction : `str`
            One of `self_attention_layers()`.
        layer : `int`, optional (default = the last)
            From 0 on.
        head : `int`, optional (default = the mean of all)
            From 0 on.
        """
        of_layer = prediction["self_attention"][direction][layer]
        weights = of_layer["weights"]
        words = {
            f"{side}_{key}": of_layer[key]
            for side in direction.split("_to_")
            for key in ("tokens", "same_as", "unknown")
        }
        words[f"{direction}_attention"] = np.mean(weights, axis=0).tolist() if head is None else weights[head]
        return attention_map(words, direction)

    def predict_instance(self, instance: Instance) -> JsonDict:
        return self._predictions([instance])[0]

    def predict_batch_instance(self, instances: list[Instance]) -> list[JsonDict]:
        return self._predictions(instances)

    def _predictions(self, instances: list[Instance]) -> list[JsonDict]:
        # Asked without the targets that are given, models tell what they would write.
        asked = [
            Instance({name: field for name, field in instance.fields.items() if name != self.given_field})
            for instance in instances
        ]
        with self._recording() as record:
            predictions = super().predict_batch_instance(asked)
        self._complete(asked, predictions, record)
        given = [number for number, instance in enumerate(instances) if self.given_field in instance.fields]
        if given:
            for number, read in zip(given, self.read_given([instances[number] for number in given]), strict=True):
                predictions[number][f"given_{self.given_key}"] = read
        return predictions

    def _recording(self) -> AbstractContextManager[Optional[list[RecordedLayer]]]:
        return recording_self_attention(self._model) if self.self_attention else nullcontext()

    def _complete(
        self, instances: list[Instance], predictions: list[JsonDict], record: Optional[list[RecordedLayer]]
    ) -> None:
        """Adds to the predictions what the model sees of the words and, if there is a record, its self-attention."""
        layers = None if record is None else layers_by_direction(self._model, record, len(instances))
        for number, (instance, prediction) in enumerate(zip(instances, predictions, strict=True)):
            texts = texts_of(instance)
            words = {}
            for name, text in texts.items():
                seen = seen_words(text, self._model.vocab)._asdict()
                prediction.update({f"{name}_{key}": value for key, value in seen.items()})
                words[name] = {"tokens": [token.text for token in text], **seen}
            if layers is not None:
                prediction["self_attention"] = {}
                for direction, of_direction in layers.items():
                    side, _ = direction.split("_to_")
                    attending = words.get(side) or self._named(prediction)
                    prediction["self_attention"][direction] = [
                        layer_of_item(layer, number, attending, texts.get(side)) for layer in of_direction
                    ]

    def _named(self, prediction: JsonDict) -> JsonDict:
        """What `layer_of_item` calls "words" where these are nodes or regions."""
        names = self.names(prediction)
        return {"tokens": names, "same_as": list(range(len(names))), "unknown": []}

    def names(self, prediction: JsonDict) -> list[str]:
        """Of a prediction's nodes or regions. Not asked for where only words attend."""
        raise NotImplementedError

    def check_input(self, inputs: Any) -> None:
        """Raises a ConfigurationError for what cannot be predicted."""
        wanted = " and ".join(f'"{key}"' for key in self.required_keys)
        if not isinstance(inputs, dict):
            raise ConfigurationError(f"a JSON object with {wanted} is wanted, not {inputs!r}")
        for key in self.required_keys:
            if key not in inputs:
                raise ConfigurationError(f'the key "{key}" is missing; the keys are {sorted(inputs)}')
            if not isinstance(inputs[key], str) or not inputs[key].strip():
                raise ConfigurationError(f'"{key}" must be a sentence, but is {inputs[key]!r}')
            _check_characters(key, inputs[key])
        given = inputs.get(self.given_key)
        if given is not None:
            if not isinstance(given, str):
                raise ConfigurationError(f'"{self.given_key}" must be a text, or not be there, but is {given!r}')
            _check_characters(self.given_key, given)

    def given(self, inputs: JsonDict) -> Optional[str]:
        """The target of an input that was checked, if it has one."""
        given = inputs.get(self.given_key)
        return given if given and given.strip() else None

    def load_line(self, line: str) -> JsonDict:
        inputs = super().load_line(line)
        self.check_input(inputs)
        return inputs

    def _json_to_instance(self, json_dict: JsonDict) -> Instance:
        self.check_input(json_dict)
        return self.to_instance(json_dict)

    def to_instance(self, inputs: JsonDict) -> Instance:
        """The instance of an input that was checked."""
        raise NotImplementedError


def key_of(distribution: str) -> str:
    """What the weights of one of the `DISTRIBUTIONS` are called in what predictions tell of a given target."""
    return "attention" if distribution == "prior" else distribution


def _check_characters(key: Optional[str], text: str) -> None:
    if not is_unicode(text):
        raise ConfigurationError(f'"{key}" has half of a surrogate pair, which is not a character: {text!r}')
