"""Packed rows against each row by itself, and jagged nested tensors."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import regattn_allennlp
from regattn_allennlp import (
    CustomMax,
    Entmax,
    FenchelYoungLoss,
    Fusedmax,
    Normmax,
    Oscarmax,
    RegularizedMax,
    Softmax,
    Sparsemax,
    SquaredPNormMax,
    fenchel_young_loss,
)
from tests.operators.common import DENSE_ONLY, property_test, random_scores

LENGTHS = (3, 0, 5, 1, 2)
OFFSETS = torch.tensor([0, 3, 3, 8, 9, 11])
ROWS = [slice(start, end) for start, end in itertools.pairwise(OFFSETS.tolist())]
OPERATORS = {
    "softmax": Softmax(0.9, dim=0),
    "sparsemax": Sparsemax(0.9, dim=0),
    "fusedmax": Fusedmax(0.9, 0.15, dim=0),
    "oscarmax": Oscarmax(0.9, 0.07, dim=0),
    "entmax": Entmax(0.9, 1.3, dim=0),
    "entmax above 2": Entmax(0.9, 3.0, dim=0),
    "squared_p_norm_max": SquaredPNormMax(0.9, 1.4, dim=0),
    "normmax": Normmax(0.9, 1.8, dim=0),
    "normmax above 2": Normmax(0.9, 3.0, dim=0),
}
every_packed_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())


def entries(*batch: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Those of the rows, twice, as two heads have them."""
    return random_scores(*batch, sum(LENGTHS), 2, seed=seed, dtype=dtype)


def entry_mask() -> torch.Tensor:
    mask = torch.ones(sum(LENGTHS), 2, dtype=torch.bool)
    mask[[0, 5, 8], [1, 0, 1]] = False  # of the row of one entry, too
    return mask


def with_number_of_row(operator: RegularizedMax, row: int) -> RegularizedMax:
    return operator.with_regularization(
        **{
            name: value[row].item()
            for name in operator.regularization_names()
            if isinstance(value := operator.get_regularization(name), torch.Tensor)
        }
    )


@every_packed_operator
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", [None, entry_mask()])
def test_weights_and_values_are_those_of_each_row(operator, dtype, mask):
    scores = entries(dtype=dtype).requires_grad_()
    upstream = entries(seed=1, dtype=dtype)
    weights, values = operator(scores, mask, OFFSETS), operator.value(scores, mask, OFFSETS)
    assert weights.dtype == values.dtype == dtype
    assert values.shape == (len(LENGTHS), 2)
    (gradient,) = torch.autograd.grad(weights, scores, upstream)
    for row, where in enumerate(ROWS):
        part = scores[where].detach().requires_grad_()
        part_mask = None if mask is None else mask[where]
        expected = operator(part, part_mask)
        assert_close(weights[where], expected)
        assert_close(values[row], operator.value(part, part_mask))
        assert_close(gradient[where], torch.autograd.grad(expected, part, upstream[where])[0])


@property_test
@given(
    st.lists(st.lists(st.integers(-4, 4).map(float), max_size=6), min_size=1, max_size=5),
    st.sampled_from(list(OPERATORS)),
)
def test_rows_of_any_lengths(rows, name):
    operator = OPERATORS[name]
    parts = [torch.tensor(row, dtype=torch.float64) for row in rows]
    offsets = torch.tensor([0, *itertools.accumulate(map(len, rows))])
    weights = operator(torch.cat(parts), None, offsets)
    assert_close(weights, torch.cat([operator(part) if len(part) else part for part in parts]))
    sums = torch.stack([part.sum() for part in weights.split([len(row) for row in rows])])
    assert_close(sums, torch.tensor([float(len(row) > 0) for row in rows], dtype=torch.float64))


