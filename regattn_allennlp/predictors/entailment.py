from allennlp.common.util import JsonDict
from allennlp.data import Instance
from allennlp.predictors import Predictor

from regattn_allennlp.predictors.attention_predictor import Answer, AttentionPredictor
from regattn_allennlp.visualization import attention_map


@Predictor.register("entailment")
class EntailmentPredictor(AttentionPredictor):
    """
    Predicts from JSON lines with the keys "premise" and "hypothesis". Each line of output has
    "label"; "probabilities" by label name; "premise_tokens" and "hypothesis_tokens"; and
    "premise_to_hypothesis_attention" (a list of weights over the hypothesis for every premise token) and
    "hypothesis_to_premise_attention".

    Registered as a `Predictor` with name "entailment".
    """

    required_keys = ("premise", "hypothesis")

    def predict(self, premise: str, hypothesis: str) -> JsonDict:
        """The prediction for one pair of sentences."""
        return self.predict_json({"premise": premise, "hypothesis": hypothesis})

    def answer(self, prediction: JsonDict) -> Answer:
        return Answer(prediction["label"], prediction["probabilities"][prediction["label"]])

    def attention_map(self, prediction: JsonDict, direction: str) -> JsonDict:
        return attention_map(prediction, direction)

    def to_instance(self, inputs: JsonDict) -> Instance:
        return self._dataset_reader.text_to_instance(inputs["premise"], inputs["hypothesis"])
