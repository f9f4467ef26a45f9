import math

from allennlp.common.util import END_SYMBOL, START_SYMBOL, JsonDict
from allennlp.data import Instance, Token
from allennlp.data.fields import MetadataField, TextField
from allennlp.predictors import Predictor

from regattn_allennlp.predictors.attention_predictor import Answer, AttentionPredictor
from regattn_allennlp.visualization import attention_map


@Predictor.register("sequence_pairs")
class SequencePairsPredictor(AttentionPredictor):
    """
    Predicts from JSON lines with the key "source", a text. Each line of output has "source_tokens" and "predictions",
    from the best on, as many as the model's `num_best`. Each of these has "text", "tokens", "log_prob" (of the whole
    text, in nats) and "attention": a list of weights over the source's tokens for every token. `AttentionPredictor`
    adds what it tells of the source.

    A "target" in a line is ignored, so files of pairs can be predicted as they are.

    Registered as a `Predictor` with name "sequence_pairs".
    """

    required_keys = ("source",)
    attacked_field = "source_tokens"

    def predict(self, source: str) -> JsonDict:
        """The predictions for one text."""
        return self.predict_json({"source": source})

    def answer(self, prediction: JsonDict) -> Answer:
        best = prediction["predictions"][0]
        return Answer(best["text"], math.exp(best["log_prob"]))

    def attention_map(self, prediction: JsonDict, direction: str) -> JsonDict:
        best = prediction["predictions"][0]
        unknown = [position for position, token in enumerate(best["tokens"]) if token == self._model.vocab._oov_token]
        target = {
            "target_tokens": best["tokens"],
            "target_unknown": unknown,
            "target_to_source_attention": best["attention"],
        }
        return attention_map({**prediction, **target}, direction)

    def to_instance(self, inputs: JsonDict) -> Instance:
        return self._dataset_reader.text_to_instance(inputs["source"])

    def predict_instance(self, instance: Instance) -> JsonDict:
        return _shown(super().predict_instance(instance))

    def predict_batch_instance(self, instances: list[Instance]) -> list[JsonDict]:
        return [_shown(prediction) for prediction in super().predict_batch_instance(instances)]

    def predictions_to_labeled_instances(self, instance: Instance, outputs: JsonDict) -> list[Instance]:
        """A copy of the instance with the best of the "predictions" as its target: for AllenNLP's interpreters."""
        if "predictions" not in outputs:  # the model makes them only where there is no target
            source = Instance({name: instance[name] for name in ("source_tokens", "metadata")})
            outputs = self._model.forward_on_instance(source)
        best = outputs["predictions"][0]
        labeled = instance.duplicate()
        target = [Token(START_SYMBOL), *map(Token, best["tokens"]), Token(END_SYMBOL)]
        labeled.add_field("target_tokens", TextField(target))
        metadata = {**instance["metadata"].metadata, "target": best["text"], "target_tokens": best["tokens"]}
        labeled.add_field("metadata", MetadataField(metadata))
        labeled.indexed = False  # the target is not
        return [labeled]


def _shown(prediction: JsonDict) -> JsonDict:
    shown = ("source_tokens", "source_same_as", "source_unknown", "predictions", "self_attention")
    return {key: prediction[key] for key in shown if key in prediction}
