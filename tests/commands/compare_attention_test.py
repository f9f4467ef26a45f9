"""`allennlp compare-attention`, with real trainings."""

import csv
import functools
import json
import re
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pytest
import ray
from allennlp.common.checks import ConfigurationError
from filelock import FileLock

from tests.conftest import PROJECT_ROOT, SMALL, environment
from tests.two_machines import wait_for

CONFIG = PROJECT_ROOT / "training_configs" / "sample" / "softmax.jsonnet"
INCLUDE = ("--include-package", "regattn_allennlp", "--include-package", "tests.commands.failing_attention")
NUM_EPOCHS = 30
FUSEDMAX = '{"type": "fusedmax", "lam": 0.1}'
FAILING = "fails_with_seed_2"


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
    """A comparison of which one run failed."""
    folder = tmp_path_factory.mktemp("comparison") / "deep" / "down"
    with pytest.raises(SystemExit) as ended:
        allennlp(*command(folder, FUSEDMAX, FAILING), "--workers", 2)
    assert ended.value.code == 1
    return folder


def test_a_failing_run_is_reported_and_the_others_are_compared(compared):
    report = comparison(compared)
    assert [(variant["name"], len(variant["runs"])) for variant in report["variants"]] == [
        ("fusedmax lam=0.1", 2), (FAILING, 1),
    ]  # fmt: skip
    (failure,) = report["failures"]
    assert failure["seed"] == 2
    assert "no luck" in failure["error"] and "Traceback" in (compared / failure["log"]).read_text()
    assert f"| {FAILING} | 1 † |" in (compared / "comparison.md").read_text()
    assert all(run["beside_others"] for variant in report["variants"] for run in variant["runs"])
    with open(compared / "comparison.csv", newline="") as file:
        assert [row["variant"] for row in csv.DictReader(file)] == ["fusedmax lam=0.1", FAILING]
    for picture in ("accuracy.png", "accuracy.svg", "accuracy_against_sparsity.pdf", "training_curves.png"):
        assert (compared / picture).exists()


def test_the_page_begins_with_the_items_on_which_the_variants_differ_most(compared):
    page = (compared / "attention.html").read_text()
    shown = json.loads(re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    outcomes = [
        json.loads(next(compared.glob(f"trials/{name}*/seed1/outcome.json")).read_text())
        for name in ("fusedmax", FAILING)
    ]
    first, second = (
        np.array([of_item for _, of_item in sorted(outcome["item_probabilities"].items())]) for outcome in outcomes
    )
    distances = abs(first - second).sum(axis=0)
    most = [outcomes[0]["item_facts"]["label"][index] for index in np.argsort(-distances, kind="stable")]
    assert [example["gold"] for example in shown["examples"]] == most
    labels = sorted(outcomes[0]["item_probabilities"])
    predicted = [labels[label] for label in first[:, np.argsort(-distances, kind="stable")].argmax(axis=0)]
    assert [example["predictions"][0]["text"] for example in shown["examples"]] == predicted
    predictions = [of_model for example in shown["examples"] for of_model in example["predictions"]]
    rows = {tuple(one["rowTitle"] for one in of_model["maps"]) for of_model in predictions}
    assert rows == {("hypothesis", "premise")}


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
    # Those that are not named too.
    assert comparison(compared)["variants"] == numbers
    assert "| fusedmax lam=0.1 | 2 |" in capsys.readouterr().out


def test_archives_and_ray_give_the_numbers_of_the_trainings(allennlp, compared, tmp_path, monkeypatch):
    # Ray takes the number of GPUs on trust. Each trial fails if the other one does not run with another GPU.
    monkeypatch.setattr(ray, "init", functools.partial(ray.init, num_cpus=2, num_gpus=2))
    trained = comparison(compared)["variants"][0]["runs"]
    first, second = (compared / run["model"] for run in trained)
    arguments = ["--test-data", "sample:validation[:64]", "--faithfulness", 16, "--ray", "local", *INCLUDE]
    arguments += ["--include-package", "tests.commands.another_gpu"]
    allennlp("compare-attention", first, second / "model.tar.gz", "-s", tmp_path / "out", *arguments)
    (variant,) = comparison(tmp_path / "out")["variants"]
    for run, run_of_training in zip(variant["runs"], trained, strict=True):
        assert run_of_training["metrics"].items() <= run["metrics"].items()
        assert -1 <= run["metrics"]["comprehensiveness"] <= 1
    assert "## Faithfulness" in (tmp_path / "out" / "comparison.md").read_text()
    assert (tmp_path / "out" / "training_curves.png").exists()


def test_an_interrupted_comparison_goes_on_where_it_stopped(allennlp, tmp_path, capsys):
    folder = tmp_path / "out"
    num_epochs = 16
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

    # Once more, by Ctrl-C.
    main_thread = threading.get_ident()

    def interrupt() -> None:
        wait_for(lambda: epochs() >= stopped_at + 3)
        signal.pthread_kill(main_thread, signal.SIGINT)

    with ThreadPool(1) as pool, pytest.raises(SystemExit) as ended:
        interrupted = pool.apply_async(interrupt)
        allennlp(*arguments)
    interrupted.get(1)
    assert ended.value.code == 130
    stopped_at = epochs()
    assert stopped_at < num_epochs, "it was over before it was interrupted"
    told = capsys.readouterr().out
    assert "Stopped: 1 of 2 runs are over and kept" in told
    assert f"sparsemax, soft, seed 1 (after epoch {stopped_at} of {num_epochs})" in told
    time.sleep(1)
    assert epochs() == stopped_at, "the training goes on"
    assert not list(folder.glob("trials/*/*/failure.txt"))

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
        (["--attention", '{"type": "softmax", "gama": 1}'], "softmax gama=1: .*'gama'"),
        (["--workers", 2, "--cuda-device", 1], "each run sees one GPU"),
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
