import pytest
import torch
from torch.testing import assert_close

import regattn_allennlp
from regattn_allennlp import (
    ConstrainedSparsemax,
    Entmax,
    Fusedmax,
    Normmax,
    Oscarmax,
    RegularizedMax,
    Softmax,
    Sparsemax,
    SquaredPNormMax,
    TopKSparsemax,
)
from tests.operators.common import NAMES, build, every_operator, omega_by_definition, random_mask, random_scores

CLASSES = {
    "softmax": Softmax,
    "sparsemax": Sparsemax,
    "fusedmax": Fusedmax,
    "oscarmax": Oscarmax,
    "entmax": Entmax,
    "squared_p_norm_max": SquaredPNormMax,
    "normmax": Normmax,
    "constrained_sparsemax": ConstrainedSparsemax,
    "top_k_sparsemax": TopKSparsemax,
}


@pytest.fixture
def empty_registry(monkeypatch):
    monkeypatch.setattr(RegularizedMax, "_registry", {})


@every_operator
def test_operators_are_registered_under_their_names(name):
    assert name in RegularizedMax.list_available()
    assert RegularizedMax.by_name(name) is CLASSES[name]
    assert issubclass(CLASSES[name], RegularizedMax)
    assert issubclass(CLASSES[name], torch.nn.Module)


def test_a_subclass_can_be_registered(empty_registry):
    @RegularizedMax.register("half-softmax")
    class HalfSoftmax(Softmax):
        def __init__(self, factor: float, dim: int = -1) -> None:
            super().__init__(gamma=2.0 * factor, dim=dim)

    assert RegularizedMax.list_available() == ["half-softmax"]
    assert RegularizedMax.by_name("half-softmax") is HalfSoftmax
    operator = RegularizedMax.from_params({"type": "half-softmax", "factor": 1.5, "dim": 0})
    scores = random_scores(3, 2)
    assert_close(operator(scores), torch.softmax(scores / 3.0, 0))


def test_a_name_cannot_be_registered_twice(empty_registry):
    RegularizedMax.register("mine")(Softmax)
    with pytest.raises(ValueError, match=r"'mine'.*Softmax"):
        RegularizedMax.register("mine")(Sparsemax)
    assert RegularizedMax.by_name("mine") is Softmax


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    for look_up in (RegularizedMax.by_name, lambda name: RegularizedMax.from_params({"type": name})):
        with pytest.raises(ValueError, match=r"'sparsermax'.*fusedmax.*oscarmax.*softmax.*sparsemax"):
            look_up("sparsermax")


def test_from_params():
    operator = RegularizedMax.from_params({"type": "fusedmax", "gamma": 2.0, "lam": 0.3, "dim": 1})
    assert type(operator) is Fusedmax
    assert (operator.gamma, operator.lam, operator.dim) == (2.0, 0.3, 1)
    operator = RegularizedMax.from_params({"type": "oscarmax"})
    assert type(operator) is Oscarmax
    assert (operator.gamma, operator.lam, operator.dim) == (1.0, 0.1, -1)


def test_from_params_leaves_the_parameters_as_they_are():
    parameters = {"type": "fusedmax", "lam": 0.3}
    RegularizedMax.from_params(parameters)
    assert parameters == {"type": "fusedmax", "lam": 0.3}


def test_from_params_needs_a_type_and_only_arguments_that_exist():
    with pytest.raises(ValueError, match="type"):
        RegularizedMax.from_params({"gamma": 1.0})
    with pytest.raises(TypeError, match="lam"):
        RegularizedMax.from_params({"type": "softmax", "lam": 0.1})
    with pytest.raises(ValueError, match=r"gamma.*-1"):
        RegularizedMax.from_params({"type": "softmax", "gamma": -1})


def test_a_module_shows_its_arguments():
    assert repr(Sparsemax(gamma=2.0, dim=1)) == "Sparsemax(gamma=2.0, dim=1)"
    assert repr(Fusedmax(gamma=2.0, lam=0.3)) == "Fusedmax(gamma=2.0, lam=0.3, dim=-1)"
    assert repr(Oscarmax(lam=0.3, dim=0)) == "Oscarmax(gamma=1.0, lam=0.3, dim=0)"


@every_operator
def test_a_module_is_its_function(name):
    scores, mask = random_scores(3, 4, 5), random_mask(3, 4, 5)
    function = getattr(regattn_allennlp, name)
    assert torch.equal(CLASSES[name]()(scores), function(scores))
    lam = {"lam": 0.4} if name in ("fusedmax", "oscarmax") else {}
    module = CLASSES[name](gamma=0.3, dim=1, **lam)
    assert torch.equal(module(scores, mask), function(scores, mask, dim=1, gamma=0.3, **lam))


