import math
from collections.abc import Sequence
from typing import Optional

import torch
from allennlp.common.util import END_SYMBOL, START_SYMBOL, JsonDict
from allennlp.data import Instance, Token
from allennlp.data.fields import MetadataField, TextField
from allennlp.predictors import Predictor

from regattn_allennlp.data.seen_words import seen_words
from regattn_allennlp.interpret.gradient_times_input import gradient_times_input
from regattn_allennlp.predictors.attention_predictor import Answer, AttentionPredictor, key_of
from regattn_allennlp.visualization import attention_map


@Predictor.register("sequence_pairs")
class SequencePairsPredictor(AttentionPredictor):
    """
    Predicts from JSON lines with the key "source", a text. Each line of output has "source_tokens" and "predictions",
    from the best on, as many as the model's `num_best`. Each of these has "text", "tokens", "log_prob" (of the whole
    text, in nats) and "attention": a list of weights over the source's tokens for every token. `AttentionPredictor`
    adds what it tells of the source.

    Of a line with a "target", or a pair that the dataset reader reads, there is "given_target" besides, which has

    - "text"; "tokens", as the reader takes the text apart, of which it takes no more than its `max_target_tokens`; and
      "unknown", the positions of those that the model does not know;
    - "token_log_probs", of each token's marginal probability, in nats, the end symbol's being the last; and
      "log_prob", their sum;
    - "attention" and, where the model has them, "posterior" and "approximate_posterior": each a list of weights over
      the source's tokens for every token. See `AttentionPredictor`.

    Registered as a `Predictor` with name "sequence_pairs".
    """

    required_keys = ("source",)
    attacked_field = "source_tokens"
    given_key = "target"
    given_field = "target_tokens"

    def predict(self, source: str) -> JsonDict:
        """The predictions for one text."""
        return self.predict_json({"source": source})

    def answer(self, prediction: JsonDict) -> Answer:
        best = prediction["predictions"][0]
        return Answer(best["text"], math.exp(best["log_prob"]))

    def attention_map(self, prediction: JsonDict, direction: str) -> JsonDict:
        best = prediction["predictions"][0]
        unknown = best.get("unknown")
        if unknown is None:  # what the model writes in the place of words that it does not know
            unknown = [number for number, token in enumerate(best["tokens"]) if token == self._model.vocab._oov_token]
        target = {
            "target_tokens": best["tokens"],
            "target_unknown": unknown,
            "target_to_source_attention": best["attention"],
        }
        return attention_map({**prediction, **target}, direction)

    def as_written(self, prediction: JsonDict, distribution: str = "prior") -> JsonDict:
        given = self._given_of(prediction)
        written = {**given, "attention": given[key_of(distribution)]}
        return {**prediction, "predictions": [written]}

    def read_given(self, instances: list[Instance]) -> list[JsonDict]:
        return [
            {"text": instance["metadata"]["target"], **read}
            for instance, read in zip(instances, self.read_targets(instances), strict=True)
        ]

    def read_targets(self, instances: list[Instance]) -> list[JsonDict]:
        """
        What the model holds of the targets of sources, whether it would write them or not.

        # Parameters

        instances : `List[Instance]`
            With a target each: see `with_target`.

        # Returns

        For each "tokens", "unknown", "log_prob", "token_log_probs", "attention" and, where the model has them,
        "posterior" and "approximate_posterior".
        """
        with torch.no_grad():
            scores = self._model.score_target(**self._tensors(instances))
        distributions = {
            "attention": scores.weights,
            "posterior": scores.posterior,
            "approximate_posterior": scores.approximate_posterior,
        }
        read = []
        for number, instance in enumerate(instances):
            target = instance["target_tokens"]
            length = len(target) - 2  # without the start and the end symbol
            source_length = len(instance["source_tokens"])
            log_probs = scores.log_probs[number, : length + 1].tolist()
            unknown = seen_words(target, self._model.vocab).unknown
            read.append(
                {
                    "tokens": [token.text for token in target.tokens[1:-1]],
                    "unknown": [position - 1 for position in unknown],
                    "log_prob": math.fsum(log_probs),
                    "token_log_probs": log_probs,
                    **{
                        name: weights[number, :length, :source_length].tolist()
                        for name, weights in distributions.items()
                        if weights is not None
                    },
                }
            )
        return read

    def influence(self, instance: Instance, target: Optional[Sequence[Token]] = None) -> dict[str, list[float]]:
        """Of "source", on the target, by default the best prediction."""
        if target is None:
            target = [Token(token) for token in self.predict_instance(instance)["predictions"][0]["tokens"]]
        tensors = self._tensors([with_target(instance, target)])

        def score() -> torch.Tensor:
            return self._model.score_target(**tensors).log_probs.sum()

        (of_source,) = gradient_times_input(self.get_interpretable_text_field_embedder(), score)
        return {"source": of_source[0].tolist()}

    def target_tokens(self, source: str, target: str) -> list[Token]:
        """The target's, as the dataset reader takes it apart."""
        return self._dataset_reader.text_to_instance(source, target)["target_tokens"].tokens[1:-1]

    def to_instance(self, inputs: JsonDict) -> Instance:
        return self._dataset_reader.text_to_instance(inputs["source"], self.given(inputs))

    def _predictions(self, instances: list[Instance]) -> list[JsonDict]:
        return [_shown(prediction) for prediction in super()._predictions(instances)]

    def predictions_to_labeled_instances(self, instance: Instance, outputs: JsonDict) -> list[Instance]:
        """A copy of the instance with the best of the "predictions" as its target: for AllenNLP's interpreters."""
        if "predictions" not in outputs:  # the model makes them only where there is no target
            source = Instance({name: instance[name] for name in ("source_tokens", "metadata")})
            outputs = self._model.forward_on_instance(source)
        best = outputs["predictions"][0]
        labeled = with_target(instance, [Token(token) for token in best["tokens"]])
        labeled["metadata"].metadata["target"] = best["text"]
        return [labeled]


def with_target(instance: Instance, target: Sequence[Token]) -> Instance:
    """A copy of a source's instance that has these tokens, without the start and end symbols, as its target."""
    labeled = instance.duplicate()
    labeled.add_field("target_tokens", TextField([Token(START_SYMBOL), *target, Token(END_SYMBOL)]))
    metadata = {**instance["metadata"].metadata, "target_tokens": [token.text for token in target]}
    labeled.add_field("metadata", MetadataField(metadata))
    labeled.indexed = False  # the target is not
    return labeled


def _shown(prediction: JsonDict) -> JsonDict:
    shown = ("source_tokens", "source_same_as", "source_unknown", "predictions", "given_target", "self_attention")
    return {key: prediction[key] for key in shown if key in prediction}
