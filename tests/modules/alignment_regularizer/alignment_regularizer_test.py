import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st

from regattn_allennlp.modules.alignment_regularizer import AlignmentRegularizer, observe_alignment
from tests.modules.alignment_regularizer.common import HEAD_DIM, KINDS, MINIMAX, NUM_HEADS, build, points

MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    regularizer = build(kind)
    queries, keys = (one.requires_grad_() for one in points())
    assert torch.autograd.gradcheck(lambda q, k: regularizer(q, k, MASK), (queries, keys))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(5)), other_order=st.permutations(range(5)))
def test_the_order_of_the_tokens_is_nothing(kind, order, other_order):
    regularizer = build(kind)
    queries, keys = points()
    shuffled = regularizer(queries[:, :, order], keys[:, :, other_order])
    torch.testing.assert_close(shuffled, regularizer(queries, keys))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_nothing(kind):
    regularizer = build(kind)
    queries, keys = points()
    alone = regularizer(queries[1:, :, :3], keys[1:, :, :3])
    for filling in (0.0, 1e4, float("nan")):
        padded_queries, padded_keys = (
            one[1:].masked_fill(~MASK[1:, None, :, None], filling).requires_grad_() for one in (queries, keys)
        )
        distance = regularizer(padded_queries, padded_keys, MASK[1:])
        torch.testing.assert_close(distance, alone)
        distance.backward()
        for padded in (padded_queries, padded_keys):
            assert padded.grad[:, :, 3:].eq(0).all() and padded.grad[:, :, :3].ne(0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_sums_over_heads_and_averages_over_sequences(kind):
    regularizer = build(kind)
    queries, keys = points(batch_size=3)
    one_by_one = [regularizer(queries[[item]], keys[[item]]) for item in range(3)]
    torch.testing.assert_close(regularizer(queries, keys), sum(one_by_one) / 3)
    of_heads = regularizer.distances(queries, keys, torch.full((3, 5), 0.2, dtype=torch.double))
    assert of_heads.shape == (3, NUM_HEADS)
    torch.testing.assert_close(of_heads.sum(1).mean(), regularizer(queries, keys))


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_without_tokens_do_not_count(kind):
    regularizer = build(kind)
    queries, keys = (one.requires_grad_() for one in points())
    mask = torch.tensor([[True] * 5, [False] * 5])
    distance = regularizer(queries, keys, mask)
    torch.testing.assert_close(distance, regularizer(queries[:1], keys[:1]))
    distance.backward()
    assert queries.grad[1].eq(0).all() and queries.grad.isfinite().all()
    assert regularizer(queries, keys, torch.zeros(2, 5, dtype=torch.bool)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_points_that_are_all_one_have_finite_gradients(kind):
    queries = torch.ones(1, NUM_HEADS, 4, HEAD_DIM, dtype=torch.double, requires_grad=True)
    build(kind)(queries, queries).backward()
    assert queries.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(kind, dtype):
    regularizer = build(kind, **({"tolerance": 1e-5} if kind == "sinkhorn" else {})).float()
    queries, keys = (one.to(dtype) for one in points())
    expected = regularizer(queries.float(), keys.float())
    assert torch.equal(regularizer(queries, keys), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(regularizer(queries, keys), expected)


@pytest.mark.parametrize("kind", MINIMAX)
def test_networks_of_their_own_or_shared(kind):
    queries, keys = points()
    sizes = {}
    for share in (True, False):
        regularizer = build(kind, share_networks=share)
        sizes[share] = sum(parameter.numel() for parameter in regularizer.parameters())
        same = regularizer.distances(
            queries[:, :1].repeat(1, 2, 1, 1),
            keys[:, :1].repeat(1, 2, 1, 1),
            torch.full((2, 5), 0.2, dtype=torch.double),
        )
        assert torch.allclose(same[:, 0], same[:, 1]) == share
    assert sizes[False] == NUM_HEADS * sizes[True]


@pytest.mark.parametrize("kind", KINDS)
def test_initial_weights_are_drawn_aside(kind):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build(kind)
    assert torch.equal(torch.rand(3), expected)


def observed_losses(regularizer, *calls):
    with observe_alignment(regularizer) as observation:
        for queries, keys, mask in calls:
            regularizer.observe(queries, keys, mask)
    return observation.losses()


def test_the_weight_rises_over_the_first_batches_and_is_kept_with_the_model():
    regularizer = build("mmd", weight=0.4, warmup_batches=4)
    call = (*points(), MASK)
    distance = regularizer(*call)

    def weights(number: int) -> list[float]:
        return [(observed_losses(regularizer, call)[0] / distance).item() for _ in range(number)]

    assert weights(3) == pytest.approx([0.1, 0.2, 0.3])
    regularizer.eval()
    assert weights(2) == pytest.approx([0.3, 0.3])
    again = build("mmd", weight=0.4, warmup_batches=4)
    again.load_state_dict(regularizer.state_dict())
    regularizer = again.train()
    assert weights(3) == pytest.approx([0.4, 0.4, 0.4])


def test_applications_are_summed_and_nothing_is_left_over():
    regularizer = build("mmd", weight=0.5)
    first, second = (*points(), MASK), (*points(seed=1), MASK)
    loss, distance = observed_losses(regularizer, first, second)
    torch.testing.assert_close(distance, regularizer(*first) + regularizer(*second))
    torch.testing.assert_close(loss, 0.5 * distance)
    assert observed_losses(regularizer) is None
    regularizer.observe(*first)  # unasked
    assert observed_losses(regularizer) is None


def test_an_error_in_the_model_ends_the_observation():
    regularizer = build("mmd")
    with pytest.raises(KeyError), observe_alignment(regularizer):
        regularizer.observe(*points(), MASK)
        raise KeyError
    regularizer.observe(*points(), MASK)
    assert observed_losses(regularizer) is None


@pytest.mark.parametrize("kind", KINDS)
def test_weight_0_measures_and_trains_nothing(kind):
    regularizer = build(kind, weight=0)
    queries, keys = (one.requires_grad_() for one in points())
    loss, distance = observed_losses(regularizer, (queries, keys, MASK))
    assert loss == 0 and not loss.requires_grad
    assert torch.equal(distance, regularizer(queries, keys, MASK))
    assert not any(parameter.requires_grad for parameter in regularizer.parameters())


@pytest.mark.parametrize(
    "config, message",
    [
        ({"type": "mmd", "weight": -1}, '"weight" of an alignment regularizer must be 0 or more, but is -1'),
        ({"type": "mmd", "weight": float("inf")}, "but is inf"),
        ({"type": "mmd", "warmup_batches": -1}, '"warmup_batches" must be at least 0, but is -1'),
        ({"type": "mmd", "bandwidths": []}, r'"bandwidths" must be numbers above 0, at least one, but is \[\]'),
        ({"type": "mmd", "bandwidths": [1.0, 0.0]}, r"but is \[1.0, 0.0\]"),
        ({"type": "mmd", "scale": 0.0}, '"scale" must be above 0, but is 0.0'),
        ({"type": "sinkhorn", "scale": -1.0}, '"scale" must be above 0, but is -1.0'),
        ({"type": "sinkhorn", "epsilon": 0.0}, '"epsilon" must be above 0, but is 0.0'),
        ({"type": "sinkhorn", "tolerance": 0.0}, '"tolerance" must be above 0, but is 0.0'),
        ({"type": "sinkhorn", "max_iterations": 0}, '"max_iterations" must be at least 1, but is 0'),
        ({"type": "adversarial", "hidden_dim": 0}, '"hidden_dim" must be at least 1, but is 0'),
        ({"type": "conditional_transport", "feature_dim": 0}, '"feature_dim" must be at least 1, but is 0'),
    ],
)
def test_what_cannot_be_is_named(config, message):
    with pytest.raises(ConfigurationError, match=message):
        AlignmentRegularizer.from_params(Params(config), num_heads=1, head_dim=2)
