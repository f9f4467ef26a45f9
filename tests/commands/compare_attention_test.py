"""`allennlp compare-attention`, with real trainings."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError
from filelock import FileLock

from tests.conftest import PROJECT_ROOT, SMALL, environment

CONFIG = PROJECT_ROOT / "training_configs" / "sample" / "softmax.jsonnet"
INCLUDE = ("--include-package", "regattn_allennlp")
NUM_EPOCHS = 30
FUSEDMAX = '{"type": "fusedmax", "lam": 0.1}'
# Fails in the training: the dimensions are not those of the vectors.
MISFIT = '{"type": "softmax", "similarity": {"type": "bilinear", "matrix_1_dim": 3, "matrix_2_dim": 3}}'


def command(folder: Path, *attentions: str, seeds: int = 2) -> list:
    overrides = json.dumps({**SMALL, "trainer.num_epochs": NUM_EPOCHS})
    given = [argument for attention in attentions for argument in ("--attention", attention)]
    return ["compare-attention", CONFIG, *given, "--seeds", seeds, "-s", folder, "-o", overrides, *INCLUDE]


def comparison(folder: Path) -> dict:
    return json.loads((folder / "comparison.json").read_text())


def written(folder: Path) -> dict[Path, int]:
    """When each outcome and each archive in a comparison's folder was written."""
    files = [*folder.glob("trials/*/seed*/outcome.json"), *folder.glob("trials/*/seed*/model/model.tar.gz")]
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.fixture(scope="module")
def compared(allennlp, tmp_path_factory) -> Path:
    """A comparison of which one variant failed."""
    folder = tmp_path_factory.mktemp("comparison") / "deep" / "down"
    with pytest.raises(SystemExit) as ended:
        allennlp(*command(folder, FUSEDMAX, MISFIT), "--workers", 2)
    assert ended.value.code == 1
    return folder


def test_a_failing_variant_is_reported_and_the_others_are_compared(compared):
    report = comparison(compared)
    assert [(variant["name"], len(variant["runs"])) for variant in report["variants"]] == [("fusedmax lam=0.1", 2)]
    assert [failure["seed"] for failure in report["failures"]] == [1, 2]
    for failure in report["failures"]:
        assert "Expected size" in failure["error"] and "Traceback" in (compared / failure["log"]).read_text()
    with open(compared / "comparison.csv", newline="") as file:
        assert [row["variant"] for row in csv.DictReader(file)] == ["fusedmax lam=0.1"]
    for picture in ("accuracy.png", "accuracy_against_sparsity.png", "training_curves.png"):
        assert (compared / picture).exists()