@every_operator
def test_omega_is_its_definition(name):
    mask = random_mask(3, 4, 6)
    weights = random_scores(3, 4, 6).exp() * mask
    weights[0] = weights[0].round()  # some zeros and ties too
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1.0)
    operator = build(name, lam=0.3)
    for row, its_mask, omega in zip(
        weights.view(-1, 6), mask.view(-1, 6), operator.omega(weights, mask).view(-1), strict=True
    ):
        assert_close(omega.item(), omega_by_definition(name, row[its_mask].tolist(), lam=0.3))
    for row, omega in zip(weights.view(-1, 6), operator.omega(weights).view(-1), strict=True):
        assert_close(omega.item(), omega_by_definition(name, row.tolist(), lam=0.3))


@every_operator
@pytest.mark.parametrize("dim", [0, 1])
def test_omega_runs_along_any_dimension(name, dim):
    weights, mask = random_scores(3, 4, 5).softmax(dim), random_mask(5)
    weights = weights * mask
    omega = build(name, dim=dim).omega(weights, mask)
    assert_close(omega, build(name).omega(weights.movedim(dim, -1), mask.expand(3, 4, 5).movedim(dim, -1)))


@every_operator
def test_value_is_the_objective_at_the_weights(name):
    scores, mask = random_scores(3, 4, 6), random_mask(3, 4, 6)
    operator = build(name, gamma=0.7, lam=0.3)
    value = operator.value(scores, mask)
    for row, its_mask, of_row in zip(scores.view(-1, 6), mask.view(-1, 6), value.view(-1), strict=True):
        weights = operator(row[its_mask])
        omega = omega_by_definition(name, weights.tolist(), lam=0.3)
        assert_close(of_row.item(), (weights @ row[its_mask]).item() - 0.7 * omega)


@every_operator
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_the_gradient_of_the_value_is_upstream_times_the_weights(name, dim):
    scores, mask = random_scores(3, 4, 5).requires_grad_(), random_mask(3, 4, 5)
    operator = build(name, gamma=0.7, lam=0.3, dim=dim)
    value = operator.value(scores, mask)
    upstream = random_scores(*value.shape, seed=1)
    (gradient,) = torch.autograd.grad(value, scores, upstream)
    assert_close(gradient, upstream.unsqueeze(dim) * operator(scores, mask))
    assert (gradient[~mask] == 0).all()


@every_operator
def test_value_bounds_the_maximum(name):
    # max x - gamma * Omega(one-hot) <= value <= max x - gamma * min Omega, and min Omega is that of uniform weights.
    scores = random_scores(50, 6)
    operator = build(name, gamma=0.7, lam=0.3)
    one_hot = torch.nn.functional.one_hot(scores.argmax(-1), 6).to(scores.dtype)
    uniform = torch.full((6,), 1 / 6, dtype=scores.dtype)
    value = operator.value(scores)
    assert (value >= scores.amax(-1) - 0.7 * operator.omega(one_hot) - 1e-12).all()
    assert (value <= scores.amax(-1) - 0.7 * operator.omega(uniform) + 1e-12).all()


def test_the_base_class_leaves_the_operator_to_subclasses():
    for method in (RegularizedMax(), RegularizedMax().omega):
        with pytest.raises(NotImplementedError):
            method(torch.zeros(3))


def test_the_list_of_operators_is_sorted():
    assert RegularizedMax.list_available() == sorted(RegularizedMax.list_available())
    assert set(NAMES) <= set(RegularizedMax.list_available())


def test_a_copy_has_other_regularization_and_the_original_keeps_its_own():
    scores = random_scores(4, 6)
    learning = Fusedmax(gamma=0.7, lam=0.2, learn_lam=True)
    other = learning.with_regularization(lam=0.5)
    assert (other.gamma, other.lam) == (0.7, 0.5) and not list(other.parameters())
    assert_close(other(scores), Fusedmax(gamma=0.7, lam=0.5)(scores))
    assert learning.lam.item() == pytest.approx(0.2) and list(learning.parameters())
    assert_close(learning.with_regularization().lam, learning.lam)


@pytest.mark.parametrize(
    "values, message",
    [({"alpha": 2.0}, r"Fusedmax has no 'alpha'.*\['gamma', 'lam'\]"), ({"lam": -1.0}, "lam must be")],
)
def test_a_copy_with_what_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Fusedmax(learn_lam=True).with_regularization(**values)
