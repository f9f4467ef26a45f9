import math

import pytest
import torch

from tests.modules.alignment_regularizer.common import HEAD_DIM, NUM_HEADS, build, move_together, points


def cosine(x: list[float], y: list[float]) -> float:
    lengths = math.hypot(*x) * math.hypot(*y)
    return sum(a * b for a, b in zip(x, y, strict=True)) / lengths


def by_loops(regularizer, queries, keys) -> float:
    """The definition for one sequence, given what the two networks say of each point."""
    navigated = [regularizer._navigator(one)[0].tolist() for one in (queries, keys)]
    criticized = [regularizer._critic(one)[0].tolist() for one in (queries, keys)]
    total = 0.0
    for head in range(NUM_HEADS):
        num_tokens = queries.size(2)
        everything = [*queries[0, head].tolist(), *keys[0, head].tolist()]
        scale = sum(math.dist(x, y) ** 2 for x in everything for y in everything) / len(everything) ** 2
        closeness, cost = {}, {}
        for q in range(num_tokens):
            for k in range(num_tokens):
                closeness[q, k] = math.exp(2 * cosine(navigated[0][head][q], navigated[1][head][k]) - 2)
                own = math.dist(everything[q], everything[num_tokens + k]) ** 2 / scale
                cost[q, k] = own + 1 - cosine(criticized[0][head][q], criticized[1][head][k])
        for k in range(num_tokens):
            among = sum(closeness[q, k] for q in range(num_tokens))
            total += sum(closeness[q, k] / among * cost[q, k] for q in range(num_tokens)) / num_tokens / 2
        for q in range(num_tokens):
            among = sum(closeness[q, k] for k in range(num_tokens))
            total += sum(closeness[q, k] / among * cost[q, k] for k in range(num_tokens)) / num_tokens / 2
    return total


def test_is_the_definition():
    regularizer = build("conditional_transport")
    queries, keys = points(batch_size=1)
    assert regularizer(queries, keys).item() == pytest.approx(by_loops(regularizer, queries, keys))


def test_both_directions_count_alike():
    regularizer = build("conditional_transport")
    queries, keys = points()
    torch.testing.assert_close(regularizer(keys, queries), regularizer(queries, keys))


def test_the_navigator_is_trained_for_the_distance_and_the_critic_against_it():
    regularizer = build("conditional_transport")
    queries, keys = points()
    regularizer(queries, keys).backward()
    for name, parameter in regularizer.named_parameters():
        sign = -1 if name.startswith("_critic") else 1
        largest = parameter.grad.abs().view(-1).argmax()
        values = []
        for change in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.view(-1)[largest] += change
                values.append(regularizer(queries, keys).item())
                parameter.view(-1)[largest] -= change
        slope = (values[0] - values[1]) / 2e-5
        assert abs(slope) > 1e-6
        assert parameter.grad.view(-1)[largest].item() == pytest.approx(sign * slope, rel=1e-5)


def test_two_clouds_move_together():
    torch.manual_seed(1)
    regularizer = build("conditional_transport", num_heads=1, head_dim=HEAD_DIM)
    before, after = move_together(regularizer, num_steps=500, learning_rate=0.02)
    assert before > 2 and after < 0.2 * before
