import json
from typing import Any

from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import DatasetReader, Instance
from allennlp.models import Model
from allennlp.predictors import Predictor

# How much of a bad line an error shows.
SHOWN_CHARACTERS = 200


@Predictor.register("entailment")
class EntailmentPredictor(Predictor):
    """
    Predicts from JSON lines with the keys "premise" and "hypothesis"; other keys are ignored. Each line of output has
    "label"; "probabilities" by label name; "premise_tokens" and "hypothesis_tokens"; and
    "premise_to_hypothesis_attention" (a list of weights over the hypothesis for every premise token) and
    "hypothesis_to_premise_attention".

    A line that cannot be predicted stops the run with a ConfigurationError that names it. The predictions for the
    lines before it are written first, also those of the same batch.

    Registered as a `Predictor` with name "entailment".
    """

    def __init__(self, model: Model, dataset_reader: DatasetReader, frozen: bool = True) -> None:
        super().__init__(model, dataset_reader, frozen)
        self._num_lines = 0

    def predict(self, premise: str, hypothesis: str) -> JsonDict:
        """The prediction for one pair of sentences."""
        return self.predict_json({"premise": premise, "hypothesis": hypothesis})

    def load_line(self, line: str) -> JsonDict:
        """
        The pair of one line. AllenNLP reads all lines of a batch before it predicts the first, and an exception here
        would lose those: for a line that is no pair, what is returned says so, and `dump_line` raises it.
        """
        self._num_lines += 1
        try:
            pair = json.loads(line)
            _check_pair(pair)
        except (ValueError, ConfigurationError) as error:
            shown = line.strip()[:SHOWN_CHARACTERS]
            return BadLine(error=f"input line {self._num_lines} (blank lines not counted): {error}\n  {shown}")
        return pair

    def predict_json(self, inputs: JsonDict) -> JsonDict:
        return inputs if isinstance(inputs, BadLine) else super().predict_json(inputs)

    def predict_batch_json(self, inputs: list[JsonDict]) -> list[JsonDict]:
        pairs = [pair for pair in inputs if not isinstance(pair, BadLine)]
        predictions = iter(super().predict_batch_json(pairs) if pairs else [])
        return [pair if isinstance(pair, BadLine) else next(predictions) for pair in inputs]

    def dump_line(self, outputs: JsonDict) -> str:
        if isinstance(outputs, BadLine):
            raise ConfigurationError(outputs["error"])
        return super().dump_line(outputs)

    def _json_to_instance(self, json_dict: JsonDict) -> Instance:
        _check_pair(json_dict)
        return self._dataset_reader.text_to_instance(json_dict["premise"], json_dict["hypothesis"])


class BadLine(dict):
    """Stands for an input line that holds no pair of sentences, in its place among those that do."""


def _check_pair(pair: Any) -> None:
    if not isinstance(pair, dict):
        raise ConfigurationError(f'a JSON object with "premise" and "hypothesis" is wanted, not {pair!r}')
    for key in ("premise", "hypothesis"):
        if key not in pair:
            raise ConfigurationError(f'the key "{key}" is missing; the keys are {sorted(pair)}')
        if not isinstance(pair[key], str) or not pair[key].strip():
            raise ConfigurationError(f'"{key}" must be a sentence, but is {pair[key]!r}')
