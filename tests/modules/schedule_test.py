import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.modules.schedule import Schedule


def numbers(schedule: Schedule, count: int) -> list[float]:
    return [schedule.next().item() for _ in range(count)]


def test_numbers_change_evenly_and_stay():
    assert numbers(Schedule(0.0, 1.0, 4), 6) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert numbers(Schedule(3.0, 1.0, 2), 4) == [3.0, 2.0, 1.0, 1.0]


def test_an_exponential_one_changes_by_factors():
    assert numbers(Schedule(8.0, 1.0, 3, exponential=True), 5) == pytest.approx([8.0, 4.0, 2.0, 1.0, 1.0])


def test_evaluation_is_no_batch():
    schedule = Schedule(0.0, 1.0, 4)
    numbers(schedule, 2)
    schedule.eval()
    assert numbers(schedule, 3) == [0.5] * 3
    schedule.train()
    assert numbers(schedule, 2) == [0.5, 0.75]


def test_a_restored_one_goes_on():
    schedule, restored = Schedule(0.0, 1.0, 4), Schedule(0.0, 1.0, 4)
    numbers(schedule, 3)
    restored.load_state_dict(schedule.state_dict())
    assert numbers(restored, 1) == [0.75]


def test_single_precision_stays_single():
    assert (Schedule(0.1, 1.0, 3).next() * torch.ones(2)).dtype == torch.float32


@pytest.mark.parametrize(
    "block, message",
    [
        ({"initial": 1.0, "final": 0.1, "num_batches": 0}, '"num_batches" must be at least 1, but is 0'),
        ({"initial": 1.0, "final": 0.0, "num_batches": 9, "exponential": True}, "above 0, but are 1.0 and 0.0"),
    ],
    ids=str,
)
def test_what_is_no_schedule_is_named(block, message):
    with pytest.raises(ConfigurationError, match=message):
        Schedule.from_params(Params(block))
