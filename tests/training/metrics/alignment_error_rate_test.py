import itertools

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.testing import run_distributed_test
from allennlp.training.metrics import Metric
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate import Alignment
from nltk.translate.metrics import alignment_error_rate

from regattn_allennlp.compatibility.training_state.metric_states import metric_states, set_metric_states
from regattn_allennlp.data.token_links import TokenLinks
from regattn_allennlp.training.metrics import AlignmentErrorRate


def one_word_each(length: int) -> tuple[tuple[int, ...], ...]:
    return tuple((number,) for number in range(length))


def links(sure, possible=(), size=(3, 3)) -> TokenLinks:
    return TokenLinks(frozenset(sure), frozenset(sure) | frozenset(possible), *map(one_word_each, size))


def attending_to(columns, num_columns=3) -> torch.Tensor:
    """Each row's largest weight, but not all of it, at one column."""
    weights = torch.full((1, len(columns), num_columns), 0.2 / num_columns)
    weights[0, range(len(columns)), columns] = 0.8
    return weights


def names(error_rate, precision, recall):
    return pytest.approx(
        {"alignment_error_rate": error_rate, "alignment_precision": precision, "alignment_recall": recall}
    )


def test_nltks_example():
    metric = Metric.by_name("alignment_error_rate")()
    assert metric.get_metric() == {}
    metric(attending_to([0, 2, 1]), [links([(0, 0), (1, 1), (2, 2)])])
    # One of three links is right; without possible links AER is 1 - F1.
    assert metric.get_metric(reset=True) == names(2 / 3, 1 / 3, 1 / 3)
    assert metric.get_metric() == {}


def test_possible_links_are_no_mistakes_and_need_not_be_found():
    metric = AlignmentErrorRate()
    metric(attending_to([0, 2, 2]), [links([(0, 0), (1, 1)], [(2, 1), (2, 2)])])
    # A = {00, 12, 22}: A & S = {00}, A & P = {00, 22}.
    assert metric.get_metric(reset=True) == names(1 - (1 + 2) / (3 + 2), 2 / 3, 1 / 2)
    metric(attending_to([0, 1, 2]), [links([(0, 0), (1, 1)], [(2, 1), (2, 2)])])
    assert metric.get_metric() == names(0, 1, 1)


def test_a_threshold_makes_several_links_or_none():
    weights = torch.tensor([[[0.5, 0.5, 0.0], [0.1, 0.6, 0.3], [0.4, 0.3, 0.3]]])
    gold = [links([(0, 0), (0, 1), (1, 1)])]
    metric = AlignmentErrorRate(threshold=0.5)  # of the last row nothing
    metric(weights, gold)
    assert metric.get_metric(reset=True) == names(0, 1, 1)
    metric = AlignmentErrorRate()  # of equal ones the first
    metric(weights, gold)
    assert metric.get_metric() == names(1 - 4 / 6, 2 / 3, 2 / 3)
    metric = AlignmentErrorRate(threshold=1)
    metric(weights, gold)
    assert metric.get_metric() == names(1, 0, 0)


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1])
def test_a_threshold_is_a_weight(threshold):
    with pytest.raises(ConfigurationError, match=f"is {threshold}, and should be a weight above 0, at most 1"):
        AlignmentErrorRate(threshold)


def test_a_link_of_tokens_is_one_of_words():
    # "[CLS] ga rden" attends to "der Gar ten [SEP]"; the last word of the second text was cut.
    gold = TokenLinks(
        frozenset({(0, 1), (1, 2)}), frozenset({(0, 0), (0, 1), (1, 2)}), ((), (0,), (0,)), ((0,), (1,), (1,), ())
    )
    metric = AlignmentErrorRate()
    metric(attending_to([1, 1, 2], 4), [gold])
    # What no word attends to does not count, and both pieces have made the same link, one of two.
    assert metric.get_metric(reset=True) == names(1 - 2 / 3, 1, 1 / 2)
    metric(attending_to([1, 0, 3], 4), [gold])
    assert metric.get_metric(reset=True) == names(1 - 1 / 3, 1, 0)
    # A token may be of several words.
    metric(attending_to([0], 1), [TokenLinks(frozenset(), frozenset({(0, 0)}), ((0, 1),), ((0,),))])
    assert metric.get_metric() == names(1 - 1 / 2, 1 / 2, 0)


