import json
from typing import Any, ClassVar, NamedTuple, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import DatasetReader, Instance
from allennlp.models import Model
from allennlp.predictors import Predictor

# How much of a bad line an error shows.
SHOWN_CHARACTERS = 200


class Answer(NamedTuple):
    """What a model says of an item, in words, and how probable it holds that, if it says so."""

    text: str
    probability: Optional[float]


class AttentionPredictor(Predictor):
    """
    What the commands of this package ask of a predictor, whatever its task. It reads JSON lines and ignores keys that
    it does not know.

    A line that cannot be predicted stops the run with a ConfigurationError that names it. The predictions for the
    lines before it are written first, also those of the same batch.
    """

    # What every line must have, each with a text that is not empty.
    required_keys: ClassVar[tuple[str, ...]]

    def __init__(self, model: Model, dataset_reader: DatasetReader, frozen: bool = True) -> None:
        super().__init__(model, dataset_reader, frozen)
        self._num_lines = 0

    def answer(self, prediction: JsonDict) -> Answer:
        raise NotImplementedError

    def attention_map(self, prediction: JsonDict, direction: str) -> JsonDict:
        """What is drawn of one of the model's `attention_directions`: see `visualization.attention_map`."""
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

    def load_line(self, line: str) -> JsonDict:
        """
        The input of one line. AllenNLP reads all lines of a batch before it predicts the first, and an exception here
        would lose those: for a line that is no input, what is returned says so, and `dump_line` raises it.
        """
        self._num_lines += 1
        try:
            inputs = json.loads(line)
            self.check_input(inputs)
        except (ValueError, ConfigurationError) as error:
            shown = line.strip()[:SHOWN_CHARACTERS]
            return BadLine(error=f"input line {self._num_lines} (blank lines not counted): {error}\n  {shown}")
        return inputs

    def predict_json(self, inputs: JsonDict) -> JsonDict:
        return inputs if isinstance(inputs, BadLine) else super().predict_json(inputs)

    def predict_batch_json(self, inputs: list[JsonDict]) -> list[JsonDict]:
        good = [one for one in inputs if not isinstance(one, BadLine)]
        predictions = iter(super().predict_batch_json(good) if good else [])
        return [one if isinstance(one, BadLine) else next(predictions) for one in inputs]

    def dump_line(self, outputs: JsonDict) -> str:
        if isinstance(outputs, BadLine):
            raise ConfigurationError(outputs["error"])
        return super().dump_line(outputs)

    def _json_to_instance(self, json_dict: JsonDict) -> Instance:
        self.check_input(json_dict)
        return self.to_instance(json_dict)

    def to_instance(self, inputs: JsonDict) -> Instance:
        """The instance of an input that was checked."""
        raise NotImplementedError


class BadLine(dict):
    """Stands for a line that holds no input, in its place among those that do."""
