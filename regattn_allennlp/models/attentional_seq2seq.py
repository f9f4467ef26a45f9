from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Optional, Union

import torch
from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError, check_dimensions_match
from allennlp.common.util import END_SYMBOL, START_SYMBOL
from allennlp.data import TextFieldTensors, Vocabulary
from allennlp.models import Model
from allennlp.modules import TextFieldEmbedder
from allennlp.modules.attention import Attention
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from allennlp.nn import InitializerApplicator
from allennlp.nn.beam_search import BeamSearch
from allennlp.nn.util import get_text_field_mask, get_token_ids_from_text_field_tensors
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from regattn_allennlp.data.token_links import TokenLinks, gold_links
from regattn_allennlp.data.tokenizers.join_tokens import TokenUnit, join_tokens
from regattn_allennlp.models.attention_model import AttentionModel
from regattn_allennlp.modules.attention import learned_regularization
from regattn_allennlp.modules.attentional_decoder import AttentionalDecoder, Decoded, Fed, FirstState, Memory
from regattn_allennlp.modules.latent_alignment import AlignmentQueries, LatentAlignment, SoftAlignment
from regattn_allennlp.modules.require_one_of import require_one_of
from regattn_allennlp.training.metrics import AlignmentErrorRate, AttentionStatistics, TokenPerplexity
from regattn_allennlp.training.metrics.text_metrics import TextMetric

# How many numbers the logits of one piece of the output layer's work may be, 256 MiB in float32. Latent alignments
# want those of each target token with each source token: what is more is computed in pieces, once more for the
# gradient, so that memory does not grow with it.
MAX_LOGITS = 2**26

LossNormalization = Literal["tokens", "sentences"]

# In the state of a beam search, with end normalization: of shape (group_size,), in tokens.
SOURCE_LENGTH, TARGET_LENGTH = "source_length", "target_length"


class TargetScores(NamedTuple):
    """
    What a model holds of given targets, the end symbol being the last of their tokens.

    log_probs : shape (batch_size, target_length)
        Of each token's marginal probability, in nats; 0 at padding.
    weights : shape (batch_size, target_length, source_length)
        The attention, which is the prior of a latent alignment.
    posterior : shape (batch_size, target_length, source_length), or `None` where the alignment is not latent
        See `LatentAlignment.posterior`. Without gradients, as what follows.
    approximate_posterior : shape (batch_size, target_length, source_length), or `None` without an inference network
    """

    log_probs: torch.Tensor
    weights: torch.Tensor
    posterior: Optional[torch.Tensor]
    approximate_posterior: Optional[torch.Tensor]


