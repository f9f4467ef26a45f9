"""Training in two processes, and on two machines: with workers of the data loader, killed, and recovered."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.data.sample_corpus import sample_pairs
from tests.conftest import PROJECT_ROOT, SMALL, environment
from tests.two_machines import command_of, two_machines, wait_for

CONFIG = PROJECT_ROOT / "training_configs" / "sample" / "softmax.jsonnet"
INCLUDE = ("--include-package", "regattn_allennlp")
NUM_EPOCHS = 6
# The config shuffles, and drops out: whoever goes on from a checkpoint must draw the same random numbers.
OVERRIDES = {
    "trainer.num_epochs": NUM_EPOCHS,
    "data_loader.batch_sampler.batch_size": 16,
    "distributed": {"cuda_devices": [-1, -1]},
    # An early epoch is the best so: its weights are to be kept over all that happens.
    "trainer.validation_metric": "+loss",
    "evaluate_on_test": True,
}


def command(folder: Path, overrides: dict, *arguments: object) -> list[str]:
    overrides = {**OVERRIDES, **overrides}
    train = [sys.executable, "-m", "allennlp", "train", CONFIG, "-s", folder, "-o", json.dumps(overrides), *INCLUDE]
    return [str(argument) for argument in (*train, *arguments)]


def start(folder: Path, overrides: dict, *arguments: object) -> subprocess.Popen:
    """Starts a training, whose words go to a file beside its folder."""
    with open(f"{folder}.log", "a") as log:
        return subprocess.Popen(
            command(folder, overrides, *arguments),
            env={**environment(), "OMP_NUM_THREADS": "1"},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def finish(folder: Path, process: subprocess.Popen) -> None:
    try:
        assert process.wait(600) == 0, Path(f"{folder}.log").read_text()[-3000:]
    finally:
        end(process)


def end(process: subprocess.Popen) -> None:
    """Ends all that a process started, whether it is over or not."""
    for pid in members(process):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def members(process: subprocess.Popen) -> dict[int, str]:
    """The command lines of a process that was started and of all that it started, by process."""
    commands = {int(entry): command_of(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()}
    return {pid: command for pid, command in commands.items() if command and session_of(pid) == process.pid}


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def wait_for_epoch(epoch: int, folder: Path, process: subprocess.Popen) -> None:
    """Waits until this epoch is trained, and the checkpoint of the one before is whole."""
    wait_for(lambda: (folder / f"metrics_epoch_{epoch}.json").exists() or process.poll() is not None)
    assert process.poll() is None, Path(f"{folder}.log").read_text()[-3000:]


def metrics(folder: Path) -> dict:
    """What was measured, but for time and memory."""
    measured = json.loads((folder / "metrics.json").read_text())
    return {key: value for key, value in measured.items() if "duration" not in key and "memory" not in key}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict:
    """Where the data are: in files, for each process would generate the embedded sample anew."""
    paths, folder = {}, tmp_path_factory.mktemp("data")
    for key, split, rows in ("train", "train", 192), ("validation", "validation", 64), ("test", "validation", 50):
        path = folder / f"{key}.jsonl"
        path.write_text("".join(json.dumps(pair._asdict()) + "\n" for pair in sample_pairs(split)[:rows]))
        paths[f"{key}_data_path"] = str(path)
    return paths


@pytest.fixture(scope="module")
def without_workers(data) -> dict:
    """A training that repeats: several workers hand over their batches in the order in which they are ready."""
    return {**data, "data_loader.type": "cached", "data_loader.num_workers": 0}


@pytest.fixture(scope="module")
def uninterrupted(without_workers, tmp_path_factory) -> Path:
    """The folder of a training in two processes."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    finish(folder, start(folder, without_workers))
    return folder


