from typing import Any, ClassVar, NamedTuple, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import Batch, DatasetReader, Instance
from allennlp.models import Model
from allennlp.nn.util import move_to_device
from allennlp.predictors import Predictor

from regattn_allennlp.data.dataset_readers.source_dataset_reader import SourceDatasetReader
from regattn_allennlp.data.source_rows import is_unicode


class Answer(NamedTuple):
    """What a model says of an item, in words, and how probable it holds that, if it says so."""

    text: str
    probability: Optional[float]


class AttentionPredictor(Predictor):
    """
    What the commands of this package ask of a predictor, whatever its task. It reads JSON lines and ignores keys that
    it does not know.

    What cannot be predicted is a ConfigurationError. The command `predict` names the line that it is in, and writes
    the predictions for the lines before it: see `compatibility.predict_command`.
    """

    # What every line must have, each with a text that is not empty.
    required_keys: ClassVar[tuple[str, ...]]

    # The text field whose words AllenNLP's attackers change unless they are told another; its gradients are
    # "grad_input_1". `None` where there is no text.
    attacked_field: ClassVar[Optional[str]]

    def __init__(self, model: Model, dataset_reader: DatasetReader, frozen: bool = True) -> None:
        if isinstance(dataset_reader, SourceDatasetReader):
            dataset_reader = dataset_reader.to_predict()
        super().__init__(model, dataset_reader, frozen)

    def answer(self, prediction: JsonDict) -> Answer:
        raise NotImplementedError

    def attention_map(self, prediction: JsonDict, direction: str) -> JsonDict:
        """What is drawn of one of the model's `attention_directions`: see `visualization.attention_map`."""
        raise NotImplementedError

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
            if not is_unicode(inputs[key]):
                raise ConfigurationError(
                    f'"{key}" has half of a surrogate pair, which is not a character: {inputs[key]!r}'
                )

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
