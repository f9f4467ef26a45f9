from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regattn_allennlp.data.vqa_answers import answer_scores, normalize_answer


def score_by_definition(answer: str, answers: list[str]) -> float:
    """VQA's accuracy as it is told: over all groups of nine of the ten, how many of three agree, at most all."""
    groups = list(combinations(answers, 9))
    return fmean(min(1.0, sum(other == answer for other in group) / 3) for group in groups)


@given(st.lists(st.sampled_from(["yes", "no", "2", "dog"]), min_size=10, max_size=10))
def test_scores_are_the_mean_over_the_ten_groups_of_nine(answers):
    scores = answer_scores(answers)
    assert set(scores) == set(answers)
    for answer, score in scores.items():
        assert score == pytest.approx(score_by_definition(answer, answers))


@pytest.mark.parametrize("count, score", [(1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_what_so_many_of_ten_people_are_worth(count, score):
    assert answer_scores(["yes"] * count + [f"other {number}" for number in range(10 - count)])[
        "yes"
    ] == pytest.approx(score)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6))
def test_fewer_people(answers):
    scores = answer_scores(answers)
    assert all(0 <= score <= 1 for score in scores.values())
    # The more people gave an answer the more it is worth; what all gave is right.
    ordered = sorted(scores, key=answers.count)
    assert [scores[answer] for answer in ordered] == sorted(scores.values())
    if len(scores) == 1:
        assert scores == {answers[0]: 1.0}


@pytest.mark.parametrize(
    "answer, normalized",
    [
        ("Yes.", "yes"),
        ("The two dogs", "2 dogs"),
        ("none", "0"),
        ("an  apple,\na pear", "apple pear"),
        ("100,978", "100978"),
        ("1, 2", "1 2"),
        ("3.5 miles.", "3.5 miles"),
        ("2:50 P.M.", "2:50 pm"),
        ("dont know", "don't know"),
        ("girl's", "girl's"),
        ("black/white-ish (mostly)", "black white ish mostly"),
        ("its well", "its well"),
        ("café", "café"),
        ("???", ""),
    ],
)
def test_normalization(answer, normalized):
    assert normalize_answer(answer) == normalized


@given(st.text(max_size=30))
def test_what_is_normalized_stays_so(answer):
    once = normalize_answer(answer)
    assert normalize_answer(once) == once
