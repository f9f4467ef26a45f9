"""Whether two variants differ in accuracy by more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class AccuracyDifference:
    """
    difference : `float`
        The mean accuracy of the first variant less that of the second, between -1 and 1.
    p_value : `float`
        Two-sided, of the sign-flip test.
    confidence_interval : `Tuple[float, float]`
        Of the difference, at 95 %.
    """

    difference: float
    p_value: float
    confidence_interval: tuple[float, float]


def paired_sign_flip_test(first: np.ndarray, second: np.ndarray) -> AccuracyDifference:
    """
    Tests whether two variants have the same accuracy, from which of the same items they get right, each trained with
    one seed or more. An item's difference is the fraction of the first variant's seeds that get it right less that of
    the second's; the difference is the mean over the items.

    p: the paired permutation test of Fisher and Pitman, known as approximate randomization (Noreen 1989, Computer
    Intensive Methods for Testing Hypotheses) where it is done by drawing; here it is exact. If the variants are alike,
    each item's difference is as likely to have the opposite sign. p is the probability, over all signs, that their
    sum is as far from 0 as it is. With one seed each it is McNemar's exact test.

    The interval is Student's for the mean of the items' differences, which needs many items that differ to be good:
    some dozens. Where no item differs it is one point, and p is 1.

    What p says: how easily chance in the choice of the test items makes such a difference between *these trained
    models*. What it does not say: that other seeds would give the same; for that, look at the spread over the seeds.

    # Parameters

    first : `np.ndarray`
        Shape (num_first_seeds, num_items), of bool: whether the item is classified correctly. num_items >= 2.
    second : `np.ndarray`
        Shape (num_second_seeds, num_items): the same items in the same order.
    """
    # Times both numbers of seeds the differences are integers, and so are all their sums. Shape: (num_items,)
    differences = len(second) * first.sum(axis=0) - len(first) * second.sum(axis=0)
    fractions = differences / (len(first) * len(second))
    mean = float(fractions.mean())
    margin = float(stats.t.ppf(0.975, len(fractions) - 1) * stats.sem(fractions))
    return AccuracyDifference(mean, _sign_flip_p_value(differences), (mean - margin, mean + margin))


def _sign_flip_p_value(differences: np.ndarray) -> float:
    """P(|sum of +-d_i| >= |sum of d_i|) over all signs, each as likely, for integers d_i of shape (num_items,)."""
    magnitudes = np.abs(differences[differences != 0])
    if not len(magnitudes):
        return 1.0
    # With as many seeds on both sides this leaves the sum of d_i few values.
    unit = np.gcd.reduce(magnitudes)
    total, observed = magnitudes.sum() // unit, abs(differences.sum()) // unit
    # The distribution of the sum of those magnitudes whose sign is plus: a binomial number of each, independent of the
    # others. Convolved as it is defined and not by FFT: all terms are positive, so that also the smallest
    # probabilities are right, while FFT's round-off is that of the largest. 10,000 items take about a second.
    distribution = np.ones(1)
    for magnitude, count in zip(*np.unique(magnitudes // unit, return_counts=True), strict=True):
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
