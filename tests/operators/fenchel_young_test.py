import math

import pytest
import torch
from hypothesis import given
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from regattn_allennlp import (
    CustomMax,
    Entmax,
    FenchelYoungLoss,
    Fusedmax,
    RegularizedMax,
    Softmax,
    Sparsemax,
    fenchel_young_loss,
)
from tests.operators.common import (
    build,
    every_operator,
    gammas,
    masked_rows,
    property_test,
    random_mask,
    random_scores,
)


def random_distributions(*shape, seed=5):
    return random_scores(*shape, seed=seed).softmax(-1)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_softmax_with_indices_is_cross_entropy(reduction):
    scores = random_scores(6, 4).requires_grad_()
    target = torch.tensor([0, 3, -100, 1, 2, -100])
    expected = cross_entropy(scores, target, reduction=reduction)
    loss = fenchel_young_loss(scores, target, Softmax(), reduction=reduction)
    assert_close(loss, expected)
    upstream = random_scores(*loss.shape, seed=1)
    assert_close(torch.autograd.grad(loss, scores, upstream), torch.autograd.grad(expected, scores, upstream))
    # The classes along another dimension, and another index to ignore.
    batch, its_target = random_scores(2, 4, 3), torch.tensor([[0, 7, 3], [1, 1, 2]])
    loss = FenchelYoungLoss(Softmax(dim=1), reduction, ignore_index=7)(batch, its_target)
    assert_close(loss, cross_entropy(batch, its_target, reduction=reduction, ignore_index=7))


def test_softmax_with_distributions_is_cross_entropy_less_the_entropy_of_the_target():
    scores, target = random_scores(6, 4), random_distributions(6, 4)
    expected = cross_entropy(scores, target, reduction="none") + (target * target.log()).sum(-1)
    assert_close(fenchel_young_loss(scores, target, Softmax(), reduction="none"), expected)


def test_sparsemax_with_indices_is_the_published_sparsemax_loss():
    # Martins & Astudillo 2016, equation 21: -z_k + 1/2 sum_{j in S} (z_j^2 - t^2) + 1/2, t the threshold.
    for seed in range(20):
        row = random_scores(6, seed=seed).tolist()
        decreasing = sorted(row, reverse=True)
        size = max(k for k in range(1, 7) if 1 + k * decreasing[k - 1] > sum(decreasing[:k]))
        threshold = (sum(decreasing[:size]) - 1) / size
        for k in range(6):
            expected = -row[k] + sum(z**2 - threshold**2 for z in decreasing[:size]) / 2 + 0.5
            loss = fenchel_young_loss(torch.tensor([row], dtype=torch.float64), torch.tensor([k]), Sparsemax())
            assert_close(loss.item(), expected, rtol=0, atol=1e-14)


@every_operator
@pytest.mark.parametrize("as_index", [False, True])
def test_the_gradient_is_the_weights_less_the_target(name, as_index):
    operator = build(name, gamma=0.7, lam=0.3)
    scores, mask = random_scores(2, 3, 5).requires_grad_(), random_mask(2, 3, 5)
    index = torch.zeros(2, 3, dtype=torch.int64)  # the first position is not masked
    target = torch.nn.functional.one_hot(index, 5).double()
    if not as_index:
        target = (random_distributions(2, 3, 5) * mask) / (random_distributions(2, 3, 5) * mask).sum(-1, keepdim=True)
    loss = fenchel_young_loss(scores, index if as_index else target, operator, mask, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, scores)
    assert_close(gradient, operator(scores, mask) - target, rtol=0, atol=1e-12)


@every_operator
@property_test
@given(masked_row=masked_rows(), gamma=gammas)
def test_the_loss_is_0_at_the_weights_and_not_below_0_elsewhere(name, masked_row, gamma):
    row, mask = masked_row
    operator = build(name, gamma=gamma, lam=0.3)
    at_weights = fenchel_young_loss(row, operator(row, mask), operator, mask)
    assert 0 <= at_weights < 1e-12
    other = operator(row.flip(0), mask)
    loss = fenchel_young_loss(row, other, operator, mask)
    # Omega is strongly convex, at least as 1/2 |p|^2 / row_length: a known distance is a known loss.
    distance = (other - operator(row, mask)).square().sum()
    assert loss >= gamma * distance / (2 * len(row)) - 1e-12


@every_operator
def test_large_scores_in_float32_lose_no_digits(name):
    operator = build(name, lam=0.3)
    scores = (random_scores(6, 5, dtype=torch.float32) * 64).round() / 64  # a sum with 10000 is exact
    target = torch.tensor([0, 1, 2, 3, 4, 0])
    expected = fenchel_young_loss(scores, target, operator, reduction="none")
    for constant in (1e4, -1e4):
        assert torch.equal(fenchel_young_loss(scores + constant, target, operator, reduction="none"), expected)
    assert (fenchel_young_loss(1e4 * scores, target, operator, reduction="none") >= 0).all()


@every_operator
def test_minus_infinity_and_masks_and_rows_that_do_not_count(name):
    operator = build(name)
    scores = random_scores(6, 4)
    scores[0, 1] = -math.inf
    scores[2] = -math.inf
    scores[3, 0] = math.nan  # ignored
    scores[4, 2] = -math.inf  # the target
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[5] = False
    target = torch.tensor([0, 1, 2, -100, 2, 3])
    scores.requires_grad_()
    losses = fenchel_young_loss(scores, target, operator, mask, reduction="none")
    assert losses[:2].isfinite().all()
    assert (losses[[2, 3, 5]] == 0).all()
    assert losses[4] == math.inf
    (gradient,) = torch.autograd.grad(losses, scores, torch.ones_like(losses))
    assert gradient.isfinite().all()
    assert (gradient[[2, 3, 5]] == 0).all() and gradient[0, 1] == 0 and gradient[4, 2] == 0
    assert_close(losses[0], fenchel_young_loss(scores[0, [0, 2, 3]], target[0], operator))

    # The mean is over rows that count, and over none of them it is 0.
    kept = [0, 1, 2, 3, 5]
    mean = fenchel_young_loss(scores[kept], target[kept], operator, mask[kept])
    assert_close(mean, losses[:2].mean())
    assert fenchel_young_loss(scores[[2, 3, 5]], target[[2, 3, 5]], operator, mask[[2, 3, 5]]) == 0
    assert fenchel_young_loss(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), operator) == 0
    # A NaN that is not ignored is seen.
    assert fenchel_young_loss(scores[3], torch.tensor(1), operator).isnan()


