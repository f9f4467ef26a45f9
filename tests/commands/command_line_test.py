"""The `allennlp` command line with this plugin: training, evaluation, recovery, discovery."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive

import regattn_allennlp.config_variables  # noqa: F401  (the configs read the environment)
from regattn_allennlp.data.tokenizers import SpacyLanguageTokenizer
from tests.conftest import PROJECT_ROOT, SMALL, environment

CONFIGS = sorted(
    path for data in ("sample", "snli") for path in PROJECT_ROOT.glob(f"training_configs/{data}/*.jsonnet")
)
INCLUDE = ("--include-package", "regattn_allennlp")
LOADERS = ("multiprocess", "cached")
ALLENNLP = (sys.executable, "-m", "allennlp")


def small(overrides: dict | None = None) -> str:
    return json.dumps({**SMALL, **(overrides or {})})


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_there_are_four_configs_of_each_data_set():
    names = {"softmax", "sparsemax", "fusedmax", "oscarmax"}
    assert {(path.parent.name, path.stem) for path in CONFIGS} == {(d, n) for d in ("snli", "sample") for n in names}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_config_trains_with_overrides(allennlp, config, tmp_path):
    allennlp("train", config, "-s", tmp_path / "run", "--overrides", small(), *INCLUDE)
    assert metrics(tmp_path / "run")["epoch"] == 0
    archive = load_archive(tmp_path / "run")
    assert archive.config["model"]["attention"]["type"] == config.stem


def test_configs_differ_in_the_attention_alone():
    for data in ("snli", "sample"):
        configs = [Params.from_file(path).as_dict() for path in CONFIGS if path.parent.name == data]
        for config in configs:
            config["model"].pop("attention")
        assert all(config == configs[0] for config in configs)


def test_the_environment_chooses_word_vectors(allennlp, tmp_path, monkeypatch):
    values = " ".join(["0.5"] * 300)
    others = " ".join(["1.5"] * 300)
    (tmp_path / "glove.txt").write_text(f"dog {values}\ncat {others}\n")
    monkeypatch.setenv("GLOVE", str(tmp_path / "glove.txt"))
    config = PROJECT_ROOT / "training_configs" / "snli" / "sparsemax.jsonnet"
    allennlp("train", config, "-s", tmp_path / "run", "--overrides", small(), *INCLUDE)
    model = load_archive(tmp_path / "run").model
    embedding = model._text_field_embedder.token_embedder_tokens
    assert embedding.weight.shape[1] == 300 and not embedding.weight.requires_grad
    assert model.vocab.get_token_index("dog", "tokens") > 1
    assert embedding.weight[model.vocab.get_token_index("dog")].eq(0.5).all()
    assert not embedding.weight[model.vocab.get_token_index("the")].eq(0.5).all()
    assert embedding.get_output_dim() == 200


def test_lam_and_gamma_are_learned_and_logged(allennlp, tmp_path):
    config = PROJECT_ROOT / "training_configs" / "sample" / "fusedmax.jsonnet"
    attention = {"type": "fusedmax", "gamma": 0.7, "lam": 0.2, "learn_gamma": True, "learn_lam": True}
    allennlp("train", config, "-s", tmp_path / "run", "--overrides", small({"model.attention": attention}), *INCLUDE)
    logged = metrics(tmp_path / "run")
    learned = load_archive(tmp_path / "run").model._attention.regularized_max
    for name, start in ("gamma", 0.7), ("lam", 0.2):
        assert 0 < logged[f"training_attention_{name}"] != pytest.approx(start, rel=1e-6)
        assert logged[f"best_validation_attention_{name}"] == pytest.approx(getattr(learned, name).item())


@pytest.mark.parametrize("loader", LOADERS)
def test_a_run_that_is_repeated_gives_the_same_numbers(allennlp, tmp_path, loader):
    config = PROJECT_ROOT / "training_configs" / "sample" / "oscarmax.jsonnet"
    overrides = small({"data_loader.type": loader, "trainer.num_epochs": 2})
    for name in ("first", "second"):
        allennlp("train", config, "-s", tmp_path / name, "--overrides", overrides, *INCLUDE)
    same = ("training_loss", "validation_loss", "validation_accuracy", "validation_premise_to_hypothesis_zeros")
    assert [metrics(tmp_path / "first")[key] for key in same] == [metrics(tmp_path / "second")[key] for key in same]


def test_evaluates(allennlp, archive, tmp_path):
    allennlp("evaluate", archive, "sample:validation[:64]", "--output-file", tmp_path / "out.json", *INCLUDE)
    evaluated = json.loads((tmp_path / "out.json").read_text())
    trained = metrics(archive.parent)
    for key in ("accuracy", "loss", "premise_to_hypothesis_zeros", "hypothesis_to_premise_segments"):
        assert evaluated[key] == pytest.approx(trained[f"best_validation_{key}"], abs=1e-4)


def test_the_cached_loader_learns_as_the_other_and_from_the_cache(allennlp, tmp_path, monkeypatch):
    # Unshuffled, both loaders give the same batches, and so the same numbers.
    config = PROJECT_ROOT / "training_configs" / "sample" / "softmax.jsonnet"
    batches = {"batch_sampler": None, "batch_size": 32}
    for name, loader in (("in_memory", "multiprocess"), ("written", "cached"), ("found", "cached")):
        if name == "found":
            # What is in the cache is not tokenized again.
            monkeypatch.setattr(SpacyLanguageTokenizer, "tokenize", lambda self, text: pytest.fail(text))
        overrides = small({"data_loader": {"type": loader, **batches}})
        allennlp("train", config, "-s", tmp_path / name, "--overrides", overrides, *INCLUDE)
    same = ("training_loss", "training_accuracy", "validation_loss", "validation_accuracy")
    expected = [metrics(tmp_path / "in_memory")[key] for key in same]
    for name in ("written", "found"):
        assert [metrics(tmp_path / name)[key] for key in same] == expected


def test_counts_the_instances_of_the_cached_loader(allennlp, tmp_path, capsys):
    config = tmp_path / "config.json"  # `count-instances` of AllenNLP 2.10.1 passes its overrides over
    Params.from_file(PROJECT_ROOT / "training_configs" / "snli" / "softmax.jsonnet", small()).to_file(config)
    allennlp("count-instances", config, *INCLUDE)
    assert "contains 192 instances" in capsys.readouterr().out


def test_predicts_with_the_dataset_reader(allennlp, archive, tmp_path):
    allennlp(
        "predict", archive, "sample:validation[:5]", "--use-dataset-reader", "--silent",
        "--output-file", tmp_path / "out.jsonl", *INCLUDE,
    )  # fmt: skip
    predictions = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(predictions) == 5 and all(prediction["premise_tokens"] for prediction in predictions)


def test_an_interrupted_training_recovers(tmp_path):
    # At any moment, by a command of its own; tests/compatibility/recovery_test.py compares the numbers.
    config = PROJECT_ROOT / "training_configs" / "sample" / "softmax.jsonnet"
    folder = tmp_path / "run"
    command = (
        *ALLENNLP, "train", str(config), "-s", str(folder), "--overrides", small({"trainer.num_epochs": 40}), *INCLUDE
    )  # fmt: skip
    with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while not (folder / "metrics_epoch_3.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (folder / "metrics_epoch_39.json").exists(), "the training was over before it was interrupted"
    before = (folder / "metrics_epoch_0.json").stat().st_mtime_ns

    subprocess.run((*command, "--recover"), env=environment(), check=True, capture_output=True)
    assert metrics(folder)["epoch"] == 39
    assert (folder / "metrics_epoch_0.json").stat().st_mtime_ns == before, "it began anew"


@pytest.mark.parametrize("plugins_file", [True, False])
def test_is_found_by_a_plugins_file_and_by_the_flag(tmp_path, plugins_file):
    if plugins_file:
        (tmp_path / ".allennlp_plugins").write_text((PROJECT_ROOT / ".allennlp_plugins").read_text())
    config = PROJECT_ROOT / "training_configs" / "sample" / "softmax.jsonnet"
    arguments = ("train", str(config), "-s", "run", "--dry-run", "--overrides", small())
    command = (*ALLENNLP, *arguments, *(() if plugins_file else INCLUDE))
    result = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"model.attention": {"type": "fusdmax"}}, "fusdmax"),
        ({"model.attention": {"type": "fusedmax", "lamda": 1.0}}, "lamda"),
        ({"model.attention": {"type": "fusedmax", "gamma": -1.0}}, "gamma must be .* but is -1"),
        ({"train_data_path": "no_such_file.jsonl"}, "no_such_file.jsonl"),
        ({"train_data_path": "sample:trian"}, "trian.*train"),
        ({"dataset_reader.tokenizer.language": "xx_no"}, "xx_no"),
    ],
    ids=str,
)
def test_a_mistake_in_a_config_is_named(allennlp, tmp_path, overrides, message):
    config = PROJECT_ROOT / "training_configs" / "sample" / "fusedmax.jsonnet"
    with pytest.raises((ConfigurationError, ValueError), match=message):
        allennlp("train", config, "-s", tmp_path / "run", "--overrides", small(overrides), *INCLUDE)
