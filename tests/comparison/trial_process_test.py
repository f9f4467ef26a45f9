import json

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.comparison.engine import run_trials
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


def test_a_process_that_ends_without_a_word_is_a_failure(tmp_path, monkeypatch):
    (tmp_path / "ends.py").write_text("import os; os._exit(7)")
    (tmp_path / "request.json").write_text(json.dumps({"include_package": ["ends"]}))
    monkeypatch.chdir(tmp_path)
    assert list(run_trials([tmp_path])) == [tmp_path]
    assert "exit status 7" in (tmp_path / "failure.txt").read_text()
    assert not (tmp_path / "outcome.json").exists()
