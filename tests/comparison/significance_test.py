import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from regattn_allennlp.comparison.significance import NUM_DRAWS, holm_correction, paired_sign_flip_test

TENTHS = st.integers(0, 10)


def seeds(num_items: int):
    """Up to three seeds' correctness."""
    return st.integers(1, 3).flatmap(lambda num_seeds: hnp.arrays(np.bool_, (num_seeds, num_items)))


def correct(random: np.random.Generator, num_seeds: int, num_items: int, accuracy: float) -> np.ndarray:
    return random.random((num_seeds, num_items)) < accuracy


@given(hnp.arrays(np.bool_, (1, 60)), hnp.arrays(np.bool_, (1, 60)))
def test_with_one_seed_each_it_is_mcnemars_exact_test(first, second):
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    result = paired_sign_flip_test(first, second)
    expected = stats.binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    assert result.p_value == pytest.approx(expected, rel=1e-9)
    assert result.difference == pytest.approx((only_first - only_second) / 60)


@given(st.data(), st.integers(2, 9))
def test_with_several_seeds_it_is_the_enumeration_of_all_signs(data, num_items):
    first, second = data.draw(seeds(num_items)), data.draw(seeds(num_items))
    differences = first.mean(axis=0) - second.mean(axis=0)
    sums = [abs(sum(signs * differences)) for signs in itertools.product([-1, 1], repeat=num_items)]
    expected = np.mean([value >= abs(sum(differences)) - 1e-9 for value in sums])
    result = paired_sign_flip_test(first, second)
    assert result.p_value == pytest.approx(expected, rel=1e-9)
    assert result.difference == pytest.approx(first.mean() - second.mean())


def test_agrees_with_scipys_permutation_test():
    random = np.random.default_rng(0)
    first, second = correct(random, 3, 400, 0.85), correct(random, 5, 400, 0.82)
    drawn = stats.permutation_test(
        (first.mean(axis=0), second.mean(axis=0)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=1,
    )
    assert 0.01 < drawn.pvalue < 0.5
    assert paired_sign_flip_test(first, second).p_value == pytest.approx(drawn.pvalue, abs=0.015)


def test_swapped_variants_give_the_opposite():
    random = np.random.default_rng(0)
    first, second = correct(random, 2, 300, 0.8), correct(random, 3, 300, 0.7)
    result, swapped = paired_sign_flip_test(first, second), paired_sign_flip_test(second, first)
    assert swapped.p_value == result.p_value
    assert swapped.difference == pytest.approx(-result.difference)
    assert swapped.confidence_interval == pytest.approx([-bound for bound in result.confidence_interval[::-1]])


def test_the_interval_is_that_of_the_paired_bootstrap():
    random = np.random.default_rng(0)
    first, second = correct(random, 3, 2000, 0.8), correct(random, 2, 2000, 0.78)
    bootstrap = stats.bootstrap(
        (first.mean(axis=0), second.mean(axis=0)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        paired=True,
        vectorized=True,
        rng=1,
        batch=1000,
    )
    assert paired_sign_flip_test(first, second).confidence_interval == pytest.approx(
        bootstrap.confidence_interval, abs=0.001
    )


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_no_item_that_differs(num_seeds):
    first = np.array([[True, False, True]] * num_seeds)
    result = paired_sign_flip_test(first, first[:1])
    assert (result.difference, result.p_value, result.confidence_interval) == (0.0, 1.0, (0.0, 0.0))


def test_every_item_differs():
    result = paired_sign_flip_test(np.ones((2, 12), dtype=bool), np.zeros((1, 12), dtype=bool))
    assert (result.difference, result.confidence_interval) == (1.0, (1.0, 1.0))
    assert result.p_value == pytest.approx(2 / 2**12)


def test_the_smallest_probabilities_are_right():
    num_items = 1000
    first = np.ones((2, num_items), dtype=bool)
    second = np.zeros((2, num_items), dtype=bool)
    second[0, :500] = True
    # All signs must be the same.
    assert paired_sign_flip_test(first, second).p_value == pytest.approx(2 * 0.5**num_items, rel=1e-6)


def test_many_items_and_seeds_are_quick():
    random = np.random.default_rng(0)
    first, second = correct(random, 5, 10_000, 0.6), correct(random, 5, 10_000, 0.6)
    start = time.perf_counter()
    assert 0 < paired_sign_flip_test(first, second).p_value <= 1
    assert time.perf_counter() - start < 20


@given(st.data(), st.integers(2, 8))
def test_multiples_of_a_tenth_are_tested_by_the_enumeration_of_all_signs(data, num_items):
    tenths = st.integers(1, 2).flatmap(lambda num_seeds: hnp.arrays(np.int64, (num_seeds, num_items), elements=TENTHS))
    first, second = (data.draw(tenths).astype(np.float32) / 10 for _ in range(2))  # in a model's precision
    differences = first.mean(axis=0) - second.mean(axis=0)
    sums = [abs(sum(signs * differences)) for signs in itertools.product([-1, 1], repeat=num_items)]
    expected = np.mean([value >= abs(sum(differences)) - 1e-5 for value in sums])
    result = paired_sign_flip_test(first, second)
    assert result.exact and result.p_value == pytest.approx(expected, rel=1e-9)
    assert result.difference == pytest.approx(first.mean() - second.mean(), abs=1e-6)


def test_other_scores_are_tested_by_draws():
    random = np.random.default_rng(0)
    first, second = random.random((2, 17)), random.random((3, 17)) * 0.8
    differences = first.mean(axis=0) - second.mean(axis=0)
    sums = np.zeros(1)  # of all signs
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    expected = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-12)
    result = paired_sign_flip_test(first, second)
    assert not result.exact and 0.01 < expected < 0.5
    # A draw's standard deviation is below the root of p, and two-sided p is twice a tail's.
    assert result.p_value == pytest.approx(expected, abs=8 * (expected / NUM_DRAWS) ** 0.5)
    assert paired_sign_flip_test(first, second) == result
    assert paired_sign_flip_test(second, first).difference == pytest.approx(-result.difference)


def test_a_p_value_of_draws_is_never_0():
    random = np.random.default_rng(0)
    better, worse = 0.5 + random.random((1, 200)) / 2, random.random((1, 200)) / 2
    result = paired_sign_flip_test(better, worse)
    assert not result.exact and result.p_value == pytest.approx(2 / (NUM_DRAWS + 1))


def test_holms_correction_by_hand():
    # 3 * 0.01; 2 * 0.02 of the next; 0.03 alone would be below the one before it.
    assert holm_correction([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    # 4 * 0.005, 3 * 0.04, 2 * 0.7 and 0.9, the last two capped at 1.
    assert holm_correction([0.005, 0.9, 0.04, 0.7]) == pytest.approx([0.02, 1, 0.12, 1])
    assert holm_correction([0.2]) == [0.2]
    assert holm_correction([]) == []


@given(st.lists(st.integers(0, 100).map(lambda percent: percent / 100), max_size=8), st.integers(0, 19))
def test_holms_correction_is_his_sequentially_rejective_procedure(p_values, tested):
    alpha = tested / 20 + 0.00123  # so that no product of p and a number of tests is on the edge
    rejected = set()
    for index in sorted(range(len(p_values)), key=p_values.__getitem__):
        if p_values[index] > alpha / (len(p_values) - len(rejected)):
            break
        rejected.add(index)
    assert {index for index, value in enumerate(holm_correction(p_values)) if value <= alpha} == rejected