@pytest.mark.parametrize("name", ["fusedmax", "oscarmax", "entmax"])
def test_a_parameter_for_each_row(name):
    gamma = torch.tensor([0.7, 0.8, 0.9, 1.0, 1.1], dtype=torch.float64)
    arguments = {"gamma": gamma, "dim": 0, ("alpha" if name == "entmax" else "lam"): 0.5 + gamma}
    operator = RegularizedMax.by_name(name)(**arguments)
    scores = entries()[:, 0]
    weights, values = operator(scores, None, OFFSETS), operator.value(scores, None, OFFSETS)
    for row, where in enumerate(ROWS):
        of_row = with_number_of_row(operator, row)
        assert_close(weights[where], of_row(scores[where]))
        assert_close(values[row], of_row.value(scores[where]))


def test_a_row_without_a_solution_is_nan_and_no_other():
    for operator in OPERATORS.values():
        scores = entries()[:, 0]
        expected = operator(scores, None, OFFSETS)
        scores[4], scores[5] = math.nan, -math.inf
        weights = operator(scores, None, OFFSETS)
        assert weights.isnan().nonzero().flatten().tolist() == [3, 4, 6, 7]
        assert weights[5] == 0
        others = [0, 1, 2, 8, 9, 10]
        assert_close(weights[others], expected[others])


@every_packed_operator
def test_derivatives(operator):
    mask = entry_mask()
    scores = entries().requires_grad_()
    assert gradcheck(lambda scores: operator(scores, mask, OFFSETS), scores, check_forward_ad=True)
    assert gradgradcheck(lambda scores: operator(scores, mask, OFFSETS), scores)
    assert gradcheck(lambda scores: operator.value(scores, mask, OFFSETS), scores, check_forward_ad=True)


@pytest.mark.parametrize("name", ["softmax", "sparsemax", "fusedmax", "oscarmax", "entmax"])
def test_derivatives_by_the_regularization(name):
    parameter = {"fusedmax": "lam", "oscarmax": "lam", "entmax": "alpha"}.get(name)
    near = {None: 1.0, "lam": 0.12, "alpha": 1.4}[parameter]
    scores = entries()

    def run(gamma, other, method):
        operator = RegularizedMax.by_name(name)(gamma, **({parameter: other} if parameter else {}), dim=0)
        return getattr(operator, method)(scores, entry_mask(), OFFSETS)

    gamma = 1 + random_scores(len(LENGTHS), 2).abs() / 5
    other = near * (1 + random_scores(len(LENGTHS), 2, seed=1).abs() / 50)
    inputs = gamma.requires_grad_(), other.requires_grad_(parameter is not None)
    for method in ("forward", "value"):
        assert gradcheck(lambda gamma, other, method=method: run(gamma, other, method), inputs, check_forward_ad=True)


@every_packed_operator
def test_function_transforms(operator):
    mask, batch = entry_mask(), entries(3)

    def weights(scores):
        return operator(scores, mask, OFFSETS)

    def value(scores):
        return operator.value(scores, mask, OFFSETS)

    one, operator.dim = operator.dim, -2  # the same dimension with a batch and without
    try:
        for function in (weights, value):
            assert_close(torch.func.vmap(function)(batch), torch.stack([function(scores) for scores in batch]))
            assert_close(function(batch), torch.func.vmap(function)(batch))
        jacobian = torch.autograd.functional.jacobian(weights, batch[0])
        assert_close(torch.func.jacrev(weights)(batch[0]), jacobian)
        assert_close(torch.func.jacfwd(weights)(batch[0]), jacobian)
        hessian = torch.autograd.functional.hessian(lambda scores: value(scores).sum(), batch[0])
        assert_close(torch.func.hessian(lambda scores: value(scores).sum())(batch[0]), hessian)
    finally:
        operator.dim = one


