import pytest
from hypothesis import given
from hypothesis import strategies as st

from regattn_allennlp.visualization import equal_groups, equal_runs

# Of few values, so that equal ones meet.
WEIGHTS = st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5]), max_size=12)


def positions(runs) -> list[int]:
    return [position for start, stop in runs for position in range(start, stop)]


@given(WEIGHTS)
def test_runs_are_the_longest_of_equal_weights_that_are_not_0(weights):
    expected = []
    for start in range(len(weights)):
        for stop in range(start + 1, len(weights) + 1):
            alike = len(set(weights[start:stop])) == 1 and weights[start] != 0
            longer_to_the_left = start > 0 and weights[start - 1] == weights[start]
            longer_to_the_right = stop < len(weights) and weights[stop] == weights[start]
            if alike and not longer_to_the_left and not longer_to_the_right:
                expected.append((start, stop))
    assert equal_runs(weights) == expected


@given(WEIGHTS)
def test_two_words_are_in_one_group_if_and_only_if_they_share_a_weight(weights):
    groups = equal_groups(weights)
    group_of = {position: index for index, runs in enumerate(groups) for position in positions(runs)}
    for one in range(len(weights)):
        for other in range(len(weights)):
            if one != other:
                shared = weights[one] == weights[other] != 0
                assert shared == (one in group_of and group_of[one] == group_of.get(other))
    assert sum(len(positions(runs)) for runs in groups) == len(group_of)  # no position twice


@given(WEIGHTS)
def test_groups_come_with_the_larger_weight_first_and_consist_of_runs(weights):
    groups = equal_groups(weights)
    heights = [weights[runs[0][0]] for runs in groups]
    assert heights == sorted(heights, reverse=True)
    assert all(set(runs) <= set(equal_runs(weights)) and runs == sorted(runs) for runs in groups)


@pytest.mark.parametrize(
    "weights, groups",
    [
        ([0.2, 0.2, 0.3, 0.0, 0.3], [[(2, 3), (4, 5)], [(0, 2)]]),
        ([0.5, 0.2, 0.3], []),
        ([0.0, 0.0, 1.0], []),
        ([], []),
    ],
)
def test_known_groups(weights, groups):
    assert equal_groups(weights) == groups
