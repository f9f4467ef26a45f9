import pytest
import torch

from regattn_allennlp.modules.lstm_steps import LstmSteps

BATCH_SIZE, INPUT_DIM, FED_DIM, HIDDEN_DIM, NUM_STEPS = 3, 4, 2, 5, 6


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("fed_dim", [0, FED_DIM])
def test_steps_are_those_of_torchs_lstm_with_their_gradients(num_layers, fed_dim):
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(INPUT_DIM + fed_dim, HIDDEN_DIM, num_layers, batch_first=True).double()
    inputs = torch.randn(BATCH_SIZE, NUM_STEPS, INPUT_DIM + fed_dim, dtype=torch.float64, requires_grad=True)
    first = torch.randn(2, num_layers, BATCH_SIZE, HIDDEN_DIM, dtype=torch.float64, requires_grad=True)
    leaves = [inputs, first, *lstm.parameters()]

    expected, expected_last = lstm(inputs, tuple(first))
    steps = LstmSteps(lstm, INPUT_DIM)
    hidden, cell = first
    outputs = []
    for number, of_inputs in enumerate(steps.of_inputs(inputs[..., :INPUT_DIM]).unbind(1)):
        fed = inputs[:, number, INPUT_DIM:] if fed_dim else None
        hidden, cell = steps.step(of_inputs, fed, hidden, cell)
        outputs.append(hidden[-1])
    torch.testing.assert_close(torch.stack(outputs, dim=1), expected)
    torch.testing.assert_close((hidden, cell), expected_last)
    gradients, expected_gradients = (
        torch.autograd.grad(output.square().sum(), leaves) for output in (torch.stack(outputs, dim=1), expected)
    )
    torch.testing.assert_close(gradients, expected_gradients)


def test_between_layers_units_are_dropped_in_training_alone():
    lstm = torch.nn.LSTM(INPUT_DIM, HIDDEN_DIM, 2, dropout=0.5)
    state = torch.zeros(2, 2, BATCH_SIZE, HIDDEN_DIM)
    inputs = torch.ones(BATCH_SIZE, INPUT_DIM)

    def output(training):
        steps = LstmSteps(lstm.train(training), INPUT_DIM)
        return steps.step(steps.of_inputs(inputs), None, *state)[0]

    assert not torch.equal(output(True)[1], output(True)[1])
    assert torch.equal(output(True)[0], output(False)[0])
    assert torch.equal(output(False), output(False))
