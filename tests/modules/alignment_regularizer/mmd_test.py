import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.modules.alignment_regularizer.common import HEAD_DIM, NUM_HEADS, build, move_together, points

BANDWIDTHS = [0.3, 2.0]


def by_loops(queries, keys, scale) -> float:
    """Of one head's points: the definition."""

    def distance(x, y):
        return sum((a - b) ** 2 for a, b in zip(x.tolist(), y.tolist(), strict=True))

    everything = [*queries, *keys]
    if scale is None:
        scale = sum(distance(x, y) for x in everything for y in everything) / len(everything) ** 2

    def mean_kernel(first, second):
        kernels = [math.exp(-distance(x, y) / (b * scale)) for x in first for y in second for b in BANDWIDTHS]
        return sum(kernels) / len(kernels)

    return mean_kernel(queries, queries) + mean_kernel(keys, keys) - 2 * mean_kernel(queries, keys)


@pytest.mark.parametrize("scale", [None, 1.7])
def test_is_the_definition(scale):
    regularizer = build("mmd", bandwidths=BANDWIDTHS, scale=scale)
    queries, keys = points()
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    expected = [
        sum(by_loops(queries[item, head, :length], keys[item, head, :length], scale) for head in range(NUM_HEADS))
        for item, length in enumerate((5, 2))
    ]
    assert regularizer(queries, keys, mask).item() == pytest.approx(sum(expected) / 2)


def test_of_one_point_each():
    """The mean squared distance of the two, each with itself too, is half of theirs: k is mean exp(-2 / b)."""
    queries, keys = points(num_tokens=1)
    kernel = sum(math.exp(-2 / bandwidth) for bandwidth in BANDWIDTHS) / 2
    assert build("mmd", bandwidths=BANDWIDTHS)(queries, keys).item() == pytest.approx(NUM_HEADS * (2 - 2 * kernel))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.floats(0.01, 100), order=st.permutations(range(5)))
def test_is_a_distance_of_sets_whatever_their_size(seed, factor, order):
    regularizer = build("mmd")
    queries, keys = points(seed=seed)
    distance = regularizer(queries, keys)
    assert 0 < distance < 2 * NUM_HEADS
    assert regularizer(keys, queries).item() == pytest.approx(distance.item())
    assert regularizer(factor * queries, factor * keys).item() == pytest.approx(distance.item())
    assert regularizer(queries, queries[:, :, order]).item() == pytest.approx(0, abs=1e-12)


def test_two_clouds_move_together():
    before, after = move_together(build("mmd", num_heads=1, head_dim=HEAD_DIM), num_steps=300, learning_rate=0.05)
    assert before > 2 and after < 0.02 * before
