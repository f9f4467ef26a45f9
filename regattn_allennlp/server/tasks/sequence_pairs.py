import math
from collections.abc import Sequence
from typing import Any, Optional

from allennlp.common.util import JsonDict
from allennlp.data import Instance, Token
from pydantic import BaseModel, ConfigDict, Field

from regattn_allennlp.predictors import SequencePairsPredictor
from regattn_allennlp.predictors.attention_predictor import AttentionPredictor
from regattn_allennlp.predictors.sequence_pairs import with_target
from regattn_allennlp.server.schema import ArchiveAnswer, AttentionMap, AttentionRequest, TaskField, View
from regattn_allennlp.server.tasks.task import Task

PRIOR = "target_to_source"
POSTERIOR, APPROXIMATE_POSTERIOR = f"{PRIOR}_posterior", f"{PRIOR}_approximate_posterior"


class SequencePairsRequest(AttentionRequest):
    """A text to translate, to sum up or to pronounce; or a pair of texts."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"source": "ein kleiner hund schläft .", "target": "a small dog sleeps ."}]}
    )

    source: str = Field(description="What to write a text of. Not blank.")
    target: Optional[str] = Field(default=None, description="A text of which the models tell how likely they hold it.")


class Reading(BaseModel):
    """A text that a model writes, or that was given, and what it holds of it."""

    text: str = Field(description="As it is written.")
    is_given: bool = Field(description="Whether it is the request's target.")
    log_prob: float = Field(description="Of the whole text, in nats, its end included.")
    tokens: list[str] = Field(description="Its words, characters, or pieces of words.")
    token_log_probs: list[float] = Field(description="Of each token, in nats; that of the text's end is the last.")
    target_to_source: AttentionMap = Field(
        description="What each token attended to: the prior, if the alignment is latent."
    )
    target_to_source_posterior: Optional[AttentionMap] = Field(
        default=None, description="If the alignment is latent: what each token is aligned with once it is known."
    )
    target_to_source_approximate_posterior: Optional[AttentionMap] = Field(
        default=None, description="If there is an inference network: what it holds the posterior to be."
    )


class SequencePairsAnswer(ArchiveAnswer):
    """What one archive's model makes of the source."""

    texts: list[Reading] = Field(description="The target, if it was given; then what the model writes, best first.")


class SequencePairsTask(Task):
    """Translation, summarization, pronunciation. The models show as many of their best texts as the beam has."""

    name = "sequence_pairs"
    request = SequencePairsRequest
    answer = SequencePairsAnswer
    example_request = '{"source": "ein hund schläft ."}, with or without "target": "a dog sleeps ."'
    subject = "What models attend to when they write a text of another."
    fields = (
        TaskField(name="source", title="Source"),
        TaskField(
            name="target", title="Target", is_optional=True,
            hint="Optional: a text of your own, to see how likely the models hold it.",
        ),
    )  # fmt: skip
    texts = {"source": "source_tokens"}  # noqa: RUF012

    def __init__(self, predictors: Sequence[AttentionPredictor]) -> None:
        super().__init__(predictors)
        for predictor in predictors:
            predictor._model.num_best = predictor._model.beam_size
        self.views = prior_and_posterior(predictors, PRIOR, "target", "source")

    def warm_up_request(self) -> SequencePairsRequest:
        return SequencePairsRequest(source="a", target="a")

    def predict(self, predictor: AttentionPredictor, instance: Instance, request: Any) -> JsonDict:
        assert isinstance(predictor, SequencePairsPredictor)
        prediction = predictor.predict_instance(instance)
        texts = [(one["text"], [Token(token) for token in one["tokens"]]) for one in prediction["predictions"]]
        if request.target:
            texts.insert(0, (request.target, predictor.target_tokens(request.source, request.target)))
        readings = []
        for number, read in enumerate(predictor.read_targets([with_target(instance, text) for _, text in texts])):
            maps = {
                PRIOR: read["attention"],
                POSTERIOR: read.get("posterior"),
                APPROXIMATE_POSTERIOR: read.get("approximate_posterior"),
            }
            readings.append(
                {
                    **{key: read[key] for key in ("tokens", "log_prob", "token_log_probs")},
                    "text": texts[number][0],
                    "is_given": bool(request.target) and number == 0,
                    **{
                        name: predictor.attention_map(
                            {**prediction, "predictions": [{**read, "attention": weights}]}, PRIOR
                        )
                        for name, weights in maps.items()
                        if weights is not None
                    },
                }
            )
        return {"texts": readings}

    def influence(self, predictor: AttentionPredictor, instance: Instance, request: Any) -> dict[str, list[float]]:
        assert isinstance(predictor, SequencePairsPredictor)
        target = predictor.target_tokens(request.source, request.target) if request.target else None
        return predictor.influence(instance, target)

    def title(self, answer: SequencePairsAnswer, text: int) -> str:
        reading = self.part(answer, text)
        return f"{reading.text}\np = {math.exp(reading.log_prob):.2g}"

    def part(self, answer: SequencePairsAnswer, text: int) -> Reading:
        return answer.texts[min(text, len(answer.texts) - 1)]


def prior_and_posterior(
    predictors: Sequence[AttentionPredictor], name: str, rows: str, columns: str
) -> tuple[View, ...]:
    """The views of one direction: where an alignment is latent, one for each distribution that a model has."""
    distributions = dict.fromkeys(one for predictor in predictors for one in predictor._model.given_distributions)
    if len(distributions) == 1:
        return (View(name=name, title=f"{rows} to {columns}", rows=rows, columns=columns),)
    return tuple(
        View(
            name=name if one == "prior" else f"{name}_{one}",
            title=one.replace("_", " "),
            rows=rows,
            columns=columns,
        )
        for one in distributions
    )
