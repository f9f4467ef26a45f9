from typing import Any

from allennlp.common.util import JsonDict
from allennlp.data import Instance
from pydantic import ConfigDict, Field

from regattn_allennlp.data.example import Example
from regattn_allennlp.predictors.attention_predictor import AttentionPredictor
from regattn_allennlp.server.schema import ArchiveAnswer, AttentionMap, AttentionRequest, TaskField, View
from regattn_allennlp.server.tasks.task import Task


class EntailmentRequest(AttentionRequest):
    """A pair of sentences, and what to change for this request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "premise": "A small dog is sleeping in the garden.",
                    "hypothesis": "An animal is outside.",
                    "regularization": {"fusedmax": {"gamma": 0.5, "lam": 0.2}},
                    "without": {"premise": [1]},
                }
            ]
        },
    )

    premise: str = Field(description="The sentence that is taken to be true. Not blank.")
    hypothesis: str = Field(description="The sentence that may follow from it. Not blank.")


class EntailmentAnswer(ArchiveAnswer):
    """What one archive's model makes of the pair."""

    label: str = Field(description="The most probable label.")
    probabilities: dict[str, float] = Field(description="By label; they sum to 1.")
    premise_to_hypothesis: AttentionMap = Field(description="What each word of the premise attends to.")
    hypothesis_to_premise: AttentionMap = Field(description="What each word of the hypothesis attends to.")


class EntailmentTask(Task):
    """Does the hypothesis follow from the premise?"""

    name = "entailment"
    request = EntailmentRequest
    answer = EntailmentAnswer
    example_request = '{"premise": "A dog sleeps.", "hypothesis": "An animal sleeps."}'
    subject = "What models attend to when they decide whether the hypothesis follows from the premise."
    fields = (
        TaskField(name="premise", title="Premise"),
        TaskField(name="hypothesis", title="Hypothesis"),
    )
    views = (
        View(name="hypothesis_to_premise", title="hypothesis to premise", rows="hypothesis", columns="premise"),
        View(name="premise_to_hypothesis", title="premise to hypothesis", rows="premise", columns="hypothesis"),
    )
    texts = {"premise": "premise", "hypothesis": "hypothesis"}  # noqa: RUF012
    examples = tuple(
        Example({"premise": premise, "hypothesis": hypothesis}, gold=None)
        for premise, hypothesis in (
            ("A brown dog is sleeping in the garden.", "An animal is sleeping in the garden."),
            ("Two children are running on the beach.", "Two children are moving on the beach."),
            ("A woman is reading a book in the library.", "A woman is buying a book."),
            ("A man in a red coat is playing a guitar.", "A tall man is playing an expensive guitar."),
        )
    )

    def warm_up_request(self) -> EntailmentRequest:
        return EntailmentRequest(premise="a", hypothesis="b")

    def predict(self, predictor: AttentionPredictor, instance: Instance, request: Any) -> JsonDict:
        prediction = predictor.predict_instance(instance)
        return {
            "label": prediction["label"],
            # In one order, whatever the vocabulary's: models are compared.
            "probabilities": dict(sorted(prediction["probabilities"].items())),
            **{view.name: predictor.attention_map(prediction, view.name) for view in self.views},
        }

    def title(self, answer: EntailmentAnswer, text: int) -> str:
        return f"{answer.label}\np = {answer.probabilities[answer.label]:.2f}"
