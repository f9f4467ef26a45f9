from typing import Any, Optional

import numpy as np
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import Instance
from allennlp.data.fields import LabelField
from allennlp.predictors import Predictor

from regattn_allennlp.data.number_rows import number_rows
from regattn_allennlp.data.region_features import Regions, checked_boxes
from regattn_allennlp.predictors.attention_predictor import Answer, AttentionPredictor
from regattn_allennlp.visualization.attention_map import is_right_to_left
from regattn_allennlp.visualization.equal_weights import equal_groups


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

    Registered as a `Predictor` with name "vqa".
    """

    required_keys = ("question",)
    attacked_field = "question"

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

    def names(self, prediction: JsonDict) -> list[str]:
        (weights,) = prediction["question_to_regions_attention"]
        return prediction["region_names"] or [str(number) for number in range(1, len(weights) + 1)]

    def check_input(self, inputs: Any) -> None:
        super().check_input(inputs)
        self._regions(inputs)

    def to_instance(self, inputs: JsonDict) -> Instance:
        return self._dataset_reader.text_to_instance(
            inputs["question"], image_id=inputs.get("image_id"), regions=self._regions(inputs)
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