def test_padding_makes_no_links():
    metric = AlignmentErrorRate(threshold=0.1)
    weights = torch.full((2, 3, 3), 0.5)
    metric(weights, [links([(0, 0)], size=(1, 1)), links([(0, 0), (1, 0)], size=(2, 1))])
    assert metric.get_metric() == names(0, 1, 1)


@st.composite
def items(draw):
    num_rows, num_columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    weights = draw(
        st.lists(
            st.lists(st.integers(0, 10), min_size=num_columns, max_size=num_columns),
            min_size=num_rows, max_size=num_rows,
        )
    )  # fmt: skip
    every = list(itertools.product(range(num_rows), range(num_columns)))
    sure = draw(st.sets(st.sampled_from(every)))
    possible = draw(st.sets(st.sampled_from(every)))
    return torch.tensor(weights) / 10, links(sure, possible, (num_rows, num_columns))


@settings(deadline=None)
@given(st.lists(items(), min_size=1, max_size=4), st.sampled_from([None, 0.25, 0.5, 1.0]))
def test_numbers_are_those_of_the_sets(of_items, threshold):
    metric = AlignmentErrorRate(threshold)
    made, sure, possible = set(), set(), set()
    for number, (weights, gold) in enumerate(of_items):
        metric(weights.unsqueeze(0), [gold])
        for i, row in enumerate(weights.tolist()):
            for j, weight in enumerate(row):
                if weight >= threshold if threshold else j == row.index(max(row)):
                    made.add((number, i, j))
        sure |= {(number, *link) for link in gold.sure}
        possible |= {(number, *link) for link in gold.possible}
    found = metric.get_metric()
    if not made and not sure:
        assert found == {}
        return
    assert found == names(
        1 - (len(made & sure) + len(made & possible)) / (len(made) + len(sure)),
        len(made & possible) / len(made) if made else 0,
        len(made & sure) / len(sure) if sure else 0,
    )
    # NLTK's, with the place of an item as a part of the word.
    hypothesis, reference, also = (
        Alignment([(f"{n} {i}", f"{n} {j}") for n, i, j in of]) for of in (made, sure, possible)
    )
    assert found["alignment_error_rate"] == pytest.approx(alignment_error_rate(reference, hypothesis, also))


class Measured(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rates = {"a": AlignmentErrorRate(), "b": AlignmentErrorRate(0.5)}

    def count(self, columns) -> dict:
        for metric in self.rates.values():
            metric(attending_to(columns), [links([(0, 0), (1, 1), (2, 2)])])
        return {name: metric.get_metric() for name, metric in self.rates.items()}


def test_a_training_that_goes_on_counts_on(tmp_path):
    model, other = Measured(), Measured()
    model.count([0, 2, 1])
    torch.save(metric_states(model), tmp_path / "states")
    set_metric_states(other, torch.load(tmp_path / "states", weights_only=True), torch.device("cpu"))
    expected = model.count([0, 1, 2])
    assert other.count([0, 1, 2]) == expected
    assert expected["a"] == names(1 - 4 / 6, 4 / 6, 4 / 6) and Measured().count([0, 1, 2]) != expected


def in_each_process(rank: int, world_size: int, gpu_id: int, columns) -> None:
    metric = AlignmentErrorRate()
    metric(attending_to(columns[rank]), [links([(0, 0), (1, 1), (2, 2)])])
    assert metric.get_metric() == names(1 - 4 / 6, 4 / 6, 4 / 6)


def test_processes_are_summed():
    run_distributed_test([-1, -1], in_each_process, columns=[[0, 2, 1], [0, 1, 2]])
