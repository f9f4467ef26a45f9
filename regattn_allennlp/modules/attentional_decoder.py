from typing import Literal, NamedTuple, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules.attention import Attention
from allennlp.nn.util import masked_mean

from regattn_allennlp.modules.attention.attend import attend
from regattn_allennlp.modules.lstm_steps import LstmSteps

# By these names AllenNLP's beam search knows the states of several layers: of shape (num_layers, group_size, dim).
HIDDEN, CELL = "decoder_hidden", "decoder_context"
# What the step before feeds, with input feeding: (group_size, fed_dim).
FED = "fed"

Fed = Literal["attentional_vector", "context"]
FirstState = Literal["mean", "zeros"]


class Memory(NamedTuple):
    """
    What a decoder attends to.

    rows : shape (batch_size, num_positions, memory_dim)
    mask : shape (batch_size, num_positions)
    values : shape (batch_size, num_positions, attentional_dim)
        The rows' part in attentional vectors, W_x x. That part is linear, so mixtures of values serve as the values of
        mixtures: none is ever projected again.
    """

    rows: torch.Tensor
    mask: torch.Tensor
    values: torch.Tensor


class Decoded(NamedTuple):
    """
    What a decoder gives for each step, all of shape (batch_size, num_steps, ...).

    states : (..., hidden_dim)
        The queries, which attend.
    projected_states : (..., attentional_dim)
        Their part in attentional vectors, W_s s.
    weights : (..., num_positions)
    scores : (..., num_positions), or `None` for attentions that give none
    dropout : (..., attentional_dim), or `None`
        Factors for attentional vectors: the units dropped are 0.
    """

    states: torch.Tensor
    projected_states: torch.Tensor
    weights: torch.Tensor
    scores: Optional[torch.Tensor]
    dropout: Optional[torch.Tensor]


