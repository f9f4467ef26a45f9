"""Whether two variants differ by more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Optional

import numpy as np
from scipy import stats

# Scores such as accuracies of annotators' answers are multiples of a tenth or of a thirtieth; BLEU of nothing.
MAX_DENOMINATOR = 60
# The distribution of an exact test has so many values at most: a few seconds.
MAX_EXACT_VALUES = 100_000
# Of a test that is not exact; no p-value is below 2 / (NUM_DRAWS + 1).
NUM_DRAWS = 9999


@dataclass(frozen=True)
class Difference:
    """
    difference : `float`
        The mean score of the first variant less that of the second, between -1 and 1.
    p_value : `float`
        Two-sided, of the sign-flip test.
    confidence_interval : `Tuple[float, float]`
        Of the difference, at 95 %.
    exact : `bool`
        Whether p is exact; else it is from `NUM_DRAWS` draws.
    """

    difference: float
    p_value: float
    confidence_interval: tuple[float, float]
    exact: bool


def paired_sign_flip_test(first: np.ndarray, second: np.ndarray) -> Difference:
    """
    Tests whether two variants are equally good, from how good they are on the same items, each trained with one seed
    or more. An item's difference is the first variant's mean score over its seeds less the second's; the difference is
    the mean over the items.

    p: the paired permutation test of Fisher and Pitman. If the variants are alike, each item's difference is as likely
    to have the opposite sign. p is the probability, over all signs, that their sum is as far from 0 as it is. It is
    exact where the scores are 0 and 1, or other multiples of one fraction; with one seed each, of 0 and 1, it is
    McNemar's exact test. Other scores, such as an item's BLEU, have too many sums: signs are drawn `NUM_DRAWS` times,
    always the same ones, which is known as approximate randomization (Noreen 1989, Computer Intensive Methods for
    Testing Hypotheses), and p is twice (1 + the draws that are as far to that side) / (1 + all draws).

    The interval is Student's for the mean of the items' differences, which needs many items that differ to be good:
    some dozens. Where no item differs it is one point, and p is 1.

    What p says: how easily chance in the choice of the test items makes such a difference between *these trained
    models*. What it does not say: that other seeds would give the same; for that, look at the spread over the seeds.

    # Parameters

    first : `np.ndarray`
        Shape (num_first_seeds, num_items), bools or floats from 0 to 1: how good each seed's model is on each item, or
        whether it is right. num_items >= 2.
    second : `np.ndarray`
        Shape (num_second_seeds, num_items): the same items in the same order.
    """
    differences = first.mean(axis=0) - second.mean(axis=0)
    mean = float(differences.mean())
    margin = float(stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences))
    integers = _integer_differences(first, second)
    p_value = _drawn_p_value(tuple(differences.tolist())) if integers is None else _sign_flip_p_value(integers)
    return Difference(mean, p_value, (mean - margin, mean + margin), integers is not None)


def _integer_differences(first: np.ndarray, second: np.ndarray) -> Optional[np.ndarray]:
    """The items' differences times whatever makes them all integers, if they are few; shape (num_items,)."""
    scores = np.concatenate([first, second]).astype(float)
    for denominator in range(1, MAX_DENOMINATOR + 1):
        # Models compute in single precision.
        if np.abs(scores * denominator - (scores * denominator).round()).max() < 1e-6 * denominator:
            multiples = [(one * float(denominator)).round().astype(np.int64).sum(axis=0) for one in (first, second)]
            differences = len(second) * multiples[0] - len(first) * multiples[1]
            # With as many seeds on both sides this leaves the sum few values.
            differences //= max(np.gcd.reduce(differences), 1)
            return differences if np.abs(differences).sum() <= MAX_EXACT_VALUES else None
    return None


@cache  # the report is written anew after each run, most of whose pairs are those of before
def _drawn_p_value(differences: tuple[float, ...]) -> float:
    test = stats.permutation_test(
        (np.array(differences),),
        lambda items, axis: items.mean(axis=axis),
        permutation_type="samples",  # of a single sample: its signs
        vectorized=True,
        n_resamples=NUM_DRAWS,
        batch=1000,
        rng=0,
    )
    return float(test.pvalue)


def _sign_flip_p_value(differences: np.ndarray) -> float:
    """P(|sum of +-d_i| >= |sum of d_i|) over all signs, each as likely, for integers d_i of shape (num_items,)."""
    magnitudes = np.abs(differences[differences != 0])
    if not len(magnitudes):
        return 1.0
    total, observed = magnitudes.sum(), abs(differences.sum())
    # The distribution of the sum of those magnitudes whose sign is plus: a binomial number of each, independent of the
    # others. Convolved as it is defined and not by FFT: all terms are positive, so that also the smallest
    # probabilities are right, while FFT's round-off is that of the largest. 10,000 items take about a second.
    distribution = np.ones(1)
    for magnitude, count in zip(*np.unique(magnitudes, return_counts=True), strict=True):
        share = np.zeros(magnitude * count + 1)
        share[::magnitude] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = np.convolve(distribution, share)
    # The signed sum is -observed or less where the positive part is this or less; the distribution is symmetric.
    tail = distribution[: (total - observed) // 2 + 1].sum()
    return float(min(1.0, 2 * tail))


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """
    Adjusts the p-values of several tests (Holm 1979, Scandinavian Journal of Statistics 6): to reject what is at most
    alpha keeps the probability of any false rejection at most alpha, whatever the tests' dependence. They stay in
    their order.
    """
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values)
    # The smallest of m times m, the next times m - 1, ...; no test is rejected before one with a smaller p.
    adjusted = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    return adjusted[np.argsort(order)].tolist()
