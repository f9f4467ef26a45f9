import json

from tests.conftest import PROJECT_ROOT, SMALL

CONFIG = PROJECT_ROOT / "training_configs" / "sample" / "fusedmax.jsonnet"
CALLBACKS = [{"type": "wandb", "project": "attention", "summary_interval": 1}]


def test_a_run_is_logged_and_goes_on_under_its_name(allennlp, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "offline")
    overrides = json.dumps({**SMALL, "trainer.callbacks": CALLBACKS})
    train = ("train", CONFIG, "--serialization-dir", tmp_path, "--include-package", "regattn_allennlp")
    allennlp(*train, "--overrides", overrides)
    (first,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    # The file holds names and numbers as they are.
    assert b"validation/accuracy" in first.read_bytes()
    assert json.loads((first.parent / "files" / "config.json").read_text())["trainer"]["callbacks"] == CALLBACKS
    assert "anonymous" not in capfd.readouterr().err

    allennlp(*train, "--overrides", overrides, "--recover")
    runs = set(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(runs) == 2
    assert {run.name for run in runs} == {first.name}
