import math

from allennlp.common.util import JsonDict
from allennlp.data import Instance
from allennlp.predictors import Predictor

from regattn_allennlp.predictors.attention_predictor import Answer, AttentionPredictor
from regattn_allennlp.visualization import attention_map


@Predictor.register("sequence_pairs")
class SequencePairsPredictor(AttentionPredictor):
    """
    Predicts from JSON lines with the key "source", a text. Each line of output has "source_tokens" and "predictions",
    from the best on, as many as the model's `num_best`. Each of these has "text", "tokens", "log_prob" (of the whole
    text, in nats) and "attention": a list of weights over the source's tokens for every token.

    A "target" in a line is ignored, so files of pairs can be predicted as they are.

    Registered as a `Predictor` with name "sequence_pairs".
    """

    required_keys = ("source",)

    def predict(self, source: str) -> JsonDict:
        """The predictions for one text."""
        return self.predict_json({"source": source})

    def answer(self, prediction: JsonDict) -> Answer:
        best = prediction["predictions"][0]
        return Answer(best["text"], math.exp(best["log_prob"]))

    def attention_map(self, prediction: JsonDict, direction: str) -> JsonDict:
        best = prediction["predictions"][0]
        return attention_map(
            {
                "source_tokens": prediction["source_tokens"],
                "target_tokens": best["tokens"],
                "target_to_source_attention": best["attention"],
            },
            direction,
        )

    def to_instance(self, inputs: JsonDict) -> Instance:
        return self._dataset_reader.text_to_instance(inputs["source"])

    def predict_instance(self, instance: Instance) -> JsonDict:
        return _shown(super().predict_instance(instance))

    def predict_batch_instance(self, instances: list[Instance]) -> list[JsonDict]:
        return [_shown(prediction) for prediction in super().predict_batch_instance(instances)]


def _shown(prediction: JsonDict) -> JsonDict:
    return {key: prediction[key] for key in ("source_tokens", "predictions")}