@every_packed_operator
def test_compiled_whole(operator):
    torch._dynamo.reset()
    mask, upstream = entry_mask(), entries(seed=1)

    def function(scores):
        return operator(scores, mask, OFFSETS), operator.value(scores, mask, OFFSETS)

    results = []
    for run in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
        scores = entries().requires_grad_()
        weights, values = run(scores)
        ((weights * upstream).sum() + values.sum()).backward()
        results.append((weights, values, scores.grad))
    assert_close(*results)

    gradient = torch.func.grad(lambda scores: (operator(scores, mask, OFFSETS) * upstream).sum())
    assert_close(torch.compile(gradient, fullgraph=True, backend="aot_eager")(entries()), gradient(entries()))


def test_offsets_batched_by_vmap_are_an_error():
    scores, batch = entries(), torch.stack([OFFSETS] * 2)
    with pytest.raises(ValueError, match="offsets must be the same for all"):
        torch.func.vmap(lambda offsets: OPERATORS["sparsemax"](scores, None, offsets))(batch)


@pytest.mark.parametrize(
    ("offsets", "error", "message"),
    [
        ([0, 11], TypeError, "offsets must be a torch.Tensor.*list"),
        (torch.tensor([0.0, 11.0]), TypeError, "offsets must have dtype int64.*float32"),
        (torch.tensor([[0, 11]]), ValueError, r"offsets must have the shape \(num_rows \+ 1,\).*\(1, 2\)"),
        (torch.tensor([0, 10]), ValueError, "offsets must end with 11, the number of entries, but end with 10"),
        (torch.tensor([1, 11]), ValueError, "offsets must begin with 0, but begin with 1"),
        (torch.tensor([0, 6, 5, 11]), ValueError, "offsets must not decrease, but offsets.2. = 5 comes after 6"),
    ],
)
@every_packed_operator
def test_wrong_offsets_are_named(operator, offsets, error, message):
    with pytest.raises(error, match=message):
        operator(entries(), None, offsets)
    with pytest.raises(error, match=message):
        operator.value(entries(), None, offsets)


@pytest.mark.parametrize("name", list(OPERATORS))
def test_jagged_nested_tensors(name):
    operator, upstream = OPERATORS[name], random_scores(9, 2, seed=1)
    parts = [random_scores(length, 2, seed=length) for length in (3, 5, 1)]
    jagged = torch.nested.nested_tensor(parts, layout=torch.jagged, requires_grad=True)
    of_rows = RegularizedMax.by_name(name.split()[0])
    names = [key for key in ("gamma", "lam", "alpha", "exponent") if hasattr(operator, key)]
    arguments = {key: getattr(operator, key) for key in names}
    along, across = of_rows(dim=1, **arguments), of_rows(dim=-1, **arguments)

    weights = along(jagged)
    assert weights.is_nested
    for part, of_part in zip(parts, weights.unbind(), strict=True):
        assert_close(of_part, operator(part))
    assert_close(along.value(jagged), torch.stack([operator.value(part) for part in parts]))
    assert_close((weights * jagged).values(), weights.values() * torch.cat(parts))  # the same sizes to PyTorch
    assert_close(across(jagged).values(), torch.cat([across(part) for part in parts]))
    assert_close(across.value(jagged), torch.cat([across.value(part) for part in parts]))

    (weights.values() * upstream).sum().backward()
    leaf = torch.cat(parts).requires_grad_()
    (operator(leaf, None, jagged.offsets()) * upstream).sum().backward()
    assert_close(jagged.grad.values(), leaf.grad)