def test_derivatives_by_scores_target_and_what_is_learned():
    scores, logits = random_scores(3, 4).requires_grad_(), random_scores(3, 4, seed=1).requires_grad_()
    gamma = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor(1.4, dtype=torch.float64, requires_grad=True)

    def run(scores, logits, gamma, alpha):
        return fenchel_young_loss(scores, logits.softmax(-1), Entmax(gamma, alpha), reduction="none")

    assert gradcheck(run, (scores, logits, gamma, alpha))
    assert gradgradcheck(run, (scores, logits, gamma, alpha))
    operator = Fusedmax(gamma=2.0, learn_gamma=True, learn_lam=True)
    fenchel_young_loss(scores, torch.tensor([0, 2, 3]), operator).backward()
    assert all(parameter.grad is not None for parameter in operator.parameters())


def test_any_regularized_max_has_its_loss():
    scores, target = random_scores(3, 4), torch.tensor([0, 1, 3])
    custom = CustomMax(lambda weights: weights.square().sum() / 2, gamma=0.7)
    expected = fenchel_young_loss(scores, target, Sparsemax(0.7))
    assert_close(fenchel_young_loss(scores, target, custom), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_float32_rounded(dtype):
    scores, target = random_scores(6, 5, dtype=dtype), torch.tensor([0, 1, 2, 3, 4, 0])
    loss = fenchel_young_loss(scores, target, Sparsemax())
    assert loss.dtype == dtype
    assert_close(loss, fenchel_young_loss(scores.float(), target, Sparsemax()).to(dtype), rtol=0, atol=0)
    distributions = random_distributions(6, 5).to(dtype)
    assert fenchel_young_loss(scores, distributions, Sparsemax()).dtype == dtype


def test_transforms_and_compilation():
    scores, target = random_scores(4, 5), torch.tensor([0, 1, 4, -100])
    operator = Sparsemax(gamma=2.0)

    def losses(scores, target):
        return fenchel_young_loss(scores, target, operator, reduction="none")

    expected = losses(scores, target)
    assert_close(torch.func.vmap(losses)(scores, target), expected)
    gradients = torch.func.vmap(torch.func.grad(losses))(scores[:3], target[:3])
    assert_close(gradients, operator(scores[:3]) - torch.nn.functional.one_hot(target[:3], 5))
    torch._dynamo.reset()
    compiled = torch.compile(losses, fullgraph=True, backend="aot_eager")
    assert_close(compiled(scores, target), expected)
    # There nobody looks at the values, but a wrong one cannot go unseen.
    assert compiled(scores, torch.tensor([0, 5, -1, 2])).isnan().tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    "target, error, message",
    [
        (torch.tensor([0, 4]), ValueError, "from 0 to 3.*has 4"),
        (torch.tensor([0, -1]), ValueError, "from 0 to 3.*has -1"),
        (torch.tensor([0, 1], dtype=torch.int32), TypeError, "int64.*torch.int32"),
        (torch.ones(2, 4, dtype=torch.bool), TypeError, "int64.*torch.bool"),
        (torch.tensor([[0, 1]]), ValueError, r"class indices.*\(2,\).*\(1, 2\)"),
        (torch.full((2, 3), 1 / 3), ValueError, r"distributions.*\(2, 4\).*\(2, 3\)"),
        (torch.tensor([[0.5, 0.5, 0.0, 0.0], [1.5, -0.5, 0.0, 0.0]]), ValueError, "not below 0, but has -0.5"),
        (torch.tensor([[0.5, 0.5, 0.0, 0.0], [math.nan, 1.0, 0.0, 0.0]]), ValueError, "has nan"),
        (torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.5, 0.0]]), ValueError, "sum 1.*has sum 1.5"),
        ([0, 1], TypeError, "target must be a torch.Tensor.*list"),
    ],
    ids=str,
)
def test_a_wrong_target_is_named(target, error, message):
    with pytest.raises(error, match=message):
        fenchel_young_loss(random_scores(2, 4), target, Softmax())


@pytest.mark.parametrize("wrong", [Softmax, "softmax", None], ids=repr)
def test_an_operator_is_wanted_and_no_class_or_name(wrong):
    with pytest.raises(TypeError, match=r"regularized_max must be an operator such as Sparsemax\(\), but is"):
        fenchel_young_loss(random_scores(2, 4), torch.tensor([0, 1]), wrong)


def test_other_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"mean, sum, none.*'average'"):
        fenchel_young_loss(random_scores(2, 4), torch.tensor([0, 1]), Softmax(), reduction="average")
    with pytest.raises(ValueError, match=r"mean, sum, none.*'average'"):
        FenchelYoungLoss(Softmax(), reduction="average")
    with pytest.raises(TypeError, match=r"regularized_max must be an operator.*'softmax'"):
        FenchelYoungLoss("softmax")
    operator = RegularizedMax.by_name("softmax")()
    assert repr(FenchelYoungLoss(operator)).startswith("FenchelYoungLoss(\n  reduction='mean', ignore_index=-100")