def test_the_numbers_are_those_of_allennlp_evaluate(allennlp, compared, tmp_path):
    variant = comparison(compared)["variants"][0]
    values = []
    for run in variant["runs"]:
        output = tmp_path / f"{run['seed']}.json"
        # One batch, so that AllenNLP's mean over batches is the mean over items.
        allennlp(
            "evaluate", compared / run["model"] / "model.tar.gz", "sample:validation[:64]", "--output-file", output,
            "--batch-size", 64, "--overrides", '{"data_loader": {"batch_size": 64}}', *INCLUDE,
        )  # fmt: skip
        evaluated = json.loads(output.read_text())
        assert {key: run["metrics"][key] for key in evaluated} == pytest.approx(evaluated, abs=1e-5)
        values.append(evaluated["accuracy"])
    accuracy = variant["summary"]["accuracy"]
    assert accuracy["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert accuracy["standard_deviation"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)


def test_the_same_command_repeats_nothing(allennlp, compared, capsys):
    before = written(compared)
    numbers = comparison(compared)["variants"]
    allennlp(*command(compared, FUSEDMAX))
    assert written(compared) == before
    assert comparison(compared)["variants"] == numbers
    assert "| fusedmax lam=0.1 | 2 |" in capsys.readouterr().out


def test_archives_and_ray_give_the_numbers_of_the_trainings(allennlp, compared, tmp_path):
    trained = comparison(compared)["variants"][0]["runs"]
    first, second = (compared / run["model"] for run in trained)
    arguments = ["--test-data", "sample:validation[:64]", "--faithfulness", 16, "--ray", "local", *INCLUDE]
    allennlp("compare-attention", first, second / "model.tar.gz", "-s", tmp_path / "out", *arguments)
    (variant,) = comparison(tmp_path / "out")["variants"]
    for run, run_of_training in zip(variant["runs"], trained, strict=True):
        assert run_of_training["metrics"].items() <= run["metrics"].items()
        assert -1 <= run["metrics"]["comprehensiveness"] <= 1
    assert "## Faithfulness" in (tmp_path / "out" / "comparison.md").read_text()
    assert (tmp_path / "out" / "training_curves.png").exists()


def test_an_interrupted_comparison_goes_on_where_it_stopped(allennlp, tmp_path):
    folder = tmp_path / "out"
    num_epochs = 12
    config = PROJECT_ROOT / "training_configs" / "g2p" / "softmax.jsonnet"
    overrides = {
        "train_data_path": "sample:train[:32]",
        "validation_data_path": "sample:validation[:8]",
        "trainer.num_epochs": num_epochs,
        "model.beam_search": {"type": "beam_search", "beam_size": 2, "max_steps": 4},
    }
    attentions = ("--attention", "softmax", "--attention", "sparsemax", "--seeds", "1")
    arguments = ["compare-attention", str(config), *attentions, "-s", folder, "-o", json.dumps(overrides), *INCLUDE]
    in_a_process = [sys.executable, "-m", "allennlp", *map(str, arguments)]

    def epochs() -> int:
        return len(list(folder.glob("trials/sparsemax*/seed1/model/metrics_epoch_*.json")))

    with subprocess.Popen(
        in_a_process, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 300
        while epochs() < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    stopped_at = epochs()
    assert 3 <= stopped_at < num_epochs, "it was over before it was interrupted"
    # The training ends with the comparison, though nobody told it to.
    time.sleep(3)
    assert epochs() <= stopped_at + 1
    before = written(folder)
    assert len(before) == 2
    first_epoch = next(folder.glob("trials/sparsemax*/seed1/model/metrics_epoch_0.json"))
    first_epoch_written = first_epoch.stat().st_mtime_ns

    allennlp(*arguments)
    assert before.items() <= written(folder).items()
    assert first_epoch.stat().st_mtime_ns == first_epoch_written, "it began anew"
    assert epochs() == num_epochs
    report = comparison(folder)
    assert [variant["name"] for variant in report["variants"]] == ["softmax, soft", "sparsemax, soft"]
    assert 0 <= report["differences"][0]["p_value"] <= 1


@pytest.mark.parametrize(
    "changes, message",
    [
        (["--seeds", 0], "--seeds must be 1 or more"),
        (["--workers", 0], "--workers must be 1 or more"),
        (["--batch-size", -1], "--batch-size must be 1 or more"),
        (["--faithfulness", -1], "--faithfulness must be 0 or more"),
        (["--test-data", "no_such_file.jsonl"], "no_such_file.jsonl"),
        (["--attention", "{"], "no JSON object"),
        (["--ray", "127.0.0.1:1"], "no Ray cluster answers"),
    ],
)
def test_a_mistake_is_named_before_anything_is_trained(allennlp, tmp_path, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        allennlp(*command(tmp_path / "out", "softmax"), *changes)
    assert not list(tmp_path.glob("out/trials/*/*/model"))


def test_two_comparisons_do_not_share_a_folder(allennlp, tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(ConfigurationError, match="Another comparison is at work"):
        allennlp(*command(tmp_path, "softmax"))


def test_help_teaches(allennlp, capsys):
    with pytest.raises(SystemExit):
        allennlp("compare-attention", "--help")
    assert "A sweep is one argument" in capsys.readouterr().out


def test_runs_in_any_folder_as_a_module(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "regattn_allennlp", "compare-attention", "nothing.jsonnet", "-s", str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert result.returncode != 0 and 'There is no config "nothing.jsonnet"' in result.stderr
