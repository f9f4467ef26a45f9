import math
from collections.abc import Sequence
from typing import Optional

import torch
from allennlp.common.util import END_SYMBOL, START_SYMBOL, JsonDict
from allennlp.data import Instance, Token
from allennlp.data.fields import MetadataField, TextField
from allennlp.predictors import Predictor

from regattn_allennlp.interpret.gradient_times_input import gradient_times_input
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

    def read_targets(self, instance: Instance, targets: Sequence[Sequence[Token]]) -> list[JsonDict]:
        """
        What the model holds of given texts, whether it would write them or not.

        # Parameters

        instance : `Instance`
            The source's.
        targets : `Sequence[Sequence[Token]]`
            Their tokens, without the start and end symbols.

        # Returns

        For each target "tokens"; "token_log_probs", in nats, the end symbol's being the last; "log_prob", their sum;
        "attention", a list of weights over the source's tokens for every token; and "posterior", where the alignment
        is latent: what these weights are once the target is known.
        """
        with torch.no_grad():
            scores = self._model.score_target(**self._tensors([_with_target(instance, target) for target in targets]))
        read = []
        for number, target in enumerate(targets):
            log_probs = scores.log_probs[number, : len(target) + 1].tolist()
            one = {
                "tokens": [token.text for token in target],
                "token_log_probs": log_probs,
                "log_prob": math.fsum(log_probs),
                "attention": scores.weights[number, : len(target)].tolist(),
            }
            if scores.posterior is not None:
                one["posterior"] = scores.posterior[number, : len(target)].tolist()
            read.append(one)
        return read

    def influence(self, instance: Instance, target: Optional[Sequence[Token]] = None) -> dict[str, list[float]]:
        """Of "source", on the target, by default the best prediction."""
        if target is None:
            target = [Token(token) for token in self.predict_instance(instance)["predictions"][0]["tokens"]]
        tensors = self._tensors([_with_target(instance, target)])

        def score() -> torch.Tensor:
            return self._model.score_target(**tensors).log_probs.sum()

        (of_source,) = gradient_times_input(self.get_interpretable_text_field_embedder(), score)
        return {"source": of_source[0].tolist()}

    def target_tokens(self, source: str, target: str) -> list[Token]:
        """The target's, as the dataset reader takes it apart."""
        return self._dataset_reader.text_to_instance(source, target)["target_tokens"].tokens[1:-1]

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
        labeled = _with_target(instance, [Token(token) for token in best["tokens"]])
        labeled["metadata"].metadata["target"] = best["text"]
        return [labeled]


def _with_target(instance: Instance, target: Sequence[Token]) -> Instance:
    labeled = instance.duplicate()
    labeled.add_field("target_tokens", TextField([Token(START_SYMBOL), *target, Token(END_SYMBOL)]))
    metadata = {**instance["metadata"].metadata, "target_tokens": [token.text for token in target]}
    labeled.add_field("metadata", MetadataField(metadata))
    labeled.indexed = False  # the target is not
    return labeled


def _shown(prediction: JsonDict) -> JsonDict:
    shown = ("source_tokens", "source_same_as", "source_unknown", "predictions", "self_attention")
    return {key: prediction[key] for key in shown if key in prediction}
