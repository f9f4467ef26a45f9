import json
import sys
from pathlib import Path

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.comparison import trial_process
from regattn_allennlp.comparison.engine import run_trials
from regattn_allennlp.comparison.identities import Identities
from regattn_allennlp.comparison.trial_process import train
from tests.conftest import PROJECT_ROOT, SMALL

CONFIG = PROJECT_ROOT / "training_configs" / "sample" / "softmax.jsonnet"


def test_a_training_that_cannot_be_gone_on_with_is_kept(allennlp, tmp_path):
    config = Params.from_file(CONFIG, json.dumps(SMALL)).as_dict(quiet=True)
    train(config, tmp_path / "model", [])
    (tmp_path / "model" / "model.tar.gz").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "model").glob("*.th")}
    state = tmp_path / "model" / "training_state_e1_b0.th"
    states = torch.load(state)
    torch.save({**states, "version": 7}, state)
    before[state] = state.read_bytes()
    with pytest.raises(ConfigurationError, match=rf"version 7 .*To begin it anew, delete {tmp_path / 'model'}"):
        train(config, tmp_path / "model", [])
    assert {path: path.read_bytes() for path in (tmp_path / "model").glob("*.th")} == before
    torch.save(states, state)
    train(config, tmp_path / "model", [])
    assert (tmp_path / "model" / "model.tar.gz").exists()


def test_a_training_whose_data_change_meanwhile_is_not_kept(allennlp, tmp_path, monkeypatch):
    data = tmp_path / "train.jsonl"
    data.write_text("old")
    config = {"train_data_path": str(data)}
    identity = Identities(tmp_path).of_training(config)
    request = {
        "config": config, "archive": None, "training": identity, "include_package": [], "folder": str(tmp_path),
    }  # fmt: skip
    monkeypatch.setattr(trial_process, "train", lambda *_: data.write_text("new"))
    with pytest.raises(ConfigurationError, match=r"train.jsonl has changed while the comparison was at work"):
        trial_process.run(tmp_path, request)
    assert not (tmp_path / "trained").exists()


def test_a_process_that_ends_without_a_word_is_a_failure(tmp_path, monkeypatch):
    (tmp_path / "ends.py").write_text("import os; os._exit(7)")
    (tmp_path / "request.json").write_text(json.dumps({"include_package": ["ends"]}))
    monkeypatch.chdir(tmp_path)
    assert list(run_trials([tmp_path])) == [tmp_path]
    assert "exit status 7" in (tmp_path / "failure.txt").read_text()
    assert not (tmp_path / "outcome.json").exists()


def stand_in(folder: Path, monkeypatch, script: str) -> None:
    """Another program in the place of the trials' process; its third argument is a trial's folder."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_a_killed_process_suggests_memory(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "kill -9 $$")
    assert list(run_trials([tmp_path])) == [tmp_path]
    assert "killed by signal 9: as a rule, the machine had no memory left" in (tmp_path / "failure.txt").read_text()


@pytest.mark.parametrize(
    "visible, num_workers, expected", [(None, 2, {"0", "1"}), ("5,GPU-7", 2, {"5", "GPU-7"}), (None, 1, {""})]
)
def test_trials_that_run_together_have_a_gpu_each(tmp_path, monkeypatch, visible, num_workers, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    # A GPU that another trial has is a folder that is there already.
    used = tmp_path / "gpu"
    stand_in(
        tmp_path, monkeypatch,
        f'mkdir "{used}$CUDA_VISIBLE_DEVICES" && echo "$CUDA_VISIBLE_DEVICES" > "$3/gpu" && sleep 0.1 && '
        f'rmdir "{used}$CUDA_VISIBLE_DEVICES"',
    )  # fmt: skip
    folders = [tmp_path / str(number) for number in range(6)]
    for folder in folders:
        folder.mkdir()
    assert set(run_trials(folders, num_workers)) == set(folders)
    assert {(folder / "gpu").read_text().strip() for folder in folders} == expected
    assert all("exit status 0" in (folder / "failure.txt").read_text() for folder in folders)


@pytest.mark.parametrize("number, expected", [(1, 0), (2, 3)])
def test_a_single_gpu_is_taken_whatever_its_number(tmp_path, monkeypatch, number, expected):
    taken = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    monkeypatch.setattr(trial_process, "train_model", lambda params, *_, **__: taken.append(params["trainer"]))
    train({"trainer": {"cuda_device": 3}}, tmp_path, [])
    assert [trainer["cuda_device"] for trainer in taken] == [expected]
