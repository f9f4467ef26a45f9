"""Who runs a trial: one process at a time, and on a Ray cluster another machine when one dies."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest
from filelock import FileLock

from regattn_allennlp.comparison.engine import run_trials
from tests.conftest import PROJECT_ROOT, SMALL
from tests.two_machines import Machine, command_of, ip, two_machines, wait_for

CONFIG = PROJECT_ROOT / "training_configs" / "sample" / "softmax.jsonnet"
NUM_EPOCHS = 20


# With a token, which a local cluster leaves in the home folder, Ray's clusters let in only who has it.
TOKEN = {"RAY_AUTH_TOKEN": "0123456789abcdef"}


def join_cluster(machine: Machine, *arguments: object) -> None:
    """Starts Ray there, with one core; a machine that does not answer is taken for dead after some seconds."""
    machine.start(
        Path(sys.executable).with_name("ray"), "start", "--block", "--num-cpus", 1, "--disable-usage-stats",
        "--node-ip-address", machine.address, *arguments,
        variables={
            **TOKEN,
            "RAY_AUTH_MODE": "token",  # which `ray start` needs to be told where it joins a cluster
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "3000",
            "RAY_health_check_failure_threshold": "3",
        },
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: any("/raylet/raylet" in command for command in machine.processes().values()))


def trials_on(machine: Machine) -> dict[int, Path]:
    """The trials that run there, by process."""
    folders = {pid: re.search(r"trial_process (\S+)", command) for pid, command in machine.processes().items()}
    return {pid: Path(folder.group(1)) for pid, folder in folders.items() if folder}


def epochs(folder: Path) -> dict[str, int]:
    """When each finished epoch of a trial was."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("model/metrics_epoch_*.json")}


@pytest.mark.parametrize("is_cut_off", [False, True], ids=["killed", "cut off"])
def test_the_trials_of_a_machine_that_dies_go_on_with_another(tmp_path, is_cut_off):
    folder = tmp_path / "out"
    overrides = json.dumps({**SMALL, "trainer.num_epochs": NUM_EPOCHS})
    with (
        # Paths of sockets are short.
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as session,
        two_machines() as (first, second),
        open(tmp_path / "log.txt", "w") as log,
    ):
        join_cluster(first, "--head", "--port", 6379, "--include-dashboard", "false", "--temp-dir", session)
        join_cluster(second, "--address", f"{first.address}:6379")
        comparison = first.start(
            sys.executable, "-m", "allennlp", "compare-attention", CONFIG, "--attention", "softmax",
            "--attention", "sparsemax", "--seeds", 1, "--ray", f"{first.address}:6379", "-s", folder, "-o", overrides,
            "--include-package", "regattn_allennlp", stdout=log, stderr=log, variables=TOKEN,
        )  # fmt: skip
        wait_for(lambda: trials_on(second) or comparison.poll() is not None)
        ((trial, trial_folder),) = trials_on(second).items()
        wait_for(lambda: len(epochs(trial_folder)) >= 3 or comparison.poll() is not None)
        if is_cut_off:
            # It lives, and nobody is told otherwise. What it trains, slowly, is not touched before it ends.
            os.kill(trial, signal.SIGSTOP)
            ip("-n", second.name, "link", "set", "cable", "down")
            log_of_trial = trial_folder / "log.txt"
            wait_for(lambda: "Another process is still at work" in log_of_trial.read_text())
            assert command_of(trial)
            second.kill()
        else:
            # Nobody tells its trial, but it ends: two trainings in one folder would spoil each other.
            second.kill(unless="trial_process")
        wait_for(lambda: not command_of(trial), 10)
        before = epochs(trial_folder)
        assert 3 <= len(before) < NUM_EPOCHS
        wait_for(lambda: comparison.poll() is not None)
        assert comparison.returncode == 0, (tmp_path / "log.txt").read_text()[-3000:]
    report = json.loads((folder / "comparison.json").read_text())
    assert [(variant["name"], len(variant["runs"])) for variant in report["variants"]] == [
        ("softmax", 1), ("sparsemax", 1),
    ]  # fmt: skip
    assert report["failures"] == []
    after = epochs(trial_folder)
    assert len(after) == NUM_EPOCHS
    unrepeated = sorted(before, key=before.__getitem__)[:-2]
    assert [after[name] for name in unrepeated] == [before[name] for name in unrepeated], "it began anew"


def test_two_processes_do_not_work_in_one_folder(tmp_path, monkeypatch):
    (tmp_path / "starts.py").write_text("open('started', 'w').close(); raise ValueError('it starts')")
    (tmp_path / "request.json").write_text(json.dumps({"include_package": ["starts"]}))
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log.txt"
    with ThreadPool(1) as pool:
        with FileLock(tmp_path / ".lock"):
            trial = pool.apply_async(lambda: list(run_trials([tmp_path])))
            wait_for(lambda: (log.exists() and "Another process is still at work" in log.read_text()) or trial.ready())
            assert not (tmp_path / "started").exists()
        assert trial.get(100) == [tmp_path]
    assert "it starts" in (tmp_path / "failure.txt").read_text()