class AttentionalDecoder(torch.nn.Module):
    """
    An LSTM that attends (Luong et al. 2015, arXiv 1508.04025, sections 3.1 to 3.3). In step t,

        s_t = LSTM([y_(t-1); f_(t-1)], s_(t-1))       f_(t-1), what is fed, with input feeding alone
        p_t = attention(s_t, memory)                  weights over the memory's rows x_1..x_n
        c_t = sum_i p_ti x_i                          the context, which is the expected row
        a_t = tanh(W_x c_t + W_s s_t + b)             the attentional vector, of which the next token is predicted

    What is fed is a_t or c_t, and 0 before the first step. It is always that of the expected row, also if alignments
    are latent variables: then no step depends on how the steps before it were aligned (Deng et al. 2018, section 5).

    # Parameters

    attention : `Attention`
    input_dim : `int`
        Of the embedded tokens y.
    hidden_dim, memory_dim, attentional_dim : `int`
        Of s, x and a.
    num_layers : `int`
        Of the LSTM; the last one's states attend.
    input_feeding : "attentional_vector", "context" or `None`
        What is fed: a_t as in Luong et al. 2015, c_t as in Bahdanau et al. 2015 and Deng et al. 2018, or nothing.
    first_state : "mean" or "zeros", optional (default = `"mean"`)
        The state before the first step: W m + b of the mean m of the memory's rows, with tanh for the hidden state,
        which serves any encoder, one with final states or without; or zeros.
    dropout : `float`
        For the attentional vectors, fed or not, and between layers. All the vectors of one step that differ in the
        aligned row alone have the same units dropped: one network at a time is marginalized over.
    """

    def __init__(
        self,
        attention: Attention,
        input_dim: int,
        hidden_dim: int,
        memory_dim: int,
        attentional_dim: int,
        num_layers: int,
        input_feeding: Optional[Fed],
        dropout: float,
        first_state: FirstState = "mean",
    ) -> None:
        super().__init__()
        _check_attention(attention, hidden_dim, memory_dim)
        self.attention = attention
        self.attentional_dim = attentional_dim
        self.fed_top_k: Optional[int] = None
        self._input_feeding = input_feeding
        self._fed_dim = {None: 0, "attentional_vector": attentional_dim, "context": memory_dim}[input_feeding]
        self._dropout = torch.nn.Dropout(dropout)
        self._input_dim = input_dim
        self._lstm = torch.nn.LSTM(
            input_dim + self._fed_dim,
            hidden_dim,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self._initial_layer: Optional[torch.nn.Linear] = None
        if first_state == "mean":
            self._initial_layer = torch.nn.Linear(memory_dim, 2 * num_layers * hidden_dim)
        self._value_layer = torch.nn.Linear(memory_dim, attentional_dim)
        self._state_layer = torch.nn.Linear(hidden_dim, attentional_dim, bias=False)

    def remember(self, rows: torch.Tensor, mask: torch.Tensor) -> Memory:
        return Memory(rows, mask, self._value_layer(rows))

    def initial_state(self, memory: Memory) -> dict[str, torch.Tensor]:
        """The state before the first step, as AllenNLP's beam search takes it."""
        batch_size = len(memory.rows)
        if self._initial_layer is None:
            hidden, cell = memory.rows.new_zeros(2, self._lstm.num_layers, batch_size, self._lstm.hidden_size)
        else:
            mean = masked_mean(memory.rows, memory.mask.unsqueeze(2), dim=1)
            # Shape (both): (num_layers, batch_size, hidden_dim)
            hidden, cell = (
                states.unflatten(1, (self._lstm.num_layers, -1)).transpose(0, 1).contiguous()
                for states in self._initial_layer(mean).chunk(2, dim=1)
            )
            hidden = hidden.tanh()
        state = {HIDDEN: hidden, CELL: cell}
        if self._input_feeding:
            state[FED] = memory.values.new_zeros(batch_size, self._fed_dim)
        return state

    def forward(self, inputs: torch.Tensor, memory: Memory) -> Decoded:
        """
        All steps, given the tokens before each of them.

        # Parameters

        inputs : `torch.Tensor`
            Shape (batch_size, num_steps, input_dim): the embedded tokens.
        """
        batch_size, num_steps, _ = inputs.size()
        state = self.initial_state(memory)
        dropout = None
        if self.training and self._dropout.p:
            dropout = self._dropout(memory.values.new_ones(batch_size, num_steps, self.attentional_dim))
        if not self._input_feeding:
            states, _ = self._lstm(inputs, (state[HIDDEN], state[CELL]))
            weights, scores = attend(self.attention, states, memory.rows, memory.mask)
            return Decoded(states, self._state_layer(states), weights, scores, dropout)
        lstm = LstmSteps(self._lstm, self._input_dim)
        # Not by indices: the gradient of each would be a tensor for all steps.
        of_inputs = lstm.of_inputs(inputs).unbind(1)
        dropouts = [None] * num_steps if dropout is None else dropout.unbind(1)
        steps = [
            self._step(lstm, of_step, memory, state, dropout_of_step)
            for of_step, dropout_of_step in zip(of_inputs, dropouts, strict=True)
        ]
        step_scores = [step.scores for step in steps if step.scores is not None]
        return Decoded(
            torch.cat([step.states for step in steps], dim=1),
            torch.cat([step.projected_states for step in steps], dim=1),
            torch.cat([step.weights for step in steps], dim=1),
            torch.cat(step_scores, dim=1) if step_scores else None,
            dropout,
        )

    def step(self, inputs: torch.Tensor, memory: Memory, state: dict[str, torch.Tensor]) -> Decoded:
        """
        One step, of one or several sequences for each item of the memory: those of an item follow each other.

        # Parameters

        inputs : `torch.Tensor`
            Shape (group_size, input_dim): the embedded tokens before the step.
        state : `Dict[str, torch.Tensor]`
            Is made that after the step.

        # Returns

        What is of shape (batch_size, group_size // batch_size, ...): an item's sequences are in the place of steps.
        """
        lstm = LstmSteps(self._lstm, self._input_dim)
        return self._step(lstm, lstm.of_inputs(inputs), memory, state, None)

    def _step(
        self,
        lstm: LstmSteps,
        of_inputs: torch.Tensor,
        memory: Memory,
        state: dict[str, torch.Tensor],
        dropout: Optional[torch.Tensor],
    ) -> Decoded:
        state[HIDDEN], state[CELL] = lstm.step(of_inputs, state.get(FED), state[HIDDEN], state[CELL])
        # Shape: (batch_size, group_size // batch_size, hidden_dim)
        states = state[HIDDEN][-1].unflatten(0, (len(memory.rows), -1))
        weights, scores = attend(self.attention, states, memory.rows, memory.mask)
        projected_states = self._state_layer(states)
        fed_weights = weights
        if self.fed_top_k is not None and not self.training:
            fed_weights = _renormalized_top_k(weights, self.fed_top_k)
        if self._input_feeding == "attentional_vector":
            fed = torch.baddbmm(projected_states, fed_weights, memory.values).tanh().flatten(0, 1)
            state[FED] = fed if dropout is None else fed * dropout
        elif self._input_feeding == "context":
            state[FED] = torch.bmm(fed_weights, memory.rows).flatten(0, 1)
        return Decoded(states, projected_states, weights, scores, None)


def _check_attention(attention: Attention, hidden_dim: int, memory_dim: int) -> None:
    try:
        with torch.no_grad():
            attend(attention, torch.zeros(1, 1, hidden_dim), torch.zeros(1, 1, memory_dim), torch.ones(1, 1).bool())
    except RuntimeError as error:
        raise ConfigurationError(
            f'The "attention" does not fit. It is between the decoder\'s states, of dimension {hidden_dim} '
            f'("decoder_hidden_dim"), and the encoder\'s, of dimension {memory_dim}. A dot product wants them equal, '
            f'"bilinear" similarity "matrix_1_dim": {hidden_dim} and "matrix_2_dim": {memory_dim}. ({error})'
        ) from error


def _renormalized_top_k(weights: torch.Tensor, k: int) -> torch.Tensor:
    """The `k` largest weights of each row, divided by their sum; the others are 0."""
    values, positions = weights.topk(min(k, weights.size(-1)), dim=-1)
    return torch.zeros_like(weights).scatter(-1, positions, values / values.sum(-1, keepdim=True))
