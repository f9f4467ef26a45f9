import contextlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import cross_entropy
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

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
    omega_by_definition,
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


# --- class weights, label smoothing and ignored rows ---


@st.composite
def classifications(draw):
    """Scores of some rows, targets of which some may be ignored, class weights of which some may be 0, smoothing."""
    num_rows, num_classes = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    numbers = st.one_of(st.integers(-4, 4).map(float), st.floats(-10, 10))
    scores = draw(st.lists(numbers, min_size=num_rows * num_classes, max_size=num_rows * num_classes))
    classes = st.integers(0, num_classes - 1)
    target = draw(st.lists(classes | st.just(-100), min_size=num_rows, max_size=num_rows))
    weights = st.lists(st.just(0.0) | st.floats(0.1, 3), min_size=num_classes, max_size=num_classes)
    weight = draw(st.none() | weights.map(lambda weight: torch.tensor(weight, dtype=torch.float64)))
    smoothing = draw(st.sampled_from([0.0, 1.0]) | st.floats(0, 1))
    shaped = torch.tensor(scores, dtype=torch.float64).view(num_rows, num_classes)
    return shaped.requires_grad_(), torch.tensor(target), weight, smoothing


def softmaxes():
    """With gamma as a number, for which there is a kernel, and as a tensor, for which there is none."""
    return Softmax(), Softmax(gamma=torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@property_test
@given(classification=classifications())
def test_softmax_has_the_options_of_cross_entropy(reduction, classification):
    scores, target, weight, smoothing = classification
    expected = cross_entropy(scores, target, weight, reduction=reduction, label_smoothing=smoothing)
    counted = target[target != -100]
    if reduction == "mean" and (len(counted) == 0 or (weight is not None and weight[counted].sum() == 0)):
        expected = 0 * scores.sum()  # where cross-entropy divides by 0
    (gradient,) = torch.autograd.grad(expected.sum(), scores)
    for operator in softmaxes():
        loss = fenchel_young_loss(
            scores, target, operator, reduction=reduction, weight=weight, label_smoothing=smoothing
        )
        assert_close(loss, expected, rtol=1e-14, atol=1e-14)
        assert_close(torch.autograd.grad(loss.sum(), scores)[0], gradient, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@property_test
@given(classification=classifications())
def test_softmax_with_distributions_has_the_options_of_cross_entropy_less_an_entropy(reduction, classification):
    scores, _, weight, smoothing = classification
    target = random_distributions(*scores.shape)
    expected = cross_entropy(scores, target, weight, reduction="none", label_smoothing=smoothing)
    weighted = target if weight is None else weight * target
    amount = weighted.sum(-1, keepdim=True)
    point = weighted / amount.where(amount > 0, 1)
    expected = expected + (1 - smoothing) * amount.squeeze(-1) * torch.xlogy(point, point).sum(-1)
    expected = {"mean": expected.mean(), "sum": expected.sum(), "none": expected}[reduction]
    of_cross_entropy = cross_entropy(scores, target, weight, reduction=reduction, label_smoothing=smoothing)
    loss = fenchel_young_loss(scores, target, Softmax(), None, reduction, weight=weight, label_smoothing=smoothing)
    assert_close(loss, expected, rtol=1e-13, atol=1e-13)
    gradients = [torch.autograd.grad(one.sum(), scores)[0] for one in (loss, of_cross_entropy)]
    assert_close(*gradients, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_in_float32_softmax_is_cross_entropy_to_its_last_digits(reduction):
    scores = 3 * random_scores(64, 1000, dtype=torch.float32)
    scores.requires_grad_()
    target = torch.arange(64) * 15
    target[::7] = -100
    weight = torch.rand(1000, generator=torch.Generator().manual_seed(1))
    for options in ({}, {"weight": weight}, {"label_smoothing": 0.1}, {"weight": weight, "label_smoothing": 0.1}):
        expected = cross_entropy(scores, target, reduction=reduction, **options)
        loss = FenchelYoungLoss(Softmax(), reduction, **options)(scores, target)
        assert_close(loss, expected, rtol=1e-6, atol=1e-6)
        gradients = [torch.autograd.grad(one.sum(), scores)[0] for one in (loss, expected)]
        assert_close(*gradients, rtol=2e-6, atol=1e-7)


def loss_by_definition(name, operator, row, point, lam):
    """L(x; y) for one row without masked positions, from the operator's weights and Omega as it is defined."""
    weights = operator(row)
    value = weights @ row - operator.gamma * omega_by_definition(name, weights.tolist(), lam)
    return value + operator.gamma * omega_by_definition(name, point.tolist(), lam) - point @ row


@every_operator
@pytest.mark.parametrize("as_index", [False, True])
@pytest.mark.parametrize("options", [{}, {"weight"}, {"label_smoothing"}, {"weight", "label_smoothing"}], ids=sorted)
def test_weighted_and_smoothed_losses_are_sums_of_the_losses_of_classes(name, as_index, options):
    gamma, lam = 0.7, 0.3
    operator = build(name, gamma, lam)
    scores, mask = random_scores(4, 6), random_mask(4, 6)
    weight = torch.tensor([0.5, 2.0, 0.0, 1.0, 0.3, 1.7], dtype=torch.float64)
    given = {"weight": weight} if "weight" in options else {}
    w, smoothing = given.get("weight", torch.ones_like(weight)), 0.2 if "label_smoothing" in options else 0.0
    target = torch.tensor([0, 0, 0, 0])  # which is not masked
    distributions = random_distributions(4, 6) * mask
    distributions = distributions / distributions.sum(-1, keepdim=True)
    losses = fenchel_young_loss(
        scores, target if as_index else distributions, operator, mask, "none", label_smoothing=smoothing, **given
    )
    for row, loss in enumerate(losses):
        kept = mask[row].nonzero().squeeze(-1)
        x, of_kept = scores[row, kept], w[kept]
        classes = torch.eye(len(kept), dtype=torch.float64)
        weighted = of_kept * (classes[0] if as_index else distributions[row, kept])
        amount = weighted.sum()
        expected = (1 - smoothing) * amount * loss_by_definition(name, operator, x, weighted / amount, lam)
        for share, point in zip(smoothing / len(kept) * of_kept, classes, strict=True):
            expected = expected + share * loss_by_definition(name, operator, x, point, lam)
        assert_close(loss, expected, rtol=1e-12, atol=1e-12)


@every_operator
def test_the_gradient_with_weights_and_smoothing(name):
    operator = build(name, gamma=0.7, lam=0.3, dim=1)
    scores, mask = random_scores(2, 5, 3).requires_grad_(), random_mask(2, 3, 5).transpose(1, 2)
    target = torch.tensor([[0, 0, -100], [0, 0, 0]])
    weight = random_scores(5).square()
    loss = fenchel_young_loss(scores, target, operator, mask, "sum", weight=weight, label_smoothing=0.2)
    (gradient,) = torch.autograd.grad(loss, scores)
    w = weight.view(1, 5, 1)
    pull = 0.2 * w * mask / mask.sum(1, keepdim=True)
    pull[:, 0] += 0.8 * weight[0]
    expected = pull.sum(1, keepdim=True) * operator(scores, mask) - pull
    assert_close(gradient, expected * (target >= 0).unsqueeze(1), rtol=0, atol=1e-12)


@every_operator
def test_derivatives_by_all_that_can_be_learned(name):
    scores, target = random_scores(3, 4), torch.tensor([0, 3, 1])
    numbers = [torch.tensor(number, dtype=torch.float64) for number in (0.8, 0.3)]
    weight = random_scores(4, seed=3).square()
    learned = [scores, *numbers, weight]

    def run(scores, gamma, lam, weight):
        own = {"fusedmax": {"lam": lam}, "oscarmax": {"lam": lam}, "entmax": {"alpha": 1.2 + lam}}
        operator = RegularizedMax.by_name(name)(gamma, **own.get(name, {}))
        return fenchel_young_loss(scores, target, operator, None, "none", weight=weight, label_smoothing=0.1)

    learned = [tensor.clone().requires_grad_() for tensor in learned]
    if name in ("softmax", "sparsemax", "squared_p_norm_max"):
        learned[2].requires_grad_(False)
    assert gradcheck(run, learned, check_forward_ad=True)
    assert gradgradcheck(run, learned)


def test_what_an_operator_of_ones_own_has_for_its_classes():
    """Omega is asked at each vertex, where an operator does not tell: it may differ between them."""
    tilt = torch.tensor([0.3, 0.0, -0.2, 0.1], dtype=torch.float64)
    scores, target = random_scores(3, 4), torch.tensor([0, 2, 3])
    scores[1, 1] = -math.inf
    custom = CustomMax(lambda weights: weights.square().sum() / 2 + tilt @ weights, gamma=0.7)
    options = {"reduction": "none", "weight": random_scores(4).square(), "label_smoothing": 0.2}
    losses = fenchel_young_loss(scores, target, custom, **options)
    # <p, x> - gamma * (Omega(p) + <tilt, p>) = <p, x - gamma * tilt> - gamma * Omega(p)
    assert_close(losses, fenchel_young_loss(scores - 0.7 * tilt, target, Sparsemax(0.7), **options))

    class Tilted(Sparsemax):
        def forward(self, scores, mask=None):
            return super().forward(scores - self.gamma * tilt, mask)

        def omega(self, weights, mask=None):
            return super().omega(weights, mask) + weights @ tilt

    assert_close(fenchel_young_loss(scores, target, Tilted(0.7), **options), losses)


@every_operator
def test_smoothing_stays_within_the_problem(name):
    scores = random_scores(3, 4)
    scores[0, 1] = -math.inf
    scores[2, 3] = -math.inf
    scores.requires_grad_()
    target = torch.tensor([0, 2, 3])
    losses = fenchel_young_loss(scores, target, build(name), reduction="none", label_smoothing=0.1)
    kept = fenchel_young_loss(scores[:1, [0, 2, 3]], target[:1], build(name), label_smoothing=0.1)
    assert_close(losses[0], kept)
    assert losses[1].isfinite() and losses[2] == math.inf
    (gradient,) = torch.autograd.grad(losses.sum(), scores)
    assert gradient.isfinite().all() and gradient[0, 1] == 0 and gradient[2, 3] == 0
    # Where the target has no say it may be out of the problem.
    assert fenchel_young_loss(scores[2:], target[2:], build(name), label_smoothing=1.0).isfinite()
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    assert fenchel_young_loss(scores[2:], target[2:], build(name), reduction="sum", weight=weight) == 0


@pytest.mark.parametrize("name", ["softmax", "sparsemax", "entmax"])
def test_the_kernel_and_the_operators_give_the_same_losses(name):
    scores, mask, target = 2 * random_scores(5, 4, 6), random_mask(4, 6), torch.zeros(5, 4, dtype=torch.int64)
    scores[0, 1] = -math.inf
    scores[0, 2, 0] = math.nan
    scores[0, 3, 0] = math.inf
    target[1] = -100
    weight = random_scores(6).square()
    for dtype, tolerance in ((torch.float64, 1e-14), (torch.float32, 1e-6)):
        results = []
        for gamma in (0.7, torch.tensor(0.7, dtype=dtype)):
            leaf = scores.to(dtype).requires_grad_()
            losses = fenchel_young_loss(
                leaf, target, build(name, gamma), mask, "none", weight=weight, label_smoothing=0.1
            )
            results.append((losses.detach(), torch.autograd.grad(losses[losses.isfinite()].sum(), leaf)[0]))
            assert losses.dtype == dtype and losses[0, 2:].isnan().all() and losses[0, 1] == 0
        assert_close(*results, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", ["softmax", "sparsemax", "entmax"])
def test_derivatives_of_any_order_where_there_is_a_kernel(name):
    target = torch.tensor([0, 3, -100])
    weight = random_scores(4, seed=3).square()
    scores = random_scores(3, 4).requires_grad_()

    def run(scores):
        return fenchel_young_loss(
            scores, target, build(name, gamma=1.3), None, "none", weight=weight, label_smoothing=0.1
        )

    assert gradcheck(run, scores, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(run, scores, check_fwd_over_rev=True, check_batched_grad=True)
    # The loss is computed outside of all transforms, its gradient within.
    loss = run(scores).sum()
    with torch.autograd.forward_ad.dual_level():
        upstream = torch.autograd.forward_ad.make_dual(torch.tensor(2.0).double(), torch.tensor(3.0).double())
        (gradient,) = torch.autograd.grad(loss, scores, upstream, retain_graph=True)
        primal, tangent = torch.autograd.forward_ad.unpack_dual(gradient)
    assert_close(tangent, 1.5 * primal)
    assert_close(primal, 2 * torch.autograd.grad(loss, scores)[0])


@every_operator
def test_options_under_transforms_and_compilation(name):
    scores, target, weight = random_scores(4, 5), torch.tensor([0, 1, 4, -100]), random_scores(5).square()
    operator = build(name, gamma=2.0)

    def losses(scores, target, weight):
        return fenchel_young_loss(scores, target, operator, None, "none", weight=weight, label_smoothing=0.1)

    expected = losses(scores, target, weight)
    assert_close(torch.func.vmap(losses, in_dims=(0, 0, None))(scores, target, weight), expected)
    leaf = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(losses(leaf, target, weight).sum(), leaf)
    assert_close(torch.func.vmap(torch.func.grad(losses), in_dims=(0, 0, None))(scores, target, weight), gradient)
    torch._dynamo.reset()
    compiled = torch.compile(losses, fullgraph=True, backend="aot_eager")
    assert_close(compiled(scores, target, weight), expected)
    assert_close(torch.autograd.grad(compiled(leaf, target, weight).sum(), leaf)[0], gradient)


@pytest.mark.parametrize("way", ["checkpoint", "reentrant checkpoint", "save_on_cpu"])
def test_losses_under_checkpointing_and_saving_elsewhere(way):
    target, gradients = torch.tensor([0, 4, -100, 2]), []
    for run in ("plainly", way):
        leaf = random_scores(4, 5).requires_grad_()
        with torch.autograd.graph.save_on_cpu() if run == "save_on_cpu" else contextlib.nullcontext():

            def loss(scores):
                return fenchel_young_loss(2 * scores, target, Entmax(), label_smoothing=0.1)

            checkpointed = "checkpoint" in run
            result = checkpoint(loss, leaf, use_reentrant="reentrant" in run) if checkpointed else loss(leaf)
        result.backward()
        gradients.append(leaf.grad)
    assert_close(*gradients, rtol=0, atol=0)


def test_the_weight_of_a_module_is_a_buffer():
    loss = FenchelYoungLoss(Sparsemax(), weight=torch.tensor([1.0, 2.0, 0.5]), label_smoothing=0.1)
    assert list(loss.state_dict()) == ["weight"] and not list(loss.parameters())
    assert loss.double().weight.dtype == torch.float64
    assert list(FenchelYoungLoss(Sparsemax()).state_dict()) == []
    arguments = random_scores(2, 3), torch.tensor([0, 2])
    assert_close(torch.fx.symbolic_trace(loss)(*arguments), loss(*arguments))
    assert "label_smoothing=0.1" in repr(loss)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"weight": [1.0, 2.0, 1.0, 1.0]}, TypeError, "weight must be a torch.Tensor.*list"),
        ({"weight": torch.ones(4, dtype=torch.int64)}, TypeError, "weight.*floating point.*torch.int64"),
        ({"weight": torch.ones(3)}, ValueError, r"weight.*\(4,\).*\(3,\)"),
        ({"weight": torch.ones(2, 4)}, ValueError, r"weight.*\(4,\).*\(2, 4\)"),
        ({"weight": torch.tensor([1.0, -2.0, 1.0, 1.0])}, ValueError, "weight.*not below 0.*-2"),
        ({"weight": torch.tensor([1.0, math.nan, 1.0, 1.0])}, ValueError, "weight.*has nan"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing.*from 0 to 1, but is 1.5"),
        ({"label_smoothing": -0.1}, ValueError, "label_smoothing.*from 0 to 1, but is -0.1"),
        ({"label_smoothing": "much"}, TypeError, "label_smoothing.*'much'"),
    ],
    ids=str,
)
def test_wrong_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        fenchel_young_loss(random_scores(2, 4), torch.tensor([0, 1]), Softmax(), **options)
    with pytest.raises(error, match=message.replace(r"\(4,\).*\(2", r"\(num_classes,\).*\(2")):
        FenchelYoungLoss(Softmax(), **options)(random_scores(2, 4), torch.tensor([0, 1]))


# --- arguments that are wrong ---


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
