import json

import torch

from regattn_allennlp.comparison.engine import run_trials
from regattn_allennlp.comparison.trial_process import remove_broken_checkpoints


def test_of_checkpoints_the_whole_ones_stay(tmp_path):
    for epoch in (1, 2, 3):
        for kind in ("model", "training"):
            torch.save({"weights": torch.zeros(1000)}, tmp_path / f"{kind}_state_e{epoch}_b0.th")
    half_written = tmp_path / "training_state_e2_b0.th"
    half_written.write_bytes(half_written.read_bytes()[:500])
    (tmp_path / "training_state_e3_b0.th").unlink()
    remove_broken_checkpoints(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model_state_e1_b0.th", "training_state_e1_b0.th"]


def test_a_process_that_ends_without_a_word_is_a_failure(tmp_path, monkeypatch):
    (tmp_path / "ends.py").write_text("import os; os._exit(7)")
    (tmp_path / "request.json").write_text(json.dumps({"include_package": ["ends"]}))
    monkeypatch.chdir(tmp_path)
    assert list(run_trials([tmp_path])) == [tmp_path]
    assert "exit status 7" in (tmp_path / "failure.txt").read_text()
    assert not (tmp_path / "outcome.json").exists()
