import numpy as np
import torch
from allennlp.common.util import JsonDict
from allennlp.data import Instance
from allennlp.data.fields import LabelField
from allennlp.predictors import Predictor

from regattn_allennlp.interpret.gradient_times_input import gradient_times_input
from regattn_allennlp.predictors.attention_predictor import Answer, AttentionPredictor
from regattn_allennlp.visualization import attention_map


@Predictor.register("entailment")
class EntailmentPredictor(AttentionPredictor):
    """
    Predicts from JSON lines with the keys "premise" and "hypothesis". Each line of output has
    "label"; "probabilities" by label name; "premise_tokens" and "hypothesis_tokens"; and
    "premise_to_hypothesis_attention" (a list of weights over the hypothesis for every premise token) and
    "hypothesis_to_premise_attention"; and what `AttentionPredictor` adds.

    Registered as a `Predictor` with name "entailment".
    """

    required_keys = ("premise", "hypothesis")
    attacked_field = "hypothesis"

    def predict(self, premise: str, hypothesis: str) -> JsonDict:
        """The prediction for one pair of sentences."""
        return self.predict_json({"premise": premise, "hypothesis": hypothesis})

    def answer(self, prediction: JsonDict) -> Answer:
        return Answer(prediction["label"], prediction["probabilities"][prediction["label"]])

    def attention_map(self, prediction: JsonDict, direction: str) -> JsonDict:
        return attention_map(prediction, direction)

    def to_instance(self, inputs: JsonDict) -> Instance:
        return self._dataset_reader.text_to_instance(inputs["premise"], inputs["hypothesis"])

    def influence(self, instance: Instance) -> dict[str, list[float]]:
        """Of "premise" and "hypothesis", on the most probable label."""
        tensors = self._tensors([instance])

        def score() -> torch.Tensor:
            return self._model(**tensors)["label_logits"][0].log_softmax(-1).max()

        # The model embeds the premise first.
        of_texts = gradient_times_input(self.get_interpretable_text_field_embedder(), score)
        return {name: of_text[0].tolist() for name, of_text in zip(self.required_keys, of_texts, strict=True)}

    def predictions_to_labeled_instances(self, instance: Instance, outputs: JsonDict) -> list[Instance]:
        """
        A copy of the instance with the most probable label of "label_probs" as its label: what AllenNLP's attackers
        and interpreters ask for. The target of an attack may thus be {"label_probs": [0, 0, 1]}.
        """
        labeled = instance.duplicate()
        labeled.add_field("label", LabelField(int(np.argmax(outputs["label_probs"])), skip_indexing=True))
        return [labeled]