def test_trains_with_two_processes_and_two_loader_workers_each(allennlp, data, tmp_path):
    folder = tmp_path / "run"
    loaders = {
        "data_loader.type": "multiprocess",
        "data_loader.num_workers": 2,
        "validation_data_loader": {"type": "cached", "batch_size": 16, "num_workers": 2},
    }
    finish(folder, start(folder, {**data, **loaders}))
    trained = metrics(folder)
    assert trained["best_epoch"] < NUM_EPOCHS - 1
    # The test data are evaluated on as a whole.
    output = tmp_path / "test.json"
    allennlp("evaluate", folder / "model.tar.gz", data["test_data_path"], "--output-file", output, *INCLUDE)
    for name, value in json.loads(output.read_text()).items():
        if name != "loss":  # AllenNLP's mean over batches, and these are shuffled
            assert trained[f"test_{name}"] == pytest.approx(value, abs=1e-6), name


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_two_processes_killed_and_recovered_give_the_same_metrics(uninterrupted, without_workers, tmp_path):
    folder = tmp_path / "run"
    process = start(folder, without_workers)
    try:
        # One of the two dies: the other does not wait for it for ever.
        wait_for_epoch(2, folder, process)
        spawned = [pid for pid, command in members(process).items() if "spawn_main" in command]
        os.kill(max(spawned), signal.SIGKILL)
        assert process.wait(120) != 0
        wait_for(lambda: not members(process), 10)
    finally:
        end(process)
    finish(folder, start(folder, without_workers, "--recover"))
    assert metrics(folder) == metrics(uninterrupted)


def test_two_machines_train_as_two_processes_do_and_go_on_when_one_died(uninterrupted, without_workers, tmp_path):
    folder = tmp_path / "run"

    with two_machines() as machines:
        overrides = {
            **without_workers,
            "distributed": {
                "cuda_devices": [-1], "num_nodes": 2, "primary_address": machines[0].address, "primary_port": 29500,
            },
        }  # fmt: skip

        def start_both(folders_of_work: list[Path], *arguments: str) -> list[subprocess.Popen]:
            with open(f"{folder}.log", "a") as log:
                return [
                    machine.start(
                        *command(Path(folder.name), overrides, "--node-rank", rank, *arguments),
                        cwd=folder_of_work, stdout=log, stderr=log,
                    )
                    for rank, (machine, folder_of_work) in enumerate(zip(machines, folders_of_work, strict=True))
                ]  # fmt: skip

        # In one folder, which both machines share.
        processes = start_both([tmp_path, tmp_path])
        wait_for_epoch(2, folder, processes[0])
        machines[1].kill()
        # The first is over too, and nothing of it is left.
        assert processes[0].wait(120) != 0
        wait_for(lambda: not machines[0].processes(), 10)

        # Another machine takes the place of the one that died. It has nothing, and sees nothing of the first.
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        for process in start_both([tmp_path, elsewhere], "--recover"):
            assert process.wait(600) == 0, Path(f"{folder}.log").read_text()[-3000:]
    assert metrics(folder) == metrics(uninterrupted)
    assert (folder / "model.tar.gz").exists()
    # What is trained is on the first machine alone.
    left = {path.name for path in (elsewhere / "run.node1").iterdir()}
    assert left == {"config.json", "meta.json", "out.log", "out_worker0.log", "vocabulary"}


@pytest.mark.parametrize(
    "block, message",
    [
        ({"cuda_devices": [-1, -1], "master_address": "10.0.0.1"}, 'no key "master_address".*primary_address'),
        ({"cuda_devices": [-1], "num_nodes": 2}, 'needs "primary_address" where "num_nodes" is 2'),
        ({"cuda_devices": [-1], "num_nodes": 2, "primary_address": "10.0.0.1"}, 'needs "primary_port"'),
        (
            {"cuda_devices": [-1], "num_nodes": 2, "primary_address": "256.0.0.1", "primary_port": 29500},
            '"distributed.primary_address" is 256.0.0.1, which cannot be reached',
        ),
        (
            {"cuda_devices": [-1], "num_nodes": 2, "primary_address": "2130706433", "primary_port": 29500},
            "2130706433, by which this machine means itself, 127.0.0.1",
        ),
    ],
    ids=["unknown key", "no address", "no port", "no such address", "own name"],
)
def test_a_mistake_in_the_distributed_block_is_named(allennlp, tmp_path, block, message):
    with pytest.raises(ConfigurationError, match=message):
        allennlp("train", CONFIG, "-s", tmp_path / "run", "-o", json.dumps({**SMALL, "distributed": block}), *INCLUDE)
    assert not (tmp_path / "run").exists()
