from typing import Any, Optional

import torch
from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError
from allennlp.data import TextFieldTensors, Vocabulary
from allennlp.models import Model
from allennlp.modules import FeedForward, TextFieldEmbedder
from allennlp.modules.attention import Attention
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from allennlp.nn import InitializerApplicator
from allennlp.nn.util import get_text_field_mask
from allennlp.training.metrics import CategoricalAccuracy

from regattn_allennlp.data.token_links import gold_links
from regattn_allennlp.models.attention_model import AttentionModel
from regattn_allennlp.modules.attention import (
    RegularizedAttention,
    learned_regularization,
    require_regularized_attention,
)
from regattn_allennlp.training.metrics import AlignmentErrorRate, AttentionStatistics


@Model.register("regularized_decomposable_attention")
class RegularizedDecomposableAttention(AttentionModel):
    """
    The decomposable attention model for textual entailment (Parikh et al. 2016, arXiv 1606.01933), with any
    regularized max operator in the place of its softmax. Three steps:

    attend:     e_ij = similarity(F(a_i), F(b_j)); each premise word a_i gets the hypothesis words averaged by the
                weights of e_i., each hypothesis word b_j the premise words averaged by the weights of e_.j;
    compare:    G([word; what it attended to]) for every word of both sentences;
    aggregate:  the sums of these over each sentence, through H and a linear layer, are the labels' logits.

    Registered as a `Model` with name "regularized_decomposable_attention".

    # Parameters

    vocab : `Vocabulary`
    text_field_embedder : `TextFieldEmbedder`
        Embeds the words of both sentences; any kind.
    attention : `Attention`
        "softmax", "sparsemax", "fusedmax", "oscarmax", or "regularized". To compare attentions, change this block
        and nothing else.
    attend_feedforward, compare_feedforward, aggregate_feedforward : `FeedForward`
        F, G and H. F takes encoded words; G takes two of them, H two of G's outputs, concatenated.
    encoder : `Seq2SeqEncoder`, optional
        Applied to both sentences before anything else.
    intra_sentence_attention : `Seq2SeqEncoder`, optional
        Applied to both sentences after `encoder`: the paper's section 3.4, "intra_sentence_attention".
    dropout : `float`, optional (default = `0.0`)
        The probability of dropping each number of the embedded words.
    label_namespace : `str`, optional (default = `"labels"`)
    alignment_error_rate : `AlignmentErrorRate`, optional
        How links are made of the attention, `{"threshold": 0.2}`; by default each word is linked to the one that it
        attends to most. Measured in evaluation, where the metadata has gold links.
    initializer : `InitializerApplicator`, optional (default = PyTorch's own initial weights)

    # Raises

    `ConfigurationError`
        If F takes vectors of another dimension than the encoded words', or the attention gives no weights.
    """

    default_predictor = "entailment"
    attention_directions = ("hypothesis_to_premise", "premise_to_hypothesis")
    self_attention_directions = dict.fromkeys(
        ("_text_field_embedder", "_encoders"), ("premise_to_premise", "hypothesis_to_hypothesis")
    )

    def __init__(
        self,
        vocab: Vocabulary,
        text_field_embedder: TextFieldEmbedder,
        attention: Attention,
        attend_feedforward: FeedForward,
        compare_feedforward: FeedForward,
        aggregate_feedforward: FeedForward,
        encoder: Optional[Seq2SeqEncoder] = None,
        intra_sentence_attention: Optional[Seq2SeqEncoder] = None,
        dropout: float = 0.0,
        label_namespace: str = "labels",
        alignment_error_rate: Optional[Lazy[AlignmentErrorRate]] = None,
        initializer: Optional[InitializerApplicator] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocab, **kwargs)
        self._text_field_embedder = text_field_embedder
        self._dropout = torch.nn.Dropout(dropout)
        self._encoders = torch.nn.ModuleList(filter(None, [encoder, intra_sentence_attention]))
        words_dim = (intra_sentence_attention or encoder or text_field_embedder).get_output_dim()
        if attend_feedforward.get_input_dim() != words_dim:
            raise ConfigurationError(
                f'the words have dimension {words_dim}, but "attend_feedforward" takes '
                f"{attend_feedforward.get_input_dim()}"
            )
        self._attention = require_regularized_attention(attention, "regularized_decomposable_attention")
        self._attend_feedforward = attend_feedforward
        self._compare_feedforward = compare_feedforward
        self._aggregate_feedforward = aggregate_feedforward
        self._label_namespace = label_namespace
        self._label_layer = torch.nn.Linear(
            aggregate_feedforward.get_output_dim(), vocab.get_vocab_size(label_namespace)
        )
        self._accuracy = CategoricalAccuracy()
        self._attention_statistics = {direction: AttentionStatistics() for direction in self.attention_directions}
        make_alignment_error_rate = alignment_error_rate or Lazy(AlignmentErrorRate)
        self._alignment_error_rates = {
            direction: make_alignment_error_rate.construct() for direction in self.attention_directions
        }
        if initializer is not None:
            initializer(self)

    @property
    def compared_metrics(self) -> tuple[str, ...]:
        return ("accuracy",)

    @property
    def attention(self) -> RegularizedAttention:
        return self._attention

    def forward(  # type: ignore[override]
        self,
        premise: TextFieldTensors,
        hypothesis: TextFieldTensors,
        label: Optional[torch.LongTensor] = None,
        metadata: Optional[list[dict[str, Any]]] = None,
    ) -> dict[str, Any]:
        """
        # Returns

        label_logits, label_probs : shape (batch_size, num_labels)
        premise_to_hypothesis_attention : shape (batch_size, premise_length, hypothesis_length)
            Row i holds what premise word i attends to; its weights sum to 1. Padding has weight 0.
        hypothesis_to_premise_attention : shape (batch_size, hypothesis_length, premise_length)
        premise_tokens, hypothesis_tokens : `List[List[str]]`
            If `metadata` has them.
        loss : scalar
            Cross-entropy in nats, if `label` is given.
        item_scores : shape (batch_size,)
            If `label` is given and the model is not training: 1 where the most probable label is right, else 0.
        """
        # Shape: (batch_size, premise_length)
        premise_mask = get_text_field_mask(premise)
        # Shape: (batch_size, hypothesis_length)
        hypothesis_mask = get_text_field_mask(hypothesis)
        # Shape: (batch_size, premise_length, dim)
        encoded_premise = self._encode(premise, premise_mask)
        # Shape: (batch_size, hypothesis_length, dim)
        encoded_hypothesis = self._encode(hypothesis, hypothesis_mask)

        # Shape (all three): (batch_size, premise_length, hypothesis_length)
        scores = self._attention.scores(
            self._attend_feedforward(encoded_premise), self._attend_feedforward(encoded_hypothesis)
        )
        pair_mask = premise_mask.unsqueeze(2) & hypothesis_mask.unsqueeze(1)
        premise_to_hypothesis = self._attention.weights(scores, pair_mask)
        # Shape: (batch_size, hypothesis_length, premise_length)
        hypothesis_to_premise = self._attention.weights(scores.transpose(1, 2), pair_mask.transpose(1, 2))

        # Shape (both): (batch_size, compare_dim)
        compared_premise = self._compare(encoded_premise, premise_to_hypothesis.bmm(encoded_hypothesis), premise_mask)
        compared_hypothesis = self._compare(
            encoded_hypothesis, hypothesis_to_premise.bmm(encoded_premise), hypothesis_mask
        )
        # Shape: (batch_size, num_labels)
        label_logits = self._label_layer(
            self._aggregate_feedforward(torch.cat([compared_premise, compared_hypothesis], dim=-1))
        )

        self._attention_statistics["premise_to_hypothesis"](premise_to_hypothesis, pair_mask)
        self._attention_statistics["hypothesis_to_premise"](hypothesis_to_premise, pair_mask.transpose(1, 2))
        links = None if self.training else gold_links(metadata)
        if links is not None:
            self._alignment_error_rates["premise_to_hypothesis"](premise_to_hypothesis, links)
            transposed = [of_pair.transposed() for of_pair in links]
            self._alignment_error_rates["hypothesis_to_premise"](hypothesis_to_premise, transposed)
        output: dict[str, Any] = {
            "label_logits": label_logits,
            "label_probs": label_logits.softmax(dim=-1),
            "premise_to_hypothesis_attention": premise_to_hypothesis,
            "hypothesis_to_premise_attention": hypothesis_to_premise,
        }
        if metadata is not None:
            output["premise_tokens"] = [item["premise_tokens"] for item in metadata]
            output["hypothesis_tokens"] = [item["hypothesis_tokens"] for item in metadata]
        if label is not None:
            self._accuracy(label_logits, label)
            output["loss"] = torch.nn.functional.cross_entropy(label_logits, label)
            if not self.training:
                output["item_scores"] = (label_logits.argmax(dim=-1) == label).float()
        return output

    def _encode(self, sentence: TextFieldTensors, mask: torch.Tensor) -> torch.Tensor:
        encoded = self._dropout(self._text_field_embedder(sentence))
        for encoder in self._encoders:
            encoded = encoder(encoded, mask)
        return encoded

    def _compare(self, words: torch.Tensor, attended: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        compared = self._compare_feedforward(torch.cat([words, attended], dim=-1))
        return (compared * mask.unsqueeze(-1)).sum(dim=1)

    def make_output_human_readable(self, output_dict: dict[str, Any]) -> dict[str, Any]:
        """
        Adds "label", the most probable label's name, and "probabilities", by label name; cuts the attention matrices
        to the sentences' lengths, if the tokens are there to tell them.
        """
        names = self.vocab.get_index_to_token_vocabulary(self._label_namespace)
        output_dict["probabilities"] = [
            {names[index]: probability for index, probability in enumerate(probabilities)}
            for probabilities in output_dict["label_probs"].tolist()
        ]
        output_dict["label"] = [names[index] for index in output_dict["label_probs"].argmax(dim=-1).tolist()]
        if "premise_tokens" in output_dict:
            premises, hypotheses = output_dict["premise_tokens"], output_dict["hypothesis_tokens"]
            for key, rows, columns in (
                ("premise_to_hypothesis_attention", premises, hypotheses),
                ("hypothesis_to_premise_attention", hypotheses, premises),
            ):
                output_dict[key] = [
                    weights[: len(row_tokens), : len(column_tokens)].detach().cpu().numpy()
                    for weights, row_tokens, column_tokens in zip(output_dict[key], rows, columns, strict=True)
                ]
        return output_dict

    def get_metrics(self, reset: bool = False) -> dict[str, float]:
        """
        "accuracy", where there were labels, and in either direction how sparse and structured the attention is, by the
        names of `AttentionStatistics`: "premise_to_hypothesis_zeros", "hypothesis_to_premise_segments" and so on. What
        an attention learns of its regularization follows by the attention's name: "attention_gamma", "attention_lam".
        Alignment attention adds "alignment_loss" and "alignment_distance"; evaluation by gold links those of
        `AlignmentErrorRate` in either direction, "premise_to_hypothesis_alignment_error_rate".

        Without `reset`, as AllenNLP asks after each batch, there are of the statistics the zeros alone: all of them
        would leave no place for the progress bar that they are written beside.
        """
        metrics = {}
        if self._accuracy.total_count:
            metrics["accuracy"] = self._accuracy.get_metric(reset)
        for direction, statistics in self._attention_statistics.items():
            for name, value in statistics.get_metric(reset).items():
                if reset or name == "zeros":
                    metrics[f"{direction}_{name}"] = value
        if reset:
            for direction, error_rate in self._alignment_error_rates.items():
                for name, value in error_rate.get_metric(reset).items():
                    metrics[f"{direction}_{name}"] = value
        return {**metrics, **self.alignment_metrics(reset), **learned_regularization(self)}
