import math
from typing import Any, Optional

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import Instance
from allennlp.data.fields import LabelField
from allennlp.predictors import Predictor

from regattn_allennlp.data.number_rows import number_rows
from regattn_allennlp.data.region_features import Regions, checked_boxes
from regattn_allennlp.data.vqa_answers import normalize_answer
from regattn_allennlp.interpret.gradient_times_input import gradient_times_input
from regattn_allennlp.predictors.attention_predictor import Answer, AttentionPredictor, key_of
from regattn_allennlp.visualization.attention_map import is_right_to_left
from regattn_allennlp.visualization.equal_weights import equal_groups

# The number of no answer, whatever the vocabulary.
UNKNOWN_ANSWER = -1


@Predictor.register("vqa")
class VqaPredictor(AttentionPredictor):
    """
    Predicts from JSON lines with the key "question" and one of

    - "image_id": the image's regions are those of the dataset reader's files, or the sample's: "validation-17";
    - "regions": a list of numbers for each region, its features; besides, if wanted, "boxes": for each region its
      [left, top, right, bottom] as fractions of the picture.

    Each line of output has "answer"; "probabilities" of the most probable answers by name; "answer_probs" by the
    vocabulary's numbers; "question_to_regions_attention", a list with the question's weights over the regions; and
    "image_id", "question", "question_tokens", "num_regions", "boxes", "region_names" and "image", empty where not
    known.

    Of a line with an "answer", or a question whose answer the dataset reader finds, there is "given_answer" besides,
    with "answer", normalized; "log_prob", of its marginal probability; and "attention", "posterior" and
    "approximate_posterior", each a list with the question's weights over the regions: see `AttentionPredictor`. Of an
    answer that the model does not know, "log_prob" is null, and there is the attention alone.

    Registered as a `Predictor` with name "vqa".
    """

    required_keys = ("question",)
    attacked_field = "question"
    given_key = "answer"
    given_field = "answer"

    def predict(self, question: str, image_id: str) -> JsonDict:
        """The answer to one question about an image whose regions the dataset reader knows."""
        return self.predict_json({"question": question, "image_id": image_id})

    def answer(self, prediction: JsonDict) -> Answer:
        return Answer(prediction["answer"], prediction["probabilities"][prediction["answer"]])

    def attention_map(self, prediction: JsonDict, direction: str) -> JsonDict:
        """
        What `visualization.attention_map` tells, with the question as the one row and the regions as the columns, by
        their names or numbers from 1; besides

        # Returns

        boxes : `List[List[float]]`, optional
            Of each region [left, top, right, bottom] as fractions of the picture.
        image : `str`, optional
            The path of the picture.
        """
        weights = prediction[f"{direction}_attention"]
        names = self.names(prediction)
        return {
            "rows": [prediction["question"]],
            "columns": names,
            "weights": weights,
            "groups": [equal_groups(of_row) for of_row in weights],
            "unknownRows": [],
            "unknownColumns": [],
            "rowTitle": "question",
            "columnTitle": "regions",
            "rightToLeft": is_right_to_left(names),
            "boxes": prediction["boxes"] or None,
            "image": prediction["image"] or None,
        }

    def as_written(self, prediction: JsonDict, distribution: str = "prior") -> JsonDict:
        given = self._given_of(prediction)
        if given["log_prob"] is None:
            raise self._not_known(given["answer"])
        return {
            **prediction,
            "answer": given["answer"],
            "probabilities": {given["answer"]: math.exp(given["log_prob"])},
            "question_to_regions_attention": given[key_of(distribution)],
        }

    def read_given(self, instances: list[Instance]) -> list[JsonDict]:
        answers = [instance["answer"].label for instance in instances]
        answered = []
        for instance, answer in zip(instances, answers, strict=True):
            number = self._model.vocab.get_token_to_index_vocabulary("answers").get(answer, UNKNOWN_ANSWER)
            label = LabelField(number, label_namespace="answers", skip_indexing=True)
            answered.append(Instance({**instance.fields, "answer": label}))
        with torch.no_grad():
            scores = self._model.score_answer(**self._tensors(answered))
        read = []
        for number, (instance, answer) in enumerate(zip(instances, answers, strict=True)):
            log_prob = scores.log_probs[number].item()
            is_known = log_prob > -math.inf
            distributions = {"attention": scores.weights}
            if is_known:
                distributions.update(posterior=scores.posterior, approximate_posterior=scores.approximate_posterior)
            num_regions = instance["metadata"]["num_regions"]
            read.append(
                {
                    "answer": answer,
                    "log_prob": log_prob if is_known else None,
                    **{
                        name: [weights[number, :num_regions].tolist()]
                        for name, weights in distributions.items()
                        if weights is not None
                    },
                }
            )
        return read

    def read_answer(self, instance: Instance, answer: str) -> JsonDict:
        """
        What the model holds of a given answer: what `predict` tells as "given_answer".

        # Raises

        `ConfigurationError` for an answer that the model does not know.
        """
        answered = Instance({**instance.fields, "answer": LabelField(normalize_answer(answer), "answers")})
        (read,) = self.read_given([answered])
        if read["log_prob"] is None:
            raise self._not_known(read["answer"])
        return read

    def _not_known(self, answer: str) -> ConfigurationError:
        known = [name for name in self._model.vocab.get_token_to_index_vocabulary("answers") if name[:2] != "@@"]
        return ConfigurationError(
            f'the model does not know the answer "{answer}"; it knows {len(known)}, such as '
            f"{', '.join(map(repr, known[:5]))}"
        )

    def influence(self, instance: Instance) -> dict[str, list[float]]:
        """Of "question" and "regions", on the most probable answer; a region's vector are its features."""
        tensors = self._tensors([instance])
        regions = tensors["regions"].requires_grad_()

        def score() -> torch.Tensor:
            return self._model(**tensors)["answer_probs"][0].max().log()

        of_texts = gradient_times_input(self.get_interpretable_text_field_embedder(), score, [regions])
        return {name: of_text[0].tolist() for name, of_text in zip(("question", "regions"), of_texts, strict=True)}

    def names(self, prediction: JsonDict) -> list[str]:
        (weights,) = prediction["question_to_regions_attention"]
        return prediction["region_names"] or [str(number) for number in range(1, len(weights) + 1)]

    def check_input(self, inputs: Any) -> None:
        super().check_input(inputs)
        self._regions(inputs)

    def to_instance(self, inputs: JsonDict) -> Instance:
        return self._dataset_reader.text_to_instance(
            inputs["question"],
            image_id=inputs.get("image_id"),
            regions=self._regions(inputs),
            answer=self.given(inputs),
        )

    def predictions_to_labeled_instances(self, instance: Instance, outputs: JsonDict) -> list[Instance]:
        """A copy of the instance with the most probable answer of "answer_probs": for AllenNLP's interpreters."""
        labeled = instance.duplicate()
        answer = LabelField(int(np.argmax(outputs["answer_probs"])), label_namespace="answers", skip_indexing=True)
        labeled.add_field("answer", answer)
        return [labeled]

    def _regions(self, inputs: JsonDict) -> Regions:
        if inputs.get("regions") is None:
            image_id = inputs.get("image_id")
            if image_id is None:
                raise ConfigurationError(f'the key "image_id" or "regions" is missing; the keys are {sorted(inputs)}')
            if isinstance(image_id, bool) or not isinstance(image_id, (int, str)):
                raise ConfigurationError(f'"image_id" must be a number or a text, but is {image_id!r}')
            regions = self._dataset_reader.regions_of(image_id)
            given = f"image {image_id}"
        else:
            features = number_rows("regions", inputs["regions"], "region")
            boxes: Optional[np.ndarray] = None
            if inputs.get("boxes") is not None:
                boxes = checked_boxes(number_rows("boxes", inputs["boxes"], "region"), len(features), 'wrong "boxes"')
            regions = Regions(features, boxes)
            given = '"regions"'
        dim = regions.features.shape[1]
        if dim != self._model.region_dim:
            raise ConfigurationError(
                f"the features of {given} have the dimension {dim}; the model takes {self._model.region_dim}"
            )
        return regions
