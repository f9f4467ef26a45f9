"""What a kill leaves of checkpoints, and which of them a training goes on from."""

import logging
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.checkpointer import Checkpointer
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from allennlp.training.trainer import TrainerCheckpoint

import regattn_allennlp.compatibility  # noqa: F401
from tests.compatibility.killed import kill_in, while_writing


class Training:
    """What a checkpointer asks of a trainer."""

    def __init__(self, epochs: int, **state) -> None:
        self._state = {"epochs_completed": epochs, "batches_in_epoch_completed": 0, **state}

    def get_checkpoint_state(self) -> TrainerCheckpoint:
        return TrainerCheckpoint({"weight": torch.full((1000,), float(self._state["epochs_completed"]))}, self._state)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def write(folder: Path, *epochs: int) -> None:
    for epoch in epochs:
        Checkpointer(folder, keep_most_recent_by_count=None).save_checkpoint(Training(epoch))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def test_a_file_has_its_name_when_it_is_whole(tmp_path):
    write(tmp_path, 1)
    before = names(tmp_path)
    kill_in(lambda: write(tmp_path, 2), while_writing)
    assert names(tmp_path) - before == {"model_state_e2_b0.th.unfinished"}
    assert Checkpointer(tmp_path).load_checkpoint().trainer_state["epochs_completed"] == 1

    trainer = GradientDescentTrainer.__new__(GradientDescentTrainer)
    trainer._ddp_wrapped_model, trainer.model = None, torch.nn.Linear(2, 2)
    trainer._save_model_state(str(tmp_path / "best.th"))
    trainer.model = torch.nn.Linear(100, 100)
    kill_in(lambda: trainer._save_model_state(str(tmp_path / "best.th")), while_writing)
    assert torch.load(tmp_path / "best.th")["weight"].shape == (2, 2)


@pytest.mark.parametrize("broken", ["model_state half", "training_state half", "training_state missing"])
def test_the_latest_whole_checkpoint_is_taken(tmp_path, caplog, broken):
    write(tmp_path, 1, 2, 3)
    kind, how = broken.split()
    path = tmp_path / f"{kind}_e3_b0.th"
    if how == "half":
        cut(path)
    else:
        path.unlink()
        path = tmp_path / "model_state_e3_b0.th"
    with caplog.at_level(logging.WARNING):
        checkpoint = Checkpointer(tmp_path).load_checkpoint()
    assert checkpoint.trainer_state["epochs_completed"] == 2 and checkpoint.model_state["weight"].eq(2).all()
    assert f"{path} is not whole" in caplog.text
    # What is left of the third gives way to the third when it is written again, and is not lost.
    assert f"{path.name}.incomplete" in names(tmp_path)
    write(tmp_path, 3)
    checkpoint = Checkpointer(tmp_path).load_checkpoint()
    assert checkpoint.trainer_state["epochs_completed"] == 3 and checkpoint.model_state["weight"].eq(3).all()


def test_half_of_the_first_checkpoint_is_none(tmp_path):
    write(tmp_path, 1)
    cut(tmp_path / "training_state_e1_b0.th")
    assert Checkpointer(tmp_path).load_checkpoint() is None


def test_old_checkpoints_are_removed_as_before(tmp_path):
    checkpointer = Checkpointer(tmp_path)
    for epoch in range(1, 5):
        checkpointer.save_checkpoint(Training(epoch))
    assert names(tmp_path) == {f"{kind}_state_e{epoch}_b0.th" for kind in ("model", "training") for epoch in (3, 4)}


@pytest.mark.parametrize("core", [b"numpy._core", b"numpy.core"])
def test_states_that_were_written_with_numbers_of_numpy_load(tmp_path, core):
    write(tmp_path, 1)
    path = tmp_path / "training_state_e1_b0.th"
    numbers = {kind.__name__: kind(1) for kind in (np.float64, np.float32, np.float16, np.int64, np.int32, np.bool_)}
    torch.save({"epochs_completed": 1, "batches_in_epoch_completed": 0, "array": np.arange(3.0), **numbers}, path)
    # Versions of numpy have other names for the same functions.
    with zipfile.ZipFile(path) as written:
        content = {name: written.read(name).replace(b"numpy._core", core) for name in written.namelist()}
    with zipfile.ZipFile(path, "w") as rewritten:
        for name, data in content.items():
            rewritten.writestr(name, data)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)
    loaded = Checkpointer(tmp_path).load_checkpoint().trainer_state
    assert {name: loaded[name] for name in numbers} == numbers
    assert loaded["array"].tolist() == [0, 1, 2]


class Trusted:
    pass


def test_a_class_that_is_not_trusted_is_named(tmp_path):
    Checkpointer(tmp_path).save_checkpoint(Training(1, callbacks=[Trusted()]))
    before = names(tmp_path)
    with pytest.raises(ConfigurationError, match=r": \S*\.Trusted in \S*training_state_e1_b0.th. .*add_safe_globals"):
        Checkpointer(tmp_path).load_checkpoint()
    assert names(tmp_path) == before
    with torch.serialization.safe_globals([Trusted]):
        assert isinstance(Checkpointer(tmp_path).load_checkpoint().trainer_state["callbacks"][0], Trusted)
