from typing import Any, ClassVar, NamedTuple, Optional

import torch
from allennlp.common import Lazy
from allennlp.common.checks import check_dimensions_match
from allennlp.data import TextFieldTensors, Vocabulary
from allennlp.models import Model
from allennlp.modules import FeedForward, Seq2VecEncoder, TextFieldEmbedder
from allennlp.modules.attention import Attention
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from allennlp.nn import InitializerApplicator
from allennlp.nn.util import get_text_field_mask

from regattn_allennlp.models.attention_model import AttentionModel
from regattn_allennlp.modules.attention import attend, learned_regularization
from regattn_allennlp.modules.latent_alignment import AlignmentQueries, LatentAlignment, SoftAlignment
from regattn_allennlp.training.metrics import AttentionStatistics, ItemAverage, TokenPerplexity

# How many answers a prediction tells the probabilities of.
NUM_SHOWN_ANSWERS = 5


class AnswerScores(NamedTuple):
    """
    What a model holds of given answers.

    log_probs : shape (batch_size,)
        Of each answer's marginal probability, in nats; -inf for an answer that is not known.
    weights : shape (batch_size, num_regions)
        The attention, which is the prior of a latent alignment.
    posterior : shape (batch_size, num_regions), or `None` where the alignment is not latent
        See `LatentAlignment.posterior`; 0, as what follows, for an answer that is not known.
    approximate_posterior : shape (batch_size, num_regions), or `None` without an inference network
    """

    log_probs: torch.Tensor
    weights: torch.Tensor
    posterior: Optional[torch.Tensor]
    approximate_posterior: Optional[torch.Tensor]


class Attended(NamedTuple):
    """What the model makes of questions and images before it answers; see `AttentionalVqa` for the steps."""

    # Shape (of the first three): (batch_size, 1, query_dim); (batch_size, 1, num_regions), the scores if there are any
    query: torch.Tensor
    weights: torch.Tensor
    scores: Optional[torch.Tensor]
    # Shape: (batch_size, num_regions, value_dim)
    values: torch.Tensor
    # Shape: (batch_size, num_regions)
    region_mask: torch.Tensor
    # Shape: (batch_size, value_dim)
    factors: torch.Tensor