def test_the_functions_take_masks_and_numbers_of_jagged_rows():
    parts = [random_scores(length) for length in (3, 5, 1)]
    jagged = torch.nested.nested_tensor(parts, layout=torch.jagged)
    mask = torch.nested.nested_tensor_from_jagged(torch.arange(9) % 4 > 0, jagged.offsets())
    lam = torch.tensor([0.0, 0.2, 0.3]).view(3, 1)
    weights = regattn_allennlp.fusedmax(jagged, mask, lam=lam)
    for part, of_part, of_mask, number in zip(parts, weights.unbind(), mask.unbind(), lam, strict=True):
        assert_close(of_part, regattn_allennlp.fusedmax(part, of_mask, lam=number.item()))
    with pytest.raises(ValueError, match="the mask of nested scores must be nested too"):
        regattn_allennlp.fusedmax(jagged, torch.ones(9, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"lam must have 2 dimensions.*\(3,\)"):
        regattn_allennlp.fusedmax(jagged, lam=lam.view(3))
    with pytest.raises(ValueError, match="dim must be one of the 1 after the batch, but is 0"):
        regattn_allennlp.fusedmax(jagged, dim=0)
    with pytest.raises(TypeError, match=r"torch\.jagged"):
        regattn_allennlp.fusedmax(torch.nested.nested_tensor(parts))


@pytest.mark.parametrize("with_classes", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@every_packed_operator
def test_losses_are_those_of_each_row(operator, smoothing, with_classes):
    scores, mask = entries().requires_grad_(), entry_mask()
    if with_classes:
        # Of a masked class, of a row without entries, of a row that is ignored.
        target = torch.tensor([[2, 0], [7, 0], [4, 3], [0, -100], [1, 0]])
    else:
        target = torch.cat([Softmax(dim=0)(entries(seed=1)[where], mask[where]) for where in ROWS])
    options = {"label_smoothing": smoothing, "reduction": "none"}
    losses = fenchel_young_loss(scores, target, operator, mask, offsets=OFFSETS, **options)
    mean = fenchel_young_loss(scores, target, operator, mask, label_smoothing=smoothing, offsets=OFFSETS)

    own_targets = target if with_classes else [target[where] for where in ROWS]
    expected = torch.stack(
        [
            fenchel_young_loss(scores[where], own, operator, mask[where], **options)
            if where.start < where.stop
            else scores.new_zeros(2)
            for where, own in zip(ROWS, own_targets, strict=True)
        ]
    )
    assert_close(losses, expected)
    is_counted = torch.stack([mask[where].any(0) for where in ROWS])
    is_counted &= target != -100 if with_classes else True
    assert_close(mean, losses.sum() / is_counted.sum())
    of_finite = [values.where(losses.isfinite(), 0).sum() for values in (losses, expected)]
    gradients = [torch.autograd.grad(total, scores)[0] for total in of_finite]
    assert_close(*gradients)


def test_losses_of_jagged_rows_and_errors_of_packed_ones():
    parts = [random_scores(length) for length in (3, 5, 1)]
    jagged = torch.nested.nested_tensor(parts, layout=torch.jagged)
    classes = torch.tensor([2, 4, 0])
    losses = FenchelYoungLoss(Sparsemax(), reduction="none")(jagged, classes)
    expected = [fenchel_young_loss(part, k, Sparsemax()) for part, k in zip(parts, classes, strict=True)]
    assert_close(losses, torch.stack(expected))
    with pytest.raises(ValueError, match=r"from 0 to 2 .* but has 3"):
        fenchel_young_loss(jagged, torch.tensor([3, 0, 0]), Sparsemax())
    with pytest.raises(ValueError, match="weight must be None for packed rows"):
        fenchel_young_loss(jagged, classes, Sparsemax(), weight=torch.ones(9, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"class indices .* must have the shape \(3,\)"):
        fenchel_young_loss(torch.cat(parts), torch.tensor([0, 0]), Sparsemax(), offsets=jagged.offsets())


@pytest.mark.parametrize("name", [*DENSE_ONLY, "custom_max"])
def test_what_takes_no_packed_rows_says_so(name):
    operator = CustomMax(Softmax().omega, dim=0) if name == "custom_max" else RegularizedMax.by_name(name)(dim=0)
    for method in (operator, operator.value):
        with pytest.raises(ValueError, match=f"{name} takes no packed rows: offsets must be None"):
            method(entries(), None, OFFSETS)
    with pytest.raises(ValueError, match=f"{name} takes no packed rows"):
        fenchel_young_loss(entries(), torch.zeros(5, 2, dtype=torch.int64), operator, offsets=OFFSETS)
