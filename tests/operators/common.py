"""What the tests of the operators share."""

import itertools
import math

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st

from regattn_allennlp import RegularizedMax

# With the bounds that constrained_sparsemax has by itself, and for rows of no more than top_k scores, the last two are
# sparsemax.
NAMES = [
    "softmax",
    "sparsemax",
    "fusedmax",
    "oscarmax",
    "entmax",
    "squared_p_norm_max",
    "normmax",
    "constrained_sparsemax",
    "top_k_sparsemax",
]

# Those that take no packed rows.
DENSE_ONLY = ["constrained_sparsemax", "top_k_sparsemax"]

every_operator = pytest.mark.parametrize("name", NAMES)

LONGEST_ROW = 12

# Every run tries the same examples; the first one may take as long as a compiler does.
property_test = settings(deadline=None, derandomize=True, max_examples=50)


def build(name: str, gamma: float = 1.0, lam: float = 0.1, dim: int = -1) -> RegularizedMax:
    """The operator of this name; only fusedmax and oscarmax have a `lam`."""
    own = {"fusedmax": {"lam": lam}, "oscarmax": {"lam": lam}, "top_k_sparsemax": {"top_k": LONGEST_ROW}}
    return RegularizedMax.by_name(name)(gamma=gamma, dim=dim, **own.get(name, {}))


def random_scores(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def random_mask(*shape: int, seed: int = 0) -> torch.Tensor:
    """About two thirds are true, and the first of every row is."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 2 / 3
    mask[..., 0] = True
    return mask


def omega_by_definition(name: str, weights: list[float], lam: float) -> float:
    """Omega of one row without masked positions, written as in its definition."""
    if name == "softmax":
        return sum(weight * math.log(weight) for weight in weights if weight > 0)
    if name == "entmax":
        return sum(weight**1.5 - weight for weight in weights) / 0.75
    if name == "squared_p_norm_max":
        return sum(weight**1.5 for weight in weights) ** (2 / 1.5) / 2
    if name == "normmax":
        return sum(weight**2 for weight in weights) ** 0.5
    omega = sum(weight**2 for weight in weights) / 2
    if name == "fusedmax":
        omega += lam * sum(abs(after - before) for before, after in itertools.pairwise(weights))
    if name == "oscarmax":
        omega += lam * sum(max(pair) for pair in itertools.combinations(weights, 2))
    return omega


gammas = st.floats(0.1, 10)
lams = st.floats(0, 3)
# Whole numbers make ties.
_scores = st.one_of(st.integers(-4, 4).map(float), st.floats(-10, 10))
rows = st.lists(_scores, min_size=1, max_size=LONGEST_ROW).map(lambda row: torch.tensor(row, dtype=torch.float64))


@st.composite
def masked_rows(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """A row and a mask that leaves at least one of its positions."""
    row = draw(rows)
    mask = draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row)))
    mask[draw(st.integers(0, len(row) - 1))] = True
    return row, torch.tensor(mask)