@Model.register("attentional_vqa")
class AttentionalVqa(AttentionModel):
    """
    Answers questions about images by attention over the images' regions, as in Anderson et al. 2018 (arXiv
    1707.07998), with any attention, which may be a latent alignment, as in Deng et al. 2018 (arXiv 1807.03756):

    encode:  the question is a vector; each region's features make a value x_z, which may see the other regions';
    attend:  a query, made of the question, attends to the values: p(z | x, q);
    answer:  the context, one value or a mixture of values, times what is made of the question, element by element,
             goes through a feedforward and a linear layer: p(y | context, q).

    Answers that the vocabulary does not know, for instance by its `min_count`, are never given; training passes over
    questions with such an answer, and so do the loss and the perplexity, but not the accuracy.

    Registered as a `Model` with name "attentional_vqa".

    # Parameters

    vocab : `Vocabulary`
    text_field_embedder : `TextFieldEmbedder`
        Embeds the question's words; any kind.
    question_encoder : `Seq2VecEncoder`
        Makes a vector of them.
    region_feedforward : `FeedForward`
        Makes a value of each region's features, after layer normalization.
    query_feedforward : `FeedForward`
        Makes the query of the question's vector. With dot product attention, of the values' dimension.
    attention : `Attention`
        Any of AllenNLP's or of this package's. To compare attentions, change this block and nothing else.
    question_feedforward : `FeedForward`
        Makes of the question's vector what the context is multiplied by; of the values' dimension.
    classifier_feedforward : `FeedForward`
        From that product to what the answers' linear layer takes.
    latent_alignment : `LatentAlignment`, optional (default = "soft")
        How the attention weights are taken for the probabilities of a latent variable.
    region_encoder : `Seq2SeqEncoder`, optional
        Applied to the regions' values, so that they know of each other: "multi_head_self_attention", without relative
        positions, since regions have no order.
    dropout : `float`, optional (default = `0.0`)
        The probability of dropping each number of the embedded words and of the regions' features.
    answer_namespace : `str`, optional (default = `"answers"`)
    initializer : `InitializerApplicator`, optional (default = PyTorch's own initial weights)

    # Raises

    `ConfigurationError`
        If the alignment cannot be combined with the attention.
    """

    default_predictor = "vqa"
    attention_directions = ("question_to_regions",)
    self_attention_directions: ClassVar[dict[str, tuple[str, ...]]] = {
        "_text_field_embedder": ("question_to_question",),
        "_region_encoder": ("regions_to_regions",),
    }

    def __init__(
        self,
        vocab: Vocabulary,
        text_field_embedder: TextFieldEmbedder,
        question_encoder: Seq2VecEncoder,
        region_feedforward: FeedForward,
        query_feedforward: FeedForward,
        attention: Attention,
        question_feedforward: FeedForward,
        classifier_feedforward: FeedForward,
        latent_alignment: Optional[Lazy[LatentAlignment]] = None,
        region_encoder: Optional[Seq2SeqEncoder] = None,
        dropout: float = 0.0,
        answer_namespace: str = "answers",
        initializer: Optional[InitializerApplicator] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocab, **kwargs)
        self._text_field_embedder = text_field_embedder
        self._question_encoder = question_encoder
        self._region_norm = torch.nn.LayerNorm(region_feedforward.get_input_dim())
        self._region_feedforward = region_feedforward
        self._region_encoder = region_encoder
        value_dim = region_feedforward.get_output_dim()
        if region_encoder is not None:
            check_dimensions_match(
                value_dim, region_encoder.get_input_dim(), "region_feedforward's output", "region_encoder's input"
            )
            value_dim = region_encoder.get_output_dim()
        self._query_feedforward = query_feedforward
        self._attention = attention
        self._question_feedforward = question_feedforward
        self._classifier_feedforward = classifier_feedforward
        self._dropout = torch.nn.Dropout(dropout)
        self._answer_namespace = answer_namespace
        # Padding and the unknown answer come before the answers.
        names = vocab.get_index_to_token_vocabulary(answer_namespace)
        self._num_special_answers = 2 if names.get(0) == vocab._padding_token else 0
        num_answers = len(names) - self._num_special_answers
        self._answer_layer = torch.nn.Linear(classifier_feedforward.get_output_dim(), num_answers)
        self._latent_alignment = (latent_alignment or Lazy(SoftAlignment)).construct(
            attention=attention,
            memory_dim=value_dim,
            query_dim=query_feedforward.get_output_dim(),
            target_dim=value_dim,
        )
        self._answer_embedding: Optional[torch.nn.Embedding] = None
        if self._latent_alignment.inference_network is not None:
            self._answer_embedding = torch.nn.Embedding(num_answers, value_dim)
        self._accuracy = ItemAverage()
        self._perplexity = TokenPerplexity()
        self._attention_statistics = AttentionStatistics()
        if initializer is not None:
            initializer(self)

    @property
    def compared_metrics(self) -> tuple[str, ...]:
        return ("accuracy", "perplexity")

    @property
    def given_distributions(self) -> tuple[str, ...]:
        return self._latent_alignment.distributions

    @property
    def attention(self) -> Attention:
        return self._attention

    @property
    def region_dim(self) -> int:
        """The dimension of the regions' features."""
        return self._region_feedforward.get_input_dim()

    def forward(  # type: ignore[override]
        self,
        question: TextFieldTensors,
        regions: torch.Tensor,
        region_mask: torch.Tensor,
        answer: Optional[torch.Tensor] = None,
        metadata: Optional[list[dict[str, Any]]] = None,
    ) -> dict[str, Any]:
        """
        # Parameters

        regions : `torch.Tensor`
            Shape (batch_size, num_regions, region_dim).
        region_mask : `torch.BoolTensor`
            Shape (batch_size, num_regions): which regions there are; at least one for each image.
        answer : `torch.LongTensor`, optional
            Shape (batch_size,).

        # Returns

        question_to_regions_attention : shape (batch_size, 1, num_regions)
            Each sums to 1. Padding has weight 0.
        answer_probs : shape (batch_size, answer_vocabulary_size)
            If the model is not training: the marginal probabilities, whatever the alignment; 0 for padding and the
            unknown answer.
        loss : scalar
            If `answer` is given: the mean over the questions with an answer that is known, in nats; in training, of
            what the alignment minimizes, otherwise of -log of the answer's marginal probability.
        item_scores : shape (batch_size,)
            If `answer` is given and the model is not training: what the most probable answer is worth, by the
            metadata's "answer_scores" if it is there, otherwise 1 for `answer`.
        question_tokens, boxes, region_names, image and so on
            The metadata, if it is given.
        """
        attended = self._attend(question, regions, region_mask)
        self._attention_statistics(attended.weights, region_mask.unsqueeze(1))
        output: dict[str, Any] = {"question_to_regions_attention": attended.weights}
        for key in metadata[0] if metadata else ():
            output[key] = [item[key] for item in metadata or ()]
        targets = None if answer is None else self._targets(answer)
        if self.training:
            if targets is not None:
                output["loss"] = self._training_loss(attended, targets)
            return output

        # Shape: (batch_size, num_answers)
        log_marginal = self._latent_alignment.log_marginal(
            self._queries(attended, torch.arange(len(regions), device=regions.device))
        )
        output["answer_probs"] = torch.nn.functional.pad(log_marginal.exp(), (self._num_special_answers, 0))
        if targets is not None:
            known = (targets >= 0).nonzero().squeeze(1)
            log_probs = log_marginal[known, targets[known]]
            self._perplexity(log_probs)
            output["loss"] = -log_probs.sum() / max(1, len(log_probs))
            output["item_scores"] = self._item_scores(log_marginal, targets, metadata)
            self._accuracy(output["item_scores"])
        return output

    def score_answer(
        self,
        question: TextFieldTensors,
        regions: torch.Tensor,
        region_mask: torch.Tensor,
        answer: torch.Tensor,
        metadata: Optional[list[dict[str, Any]]] = None,
    ) -> AnswerScores:
        """What the model holds of given answers; parameters as of `forward`."""
        attended = self._attend(question, regions, region_mask)
        targets = self._targets(answer)
        is_unknown = targets < 0
        targets = targets.clamp(min=0)
        items = torch.arange(len(targets), device=targets.device)
        queries = self._queries(attended, items, targets)
        of_regions = (
            self._latent_alignment.posterior(queries),
            self._latent_alignment.approximate_posterior(queries, self._posterior_scores(attended, items, targets)),
        )
        return AnswerScores(
            self._latent_alignment.log_marginal(queries).masked_fill(is_unknown, -torch.inf),
            attended.weights.squeeze(1),
            *(None if one is None else one.masked_fill(is_unknown.unsqueeze(1), 0.0) for one in of_regions),
        )

    def _attend(self, question: TextFieldTensors, regions: torch.Tensor, region_mask: torch.Tensor) -> Attended:
        question_mask = get_text_field_mask(question)
        # Shape: (batch_size, question_dim)
        encoded_question = self._question_encoder(self._dropout(self._text_field_embedder(question)), question_mask)
        # Shape: (batch_size, num_regions, value_dim)
        values = self._region_feedforward(self._dropout(self._region_norm(regions)))
        if self._region_encoder is not None:
            values = self._region_encoder(values, region_mask)
        # Shape: (batch_size, 1, query_dim)
        query = self._query_feedforward(encoded_question).unsqueeze(1)
        # Shape (both): (batch_size, 1, num_regions)
        weights, scores = attend(self._attention, query, values, region_mask)
        return Attended(query, weights, scores, values, region_mask, self._question_feedforward(encoded_question))

    def _targets(self, answer: torch.Tensor) -> torch.Tensor:
        """The answers' numbers without padding and the unknown answer, which are negative."""
        return answer - self._num_special_answers

    def _training_loss(self, attended: Attended, targets: torch.Tensor) -> torch.Tensor:
        # Shape: (num_known,)
        known = (targets >= 0).nonzero().squeeze(1)
        if not len(known):
            return attended.query.sum() * 0  # something to go backward from
        objective = self._latent_alignment.objective(
            self._queries(attended, known, targets), self._posterior_scores(attended, known, targets)
        )
        return -objective.sum() / len(known)

    def _queries(
        self, attended: Attended, items: torch.Tensor, targets: Optional[torch.Tensor] = None
    ) -> AlignmentQueries:
        """
        Those of the questions with these numbers: of the `targets`, shape (batch_size,), or without them of all
        answers.
        """

        def log_likelihood(contexts: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            own = items[numbers]
            # Shape: (num_contexts, num_answers)
            log_probs = self._answer_layer(self._classifier_feedforward(contexts * attended.factors[own])).log_softmax(
                dim=-1
            )
            return log_probs if targets is None else log_probs.gather(1, targets[own].unsqueeze(1)).squeeze(1)

        return AlignmentQueries(
            weights=attended.weights[items, 0],
            mask=attended.region_mask[items],
            values=attended.values,
            items=items,
            log_likelihood=log_likelihood,
            scores=None if attended.scores is None else attended.scores[items, 0],
        )

    def _posterior_scores(
        self, attended: Attended, items: torch.Tensor, targets: torch.Tensor
    ) -> Optional[torch.Tensor]:
        """What the inference network says of the questions with these numbers, if there is one."""
        if self._latent_alignment.inference_network is None:
            return None
        assert self._answer_embedding is not None
        # Shape: (num_items, 1, num_regions)
        scores = self._latent_alignment.inference_network(
            attended.values[items],
            attended.region_mask[items],
            attended.query[items],
            self._answer_embedding(targets[items]).unsqueeze(1),
            torch.ones_like(items, dtype=torch.bool).unsqueeze(1),
        )
        return scores.squeeze(1)

    def _item_scores(
        self, log_marginal: torch.Tensor, targets: torch.Tensor, metadata: Optional[list[dict[str, Any]]]
    ) -> torch.Tensor:
        best = log_marginal.argmax(dim=-1)
        if not metadata or "answer_scores" not in metadata[0]:
            return (best == targets).float()
        given = (self._answer_name(number) for number in best.tolist())
        scores = [item["answer_scores"].get(answer, 0.0) for item, answer in zip(metadata, given, strict=True)]
        return torch.tensor(scores, device=targets.device)

    def _answer_name(self, number: int) -> str:
        return self.vocab.get_token_from_index(number + self._num_special_answers, self._answer_namespace)

    def make_output_human_readable(self, output_dict: dict[str, Any]) -> dict[str, Any]:
        """
        Adds "answer", the most probable one, and "probabilities", those of the most probable answers by name; cuts
        the attention to the regions that there are, if the metadata is there to tell their number.
        """
        answer_probs = output_dict["answer_probs"][:, self._num_special_answers :]
        top = answer_probs.topk(min(NUM_SHOWN_ANSWERS, answer_probs.size(1)))
        output_dict["probabilities"] = [
            {
                self._answer_name(number): probability
                for number, probability in zip(numbers, probabilities, strict=True)
            }
            for numbers, probabilities in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]
        output_dict["answer"] = [next(iter(probabilities)) for probabilities in output_dict["probabilities"]]
        if "num_regions" in output_dict:
            output_dict["question_to_regions_attention"] = [
                weights[:, :number].detach().cpu().numpy()
                for weights, number in zip(
                    output_dict["question_to_regions_attention"], output_dict["num_regions"], strict=True
                )
            ]
        return output_dict

    def get_metrics(self, reset: bool = False) -> dict[str, float]:
        """
        Of what was evaluated: "accuracy", VQA's, the mean of "item_scores", and "perplexity", e to the mean of -log of
        the answer's marginal probability. While the model trains, neither: most alignments do not compute the
        marginal then.

        How sparse and structured the attention is, by the names of `AttentionStatistics`:
        "question_to_regions_zeros" and so on. What an attention learns of its regularization follows by the
        attention's name: "attention_gamma", "attention_lam"; with alignment attention there are "alignment_loss" and
        "alignment_distance". Without `reset`, as AllenNLP asks after each batch, there are of the statistics the zeros
        alone.
        """
        metrics = {}
        if self._accuracy.count:
            metrics["accuracy"] = self._accuracy.get_metric(reset)
        perplexity = self._perplexity.get_metric(reset)
        if perplexity is not None:
            metrics["perplexity"] = perplexity
        return {
            **metrics,
            **{
                f"question_to_regions_{name}": value
                for name, value in self._attention_statistics.get_metric(reset).items()
                if reset or name == "zeros"
            },
            **self.alignment_metrics(reset),
            **learned_regularization(self),
        }
