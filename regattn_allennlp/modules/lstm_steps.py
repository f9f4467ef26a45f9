from typing import Optional

import torch
from torch.nn.functional import dropout, linear


class LstmSteps:
    """
    The steps of an LSTM, one by one, where what a step is fed is known only after the one before. They give what the
    module itself gives if it is called for each step, in less time: what is known before the first step is projected
    for all steps at once, and no call begins with bringing the weights in order.

    # Parameters

    lstm : `torch.nn.LSTM`
        Of one direction, with biases.
    input_dim : `int`
        How many dimensions of its inputs are known before the first step. The others are fed; they come after these.
    """

    def __init__(self, lstm: torch.nn.LSTM, input_dim: int) -> None:
        self._dropout = lstm.dropout
        self._training = lstm.training
        self._bias: list[torch.Tensor] = []
        # Of each layer, the weights of what is fed, or of the layer below, beside those of its own state.
        self._weight: list[torch.Tensor] = []
        for layer in range(lstm.num_layers):
            of_inputs, of_state, *biases = (
                getattr(lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            if layer == 0:
                self._of_known_inputs, of_inputs = of_inputs[:, :input_dim], of_inputs[:, input_dim:]
            self._weight.append(torch.cat([of_inputs, of_state], dim=1))
            self._bias.append(biases[0] + biases[1])

    def of_inputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """What steps take of their known inputs. Shapes: (..., input_dim), and of the result (..., 4 * hidden_dim)."""
        return linear(inputs, self._of_known_inputs, self._bias[0])

    def step(
        self, of_inputs: torch.Tensor, fed: Optional[torch.Tensor], hidden: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        # Parameters

        of_inputs : `torch.Tensor`
            Shape (batch_size, 4 * hidden_dim).
        fed : `torch.Tensor`, optional
            Shape (batch_size, fed_dim); `None` if all inputs are known.
        hidden, cell : `torch.Tensor`
            Shape (num_layers, batch_size, hidden_dim): the states before the step.

        # Returns

        The states after it; the last layer's hidden state is the output.
        """
        hiddens: list[torch.Tensor] = []
        cells: list[torch.Tensor] = []
        gates = of_inputs
        for layer, (weight, state) in enumerate(zip(self._weight, hidden, strict=True)):
            if layer == 0:
                below = [] if fed is None else [fed]
            else:
                below = [dropout(hiddens[-1], self._dropout, self._training)]
                gates = self._bias[layer]
            # Shape: (batch_size, 4 * hidden_dim)
            gates = gates + linear(torch.cat([*below, state], dim=1), weight)
            # Shape (all): (batch_size, hidden_dim)
            into, forget, candidate, out = gates.chunk(4, dim=1)
            cells.append(forget.sigmoid() * cell[layer] + into.sigmoid() * candidate.tanh())
            hiddens.append(out.sigmoid() * cells[-1].tanh())
        return torch.stack(hiddens), torch.stack(cells)
