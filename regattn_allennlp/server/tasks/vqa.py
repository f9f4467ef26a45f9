import math
from collections.abc import Sequence
from itertools import islice
from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import Instance
from allennlp.data.fields import TensorField
from pydantic import ConfigDict, Field

from regattn_allennlp.predictors import VqaPredictor
from regattn_allennlp.predictors.attention_predictor import AttentionPredictor
from regattn_allennlp.server.schema import ArchiveAnswer, AttentionMap, AttentionRequest, TaskField
from regattn_allennlp.server.tasks.sequence_pairs import prior_and_posterior
from regattn_allennlp.server.tasks.task import RequestError, Task

PRIOR = "question_to_regions"

# How many images the page offers; others can be typed.
MAX_OFFERED_IMAGES = 200


class VqaRequest(AttentionRequest):
    """A question about an image."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"question": "what color is the circle?", "image_id": "validation-17"}]}
    )

    question: str = Field(description="Not blank.")
    image_id: str = Field(description="The image, as the archive's region features, or the sample, name it.")
    answer: Optional[str] = Field(
        default=None, description="An answer of which the models tell how probable they hold it."
    )


class VqaAnswer(ArchiveAnswer):
    """What one archive's model makes of the question."""

    label: str = Field(description="The most probable answer.")
    probabilities: dict[str, float] = Field(description="Of the most probable answers, and of the one that was given.")
    question_to_regions: AttentionMap = Field(description="The prior, if the alignment is latent.")
    question_to_regions_posterior: Optional[AttentionMap] = Field(
        default=None,
        description="If the alignment is latent, and an answer is given: the weights once the answer is known.",
    )
    question_to_regions_approximate_posterior: Optional[AttentionMap] = Field(
        default=None,
        description="If there is an inference network, and an answer is given: what it holds the posterior to be.",
    )


class VqaTask(Task):
    """Questions about images. Regions that are taken out are masked."""

    name = "vqa"
    request = VqaRequest
    answer = VqaAnswer
    example_request = '{"question": "what color is the circle?", "image_id": "validation-17"}'
    subject = "What of an image models attend to when they answer a question."
    texts = {"question": "question"}  # noqa: RUF012
    map_has_words = False  # the question is one row, and regions that are taken out stay in the map

    def __init__(self, predictors: Sequence[AttentionPredictor]) -> None:
        super().__init__(predictors)
        reader = predictors[0]._dataset_reader
        self._images = list(islice(reader.image_ids(), MAX_OFFERED_IMAGES))
        self.views = prior_and_posterior(predictors, PRIOR, "question", "regions")
        self.fields = (
            TaskField(name="question", title="Question"),
            TaskField(name="image_id", title="Image", options=self._images),
            TaskField(
                name="answer", title="Answer", is_optional=True,
                hint="Optional: an answer of your own, to see how probable the models hold it"
                + (", and where they would have looked for it." if len(self.views) > 1 else "."),
            ),
        )  # fmt: skip

    def warm_up_request(self) -> VqaRequest:
        return VqaRequest(question="what is it?", image_id=self._images[0])

    def instance(self, predictor: AttentionPredictor, request: VqaRequest) -> Instance:
        try:
            predictor._dataset_reader.regions_of(request.image_id)
        except ConfigurationError as error:
            raise RequestError(f'"image_id": {error.message}', "image_id") from error
        return predictor._json_to_instance({"question": request.question, "image_id": request.image_id})

    def words(self, instance: Instance) -> dict[str, list[str]]:
        metadata = instance["metadata"].metadata
        numbers = map(str, range(1, metadata["num_regions"] + 1))
        return {**super().words(instance), "regions": list(metadata["region_names"] or numbers)}

    def take_out(self, instance: Instance, text: str, positions: set[int]) -> None:
        if text != "regions":
            super().take_out(instance, text, positions)
            return
        mask = [region not in positions for region in range(instance["metadata"]["num_regions"])]
        instance.add_field("region_mask", TensorField(torch.tensor(mask), padding_value=False))

    def predict(self, predictor: AttentionPredictor, instance: Instance, request: VqaRequest) -> JsonDict:
        assert isinstance(predictor, VqaPredictor)
        prediction = predictor.predict_instance(instance)
        answer = {
            "label": prediction["answer"],
            "probabilities": dict(prediction["probabilities"]),
            PRIOR: predictor.attention_map(prediction, PRIOR),
        }
        if request.answer:
            try:
                read = predictor.read_answer(instance, request.answer)
            except ConfigurationError as error:
                raise RequestError(f'"answer": {error.message}', "answer") from error
            answer["probabilities"][read["answer"]] = math.exp(read["log_prob"])
            for name in ("posterior", "approximate_posterior"):
                if name in read:
                    answer[f"{PRIOR}_{name}"] = predictor.attention_map(
                        {**prediction, f"{PRIOR}_attention": read[name]}, PRIOR
                    )
        return answer

    def title(self, answer: VqaAnswer, text: int) -> str:
        return f"{answer.label}\np = {answer.probabilities[answer.label]:.2f}"
