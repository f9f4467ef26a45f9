import math

import pytest
import torch

from tests.modules.alignment_regularizer.common import HEAD_DIM, build, move_together, points


def by_loops(regularizer, queries, keys) -> float:
    """The definition, given what the discriminator says of each point."""
    of_queries = regularizer._discriminator(queries)[..., 0]
    of_keys = regularizer._discriminator(keys)[..., 0]
    total = 0.0
    for item in range(queries.size(0)):
        for head in range(queries.size(1)):
            right_of_queries = [1 / (1 + math.exp(-logit)) for logit in of_queries[item, head].tolist()]
            right_of_keys = [1 - 1 / (1 + math.exp(-logit)) for logit in of_keys[item, head].tolist()]
            logs = [math.log(right) for right in (*right_of_queries, *right_of_keys)]
            total += math.log(2) + sum(logs) / len(logs)
    return total / queries.size(0)


def test_is_the_definition():
    regularizer = build("adversarial")
    queries, keys = points()
    assert regularizer(queries, keys).item() == pytest.approx(by_loops(regularizer, queries, keys))


def test_a_discriminator_that_guesses_has_0():
    regularizer = build("adversarial")
    for parameter in regularizer.parameters():
        torch.nn.init.zeros_(parameter)
    assert regularizer(*points()).item() == pytest.approx(0)


def test_the_discriminator_is_trained_against_the_distance():
    regularizer = build("adversarial")
    queries, keys = points()
    distance = regularizer(queries, keys)
    distance.backward()
    for parameter in regularizer.parameters():
        for index in range(0, parameter.numel(), 7):
            values = []
            for change in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter.view(-1)[index] += change
                    values.append(regularizer(queries, keys).item())
                    parameter.view(-1)[index] -= change
            slope = (values[0] - values[1]) / 2e-5
            assert parameter.grad.view(-1)[index].item() == pytest.approx(-slope, abs=1e-8)


def test_the_best_discriminator_finds_the_jensen_shannon_divergence():
    """
    Of the points 0 and 1, of which queries have 0 three times of four and keys once: with m = 1/2 in both,
    JS = 3/4 log(3/2) + 1/4 log(1/2).
    """
    regularizer = build("adversarial", num_heads=1, head_dim=1)
    queries = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.double).view(1, 1, 4, 1)
    keys = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.double).view(1, 1, 4, 1)
    optimizer = torch.optim.Adam(regularizer.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        regularizer(queries, keys).backward()
        optimizer.step()
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert regularizer(queries, keys).item() == pytest.approx(expected, abs=1e-4)


def test_two_clouds_move_together():
    torch.manual_seed(1)
    regularizer = build("adversarial", num_heads=1, head_dim=HEAD_DIM)
    before, after = move_together(regularizer, num_steps=500, learning_rate=0.02)
    assert before > 2 and after < 0.2 * before