@Model.register("attentional_seq2seq")
class AttentionalSeq2Seq(AttentionModel):
    """
    Writes a text given another: an encoder, and an LSTM decoder that attends to what the encoder says of the source
    (Bahdanau et al. 2015, arXiv 1409.0473; Luong et al. 2015, arXiv 1508.04025). See `AttentionalDecoder` for the
    steps. The next token's probabilities are softmax(W a_t + b), a_t the attentional vector.

    Training maximizes what the `latent_alignment` says, by default log p(y_t | y_<t, source) of the attention as it
    is. Evaluation is always by the marginal likelihood of the true target. Without input feeding, a whole target is
    computed in one pass.

    Registered as a `Model` with name "attentional_seq2seq".

    # Parameters

    vocab : `Vocabulary`
    source_text_field_embedder : `TextFieldEmbedder`
    encoder : `Seq2SeqEncoder`
        Any; its output is what is attended to.
    attention : `Attention`
        Any that gives weights: "softmax", "sparsemax", "fusedmax", "oscarmax", "regularized", or one of AllenNLP's.
        Its vectors are the decoder's states and the encoder's output; by a dot product, `decoder_hidden_dim` has to
        be the encoder's output dimension.
    target_embedding_dim : `int`
    decoder_hidden_dim : `int`
        Also the dimension of the attentional vectors, if `tied_embeddings` is false.
    num_decoder_layers : `int`, optional (default = `1`)
    input_feeding : `Union[bool, str]`, optional (default = `True`)
        What each step is given of the one before: "attentional_vector", which `True` is short for (Luong et al. 2015,
        section 3.3); "context", what it expected to attend to (Bahdanau et al. 2015; Deng et al. 2018); or, if
        `False`, nothing.
    first_state : `str`, optional (default = `"mean"`)
        Of the decoder: made from the "mean" of what the encoder says, or "zeros".
    tied_embeddings : `bool`, optional (default = `False`)
        One matrix embeds the target's tokens and scores them (Press & Wolf 2017). Then the attentional vectors are of
        dimension `target_embedding_dim`, whatever `decoder_hidden_dim` is.
    dropout : `float`, optional (default = `0.0`)
        Of the embedded tokens and of the attentional vectors; between the decoder's layers.
    label_smoothing : `float`, optional (default = `0.0`)
        In training, the share of each target token's probability that is spread evenly over the vocabulary (Szegedy
        et al. 2016). Of the "soft" alignment alone: a smoothed target is no outcome whose likelihood could be
        marginalized.
    loss_normalization : `str`, optional (default = `"tokens"`)
        The loss is the mean over "tokens", or the mean over "sentences" of their tokens' sums. The latter is as many
        times larger as a sentence has tokens: with gradients clipped to a norm, its steps are longer.
    latent_alignment : `LatentAlignment`, optional (default = "soft")
    beam_search : `BeamSearch`, optional (default = a beam of 5, at most 100 tokens with the end)
        AllenNLP's. A length penalty is its `"final_sequence_scorer": {"type": "length-normalized-sequence-log-prob",
        "length_penalty": 1.0}`, or "gnmt-length-penalty"; the predictions are then in the order of these scores.
    end_normalization : `float`, optional (default = `0.0`)
        In the beam search, this times the source's length divided by one more than the number of the target's tokens,
        the end symbol included, is taken from the end symbol's log-probability: short targets end less easily. It
        changes what is found, not the log-probabilities that are reported. OpenNMT has it as eos_norm.
    num_best : `int`, optional (default = `1`)
        How many predictions there are for a source: the first of the beam.
    text_metrics : `List[TextMetric]`, optional
        What predicted texts are measured by, each against "target" of the metadata. In evaluation they cost a beam
        search; in training they are not measured.
    target_units : `str`, optional (default = `"words"`)
        What the target's tokens are, "words", "characters" or "subwords": see `join_tokens`.
    target_namespace : `str`, optional (default = `"target_tokens"`)
        Of the vocabulary.
    alignment_error_rate : `AlignmentErrorRate`, optional
        How links are made of the attention, `{"threshold": 0.2}`; by default each token of the target is linked to the
        one that it attends to most. Measured in evaluation, where the metadata has gold links.
    initializer : `InitializerApplicator`, optional (default = PyTorch's own initial weights)
        Tied embeddings are normal at first with variance 1 / `target_embedding_dim`, so that logits are not large.

    # Raises

    `ConfigurationError`
        If dimensions do not fit, the attention gives no weights, `label_smoothing` is asked for with a latent
        alignment, or the vocabulary has no start and end symbols.
    """

    default_predictor = "sequence_pairs"
    attention_directions = ("target_to_source",)
    self_attention_directions = dict.fromkeys(("_source_text_field_embedder", "_encoder"), ("source_to_source",))

    def __init__(
        self,
        vocab: Vocabulary,
        source_text_field_embedder: TextFieldEmbedder,
        encoder: Seq2SeqEncoder,
        attention: Attention,
        target_embedding_dim: int,
        decoder_hidden_dim: int,
        num_decoder_layers: int = 1,
        input_feeding: Union[bool, str] = True,
        first_state: str = "mean",
        tied_embeddings: bool = False,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        loss_normalization: str = "tokens",
        latent_alignment: Optional[Lazy[LatentAlignment]] = None,
        beam_search: Optional[Lazy[BeamSearch]] = None,
        end_normalization: float = 0.0,
        num_best: int = 1,
        text_metrics: Optional[list[TextMetric]] = None,
        target_units: str = "words",
        target_namespace: str = "target_tokens",
        alignment_error_rate: Optional[Lazy[AlignmentErrorRate]] = None,
        initializer: Optional[InitializerApplicator] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocab, **kwargs)
        check_dimensions_match(
            source_text_field_embedder.get_output_dim(),
            encoder.get_input_dim(),
            "source_text_field_embedder's output",
            "encoder's input",
        )
        self._start_index, self._end_index = (
            _index_of_symbol(vocab, symbol, target_namespace) for symbol in (START_SYMBOL, END_SYMBOL)
        )
        self._source_text_field_embedder = source_text_field_embedder
        self._encoder = encoder
        self._dropout = torch.nn.Dropout(dropout)
        num_tokens = vocab.get_vocab_size(target_namespace)
        self._target_embedding = torch.nn.Embedding(num_tokens, target_embedding_dim)
        self._decoder = AttentionalDecoder(
            attention,
            input_dim=target_embedding_dim,
            hidden_dim=decoder_hidden_dim,
            memory_dim=encoder.get_output_dim(),
            attentional_dim=target_embedding_dim if tied_embeddings else decoder_hidden_dim,
            num_layers=num_decoder_layers,
            input_feeding=_fed(input_feeding),
            dropout=dropout,
            first_state=require_one_of(FirstState, first_state, "first_state"),
        )
        self._output_layer = torch.nn.Linear(self._decoder.attentional_dim, num_tokens)
        if tied_embeddings:
            torch.nn.init.normal_(self._target_embedding.weight, std=target_embedding_dim**-0.5)
            self._output_layer.weight = self._target_embedding.weight
        self._latent_alignment = (latent_alignment or Lazy(LatentAlignment)).construct(
            attention=attention,
            memory_dim=encoder.get_output_dim(),
            query_dim=decoder_hidden_dim,
            target_dim=target_embedding_dim,
            source_dim=encoder.get_input_dim(),
        )
        self._decoder.fed_top_k = self._latent_alignment.marginal_top_k
        if not 0 <= label_smoothing < 1:
            raise ConfigurationError(f"label_smoothing must be at least 0 and below 1, but is {label_smoothing}")
        if label_smoothing and not isinstance(self._latent_alignment, SoftAlignment):
            raise ConfigurationError(
                f'"label_smoothing": {label_smoothing} is for the latent alignment "soft" alone, not for '
                f"{type(self._latent_alignment).__name__}: a smoothed target has no likelihood to be marginalized."
            )
        self._label_smoothing = label_smoothing
        self._loss_normalization = require_one_of(LossNormalization, loss_normalization, "loss_normalization")
        self._end_normalization = end_normalization
        self._beam_search = (beam_search or Lazy(BeamSearch, beam_size=5, max_steps=100)).construct(
            end_index=self._end_index, vocab=vocab
        )
        if not 1 <= num_best <= self._beam_search.beam_size:
            raise ConfigurationError(
                f'"num_best" must be from 1 to the beam\'s size, {self._beam_search.beam_size}, but is {num_best}'
            )
        if self._beam_search.beam_size > num_tokens:
            raise ConfigurationError(
                f"The beam's size, {self._beam_search.beam_size}, must be at most the number of tokens in the "
                f'vocabulary\'s namespace "{target_namespace}", {num_tokens}.'
            )
        self.num_best = num_best
        self._target_units = require_one_of(TokenUnit, target_units, "target_units")
        self._target_namespace = target_namespace
        self._text_metrics = text_metrics or []
        self._perplexity = TokenPerplexity()
        self._attention_statistics = AttentionStatistics()
        make_alignment_error_rate = alignment_error_rate or Lazy(AlignmentErrorRate)
        # By what the names of their numbers begin with: of the attention, and of the latent alignments' posterior.
        self._alignment_error_rates = {name: make_alignment_error_rate.construct() for name in ("", "posterior_")}
        if initializer is not None:
            initializer(self)

    @property
    def compared_metrics(self) -> tuple[str, ...]:
        return (*(name for metric in self._text_metrics for name in metric.names), "perplexity")

    @property
    def beam_size(self) -> int:
        """The most that `num_best` may be."""
        return self._beam_search.beam_size

    @property
    def given_distributions(self) -> tuple[str, ...]:
        return self._latent_alignment.distributions

    @property
    def attention(self) -> Attention:
        return self._decoder.attention

    def forward(  # type: ignore[override]
        self,
        source_tokens: TextFieldTensors,
        target_tokens: Optional[TextFieldTensors] = None,
        metadata: Optional[list[dict[str, Any]]] = None,
    ) -> dict[str, Any]:
        """
        # Parameters

        target_tokens : `TextFieldTensors`, optional
            With the start and the end symbol.
        metadata : `List[Dict[str, Any]]`, optional
            Of each item "source_tokens", and "target", the text, where `text_metrics` are measured.

        # Returns

        If a target is given:

        loss : scalar
            In nats per token, the end symbol being one and the start symbol none, or per sentence: in training what
            the latent alignment, or the smoothed cross-entropy, makes of it; in evaluation -log p of the tokens.
        item_scores : shape (batch_size,)
            If the model is not training: the best prediction's `sentence_score` by the first of the `text_metrics`;
            without any, the geometric mean of the probabilities of the target's tokens.
        target_to_source_attention : shape (batch_size, target_length, source_length)
            What each token of the target, the end symbol being the last, attended to when it was to be predicted.

        If none is given, or the model is not training and has `text_metrics`, there are predictions, ended by the end
        symbol or cut at the beam search's `max_steps`:

        predicted_ids : shape (batch_size, num_best, predicted_length)
            Behind an end symbol there may be more, which means nothing.
        predicted_log_probs : shape (batch_size, num_best)
            In nats, the end symbol's included; of the whole text, not by its length.
        predicted_attention : shape (batch_size, num_best, predicted_length, source_length)
        target_to_source_attention : shape (batch_size, predicted_length, source_length)
            The best prediction's, if no target is given.

        source_tokens, target_tokens : `List[List[str]]`
            If `metadata` has them, and a target is given.
        """
        embedded, memory = self._encode(source_tokens)
        output: dict[str, Any] = {}
        if metadata is not None:
            output["source_tokens"] = [item["source_tokens"] for item in metadata]
        if target_tokens is not None:
            links = None if self.training else gold_links(metadata)
            output.update(self._learn(embedded, memory, target_tokens, links))
            if metadata is not None:
                output["target_tokens"] = [item["target_tokens"] for item in metadata]
        if not self.training and (target_tokens is None or self._text_metrics):
            predicted = self._predict(memory)
            if target_tokens is not None:
                output["item_scores"] = self._measure_texts(predicted["predicted_ids"], metadata)
            # The predictions' attention is what there is to show where no target is given.
            output = {"target_to_source_attention": predicted["predicted_attention"][:, 0], **predicted, **output}
        return output

    def _encode(self, source_tokens: TextFieldTensors) -> tuple[torch.Tensor, Memory]:
        """The embedded source, of shape (batch_size, source_length, source_dim), and what is made of it."""
        # Shape: (batch_size, source_length)
        mask = get_text_field_mask(source_tokens)
        embedded = self._dropout(self._source_text_field_embedder(source_tokens))
        # Shape: (batch_size, source_length, memory_dim)
        rows = self._encoder(embedded, mask)
        return embedded, self._decoder.remember(rows, mask)

    def _learn(
        self,
        embedded: torch.Tensor,
        memory: Memory,
        target_tokens: TextFieldTensors,
        links: Optional[list[TokenLinks]],
    ) -> dict[str, Any]:
        targets, mask, decoded, queries = self._read_target(memory, target_tokens)
        output: dict[str, Any] = {"target_to_source_attention": decoded.weights}
        if self.training:
            objective = self._latent_alignment.objective(
                queries, self._posterior_scores(embedded, memory, decoded, targets, mask)
            )
            output["loss"] = self._loss(objective, len(mask))
        else:
            # Shape: (num_tokens,)
            log_probs = self._latent_alignment.log_marginal(queries)
            self._perplexity(log_probs)
            output["loss"] = self._loss(log_probs, len(mask))
            output["item_scores"] = (_sum_by_item(log_probs, queries.items, mask) / mask.sum(1)).exp()
        if links is not None:
            self._measure_alignments(decoded.weights, self._latent_alignment.posterior(queries), mask, links)
        word_mask = mask & (targets != self._end_index)
        self._attention_statistics(decoded.weights, word_mask.unsqueeze(2) & memory.mask.unsqueeze(1))
        return output

    def _measure_alignments(
        self, weights: torch.Tensor, posterior: Optional[torch.Tensor], mask: torch.Tensor, links: list[TokenLinks]
    ) -> None:
        """`posterior` has a row for each token in the `mask`, of shape (batch_size, target_length)."""
        # The rows are the target's tokens, of which the end symbol, the last, has no place in the links.
        transposed = [of_pair.transposed() for of_pair in links]
        self._alignment_error_rates[""](weights, transposed)
        if posterior is not None:
            of_targets = posterior.new_zeros(weights.shape).masked_scatter(mask.unsqueeze(2), posterior)
            self._alignment_error_rates["posterior_"](of_targets, transposed)

    def score_target(
        self,
        source_tokens: TextFieldTensors,
        target_tokens: TextFieldTensors,
        metadata: Optional[list[dict[str, Any]]] = None,
    ) -> TargetScores:
        """What the model holds of each token of given targets; parameters as of `forward`."""
        embedded, memory = self._encode(source_tokens)
        targets, mask, decoded, queries = self._read_target(memory, target_tokens)
        log_probs = self._latent_alignment.log_marginal(queries)
        with torch.no_grad():
            of_tokens = (
                self._latent_alignment.posterior(queries),
                self._latent_alignment.approximate_posterior(
                    queries, self._posterior_scores(embedded, memory, decoded, targets, mask)
                ),
            )
        return TargetScores(
            log_probs.new_zeros(mask.shape).masked_scatter(mask, log_probs),
            decoded.weights,
            *(
                None if one is None else one.new_zeros(decoded.weights.shape).masked_scatter(mask.unsqueeze(2), one)
                for one in of_tokens
            ),
        )

    def _read_target(
        self, memory: Memory, target_tokens: TextFieldTensors
    ) -> tuple[torch.Tensor, torch.Tensor, Decoded, AlignmentQueries]:
        """What is to be predicted and its mask, of shape (batch_size, target_length), and what is made of it."""
        # Shape: (batch_size, target_length + 1)
        ids = get_token_ids_from_text_field_tensors(target_tokens)
        targets, mask = ids[:, 1:], get_text_field_mask(target_tokens)[:, 1:]
        decoded = self._decode(memory, ids[:, :-1])
        return targets, mask, decoded, self._queries(memory, decoded, targets, mask)

    def _decode(self, memory: Memory, ids: torch.Tensor) -> Decoded:
        return self._decoder(self._dropout(self._target_embedding(ids)), memory)

    def _queries(
        self, memory: Memory, decoded: Decoded, targets: torch.Tensor, mask: torch.Tensor
    ) -> AlignmentQueries:
        """One query for each target token that `mask`, of shape (batch_size, target_length), has."""
        items, steps = mask.nonzero(as_tuple=True)
        # The tokens of all steps, one after the other: a selection of these has a faster gradient than that by a mask.
        tokens = items * mask.size(1) + steps

        def selected(tensor: Optional[torch.Tensor]) -> Any:
            return None if tensor is None else tensor.flatten(0, 1).index_select(0, tokens)

        return AlignmentQueries(
            weights=selected(decoded.weights),
            mask=memory.mask[items],
            values=memory.values,
            items=items,
            log_likelihood=self._log_likelihood(
                selected(decoded.projected_states), selected(decoded.dropout), targets[items, steps]
            ),
            scores=selected(decoded.scores),
            contexts=selected(torch.bmm(decoded.weights, memory.values)),
        )

    def _posterior_scores(
        self, embedded: torch.Tensor, memory: Memory, decoded: Decoded, targets: torch.Tensor, mask: torch.Tensor
    ) -> Optional[torch.Tensor]:
        network = self._latent_alignment.inference_network
        if network is None:
            return None
        rows = embedded if network.of_embedded_source else memory.rows
        # Shape: (batch_size, target_length, source_length)
        scores = network(rows, memory.mask, decoded.states, self._target_embedding(targets), mask)
        return scores[mask]

    def _loss(self, objective: torch.Tensor, batch_size: int) -> torch.Tensor:
        """Of the objective of each token, of shape (num_tokens,)."""
        return -objective.sum() / (batch_size if self._loss_normalization == "sentences" else len(objective))

    def _log_likelihood(
        self, projected_states: torch.Tensor, dropout: Optional[torch.Tensor], targets: Optional[torch.Tensor]
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """
        The `log_likelihood` of `AlignmentQueries`, whose contexts are values: of the `targets`, shape (num_queries,),
        or without them of all tokens.
        """
        # Only the soft alignment has any, and its objective is this likelihood itself.
        label_smoothing = self._label_smoothing if self.training else 0.0

        def logits(contexts: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            # Shape: (num_contexts, attentional_dim)
            attentional = (contexts + projected_states[numbers]).tanh()
            return self._output_layer(attentional if dropout is None else attentional * dropout[numbers])

        def of_all(contexts: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            return logits(contexts, numbers).log_softmax(dim=-1)

        def of_targets(contexts: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            assert targets is not None
            return -cross_entropy(
                logits(contexts, numbers), targets[numbers], reduction="none", label_smoothing=label_smoothing
            )

        def in_pieces(contexts: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            size = max(1, MAX_LOGITS // self._output_layer.out_features)
            if len(contexts) <= size:
                return of_targets(contexts, numbers)
            return torch.cat(
                [
                    # What is random was drawn before.
                    checkpoint(of_targets, *piece, use_reentrant=False, preserve_rng_state=False)
                    for piece in zip(contexts.split(size), numbers.split(size), strict=True)
                ]
            )

        return of_all if targets is None else in_pieces

    @torch.no_grad()
    def _predict(self, memory: Memory) -> dict[str, torch.Tensor]:
        batch_size, source_length = memory.mask.size()
        start = torch.full((batch_size,), self._start_index, device=memory.mask.device)

        def step(last_ids: torch.Tensor, state: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
            decoded = self._decoder.step(self._target_embedding(last_ids), memory, state)
            items = torch.arange(batch_size, device=start.device).repeat_interleave(decoded.weights.size(1))
            queries = AlignmentQueries(
                weights=decoded.weights.flatten(0, 1),
                mask=memory.mask[items],
                values=memory.values,
                items=items,
                log_likelihood=self._log_likelihood(decoded.projected_states.flatten(0, 1), None, None),
                scores=None if decoded.scores is None else decoded.scores.flatten(0, 1),
                contexts=torch.bmm(decoded.weights, memory.values).flatten(0, 1),
            )
            log_probs = self._latent_alignment.log_marginal(queries)
            if self._end_normalization:
                state[TARGET_LENGTH] = state[TARGET_LENGTH] + 1
                penalty = self._end_normalization * state[SOURCE_LENGTH] / (state[TARGET_LENGTH] + 1)
                log_probs[:, self._end_index] -= penalty
            return log_probs, state

        first_state = self._decoder.initial_state(memory)
        if self._end_normalization:
            first_state[SOURCE_LENGTH] = memory.mask.sum(1)
            first_state[TARGET_LENGTH] = torch.zeros_like(start)
        beams, _ = self._beam_search.search(start, first_state, step)
        # Shape: (batch_size, num_best, predicted_length)
        ids = beams[:, : self.num_best]
        # The attention of a search is spread over the beams of its steps: it is had by decoding what was found.
        # Shape: (batch_size * num_best, predicted_length)
        targets = ids.flatten(0, 1)
        ends = targets == self._end_index
        mask = ends.cumsum(1) - ends.long() == 0
        repeated = Memory(*(tensor.repeat_interleave(ids.size(1), dim=0) for tensor in memory))
        inputs = torch.cat([start.repeat_interleave(ids.size(1)).unsqueeze(1), targets[:, :-1]], dim=1)
        decoded = self._decode(repeated, inputs)
        queries = self._queries(repeated, decoded, targets, mask)
        log_probs = _sum_by_item(self._latent_alignment.log_marginal(queries), queries.items, mask)
        return {
            "predicted_ids": ids,
            "predicted_log_probs": log_probs.view(ids.shape[:2]),
            "predicted_attention": decoded.weights.view(*ids.size(), source_length),
        }

    def _measure_texts(self, ids: torch.Tensor, metadata: Optional[list[dict[str, Any]]]) -> torch.Tensor:
        if metadata is None or any(item.get("target") is None for item in metadata):
            raise ConfigurationError(
                'The text_metrics need the "target" of each item in the metadata of the instances.'
            )
        texts = [join_tokens(self._tokens(best), self._target_units) for best in ids[:, 0].tolist()]
        references = [item["target"] for item in metadata]
        for metric in self._text_metrics:
            metric(texts, references)
        scores = [self._text_metrics[0].sentence_score(*pair) for pair in zip(texts, references, strict=True)]
        return torch.tensor(scores, device=ids.device)

    def _tokens(self, ids: list[int]) -> list[str]:
        """The tokens before the end symbol."""
        length = ids.index(self._end_index) if self._end_index in ids else len(ids)
        return [self.vocab.get_token_from_index(index, self._target_namespace) for index in ids[:length]]

    def make_output_human_readable(self, output_dict: dict[str, Any]) -> dict[str, Any]:
        """
        In the place of "predicted_ids", "predicted_log_probs" and "predicted_attention" there are "predictions": for
        each item its `num_best`, from the best on, as dicts with the keys "text", "tokens", "log_prob" and
        "attention", each token's weights over the source's. "target_to_source_attention" is left for the true target's
        words.
        """
        of_target = output_dict.pop("target_to_source_attention")
        if "target_tokens" in output_dict:
            output_dict["target_to_source_attention"] = [
                weights[: len(target), : len(source)].detach().cpu().numpy()
                for weights, target, source in zip(
                    of_target, output_dict["target_tokens"], output_dict["source_tokens"], strict=True
                )
            ]
        if "predicted_ids" in output_dict:
            log_probs = output_dict.pop("predicted_log_probs").tolist()
            attention = output_dict.pop("predicted_attention").cpu().numpy()
            output_dict["predictions"] = []
            for item, beams in enumerate(output_dict.pop("predicted_ids").tolist()):
                source_length = len(output_dict["source_tokens"][item]) if "source_tokens" in output_dict else None
                predictions = []
                for number, ids in enumerate(beams):
                    tokens = self._tokens(ids)
                    predictions.append(
                        {
                            "text": join_tokens(tokens, self._target_units),
                            "tokens": tokens,
                            "log_prob": log_probs[item][number],
                            "attention": attention[item, number, : len(tokens), :source_length],
                        }
                    )
                output_dict["predictions"].append(predictions)
        return output_dict

    def get_metrics(self, reset: bool = False) -> dict[str, float]:
        """
        Of evaluation: "perplexity", of the marginal likelihood per token, and the scores of the `text_metrics`. In
        training and in evaluation: how sparse and structured the attention of the targets' words is, by the names of
        `AttentionStatistics`, as "target_to_source_zeros", and what the attention learns of its regularization, as
        "attention_gamma". Of evaluation by gold links: those of `AlignmentErrorRate`, of the attention, which is the
        prior of a latent alignment, and of its posterior as "posterior_alignment_error_rate". What was not measured is
        not there.

        Without `reset`, as AllenNLP asks after each batch, there are the perplexity and the zeros alone: the scores of
        texts take time, and there is no place for more beside the progress bar.
        """
        metrics: dict[str, float] = {}
        perplexity = self._perplexity.get_metric(reset)
        if reset:
            for metric in self._text_metrics:
                metrics.update(metric.get_metric(reset))
            for prefix, error_rate in self._alignment_error_rates.items():
                metrics.update({f"{prefix}{name}": value for name, value in error_rate.get_metric(reset).items()})
        if perplexity is not None:
            metrics["perplexity"] = perplexity
        statistics = self._attention_statistics.get_metric(reset)
        for name in statistics if reset else ("zeros",):
            metrics[f"target_to_source_{name}"] = statistics[name]
        metrics.update(self.alignment_metrics(reset))
        for name, value in learned_regularization(self).items():
            metrics[name.removeprefix("decoder.")] = value
        return metrics


def _fed(input_feeding: bool | str) -> Optional[Fed]:
    if isinstance(input_feeding, bool):
        return "attentional_vector" if input_feeding else None
    return require_one_of(Fed, input_feeding, "input_feeding")


def _index_of_symbol(vocab: Vocabulary, symbol: str, namespace: str) -> int:
    indices = vocab.get_token_to_index_vocabulary(namespace)
    if symbol not in indices:
        raise ConfigurationError(
            f'The vocabulary\'s namespace "{namespace}" has no "{symbol}". The targets of attentional_seq2seq stand '
            f'between "{START_SYMBOL}" and "{END_SYMBOL}", as the dataset reader "sequence_pairs" puts them; if their '
            f'tokens are in another namespace, name it as "target_namespace".'
        )
    return indices[symbol]


def _sum_by_item(values: torch.Tensor, items: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The sums of each item's values. Shape: (batch_size,)."""
    return values.new_zeros(len(mask)).index_add(0, items, values)
