import errno
import functools
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from allennlp.commands.train import _train_worker
from allennlp.common import Params
from allennlp.models import BasicClassifier
from torch.multiprocessing.spawn import start_processes

from regattn_allennlp.compatibility.mistakes import tell, told
from tests.compatibility.conftest import classifier_config
from tests.conftest import environment


def run(*arguments: object, **variables: str) -> tuple[int, list[str]]:
    """The exit status, and the lines of the standard error."""
    completed = subprocess.run(
        [sys.executable, *map(str, arguments)], env={**environment(), **variables}, capture_output=True, text=True
    )
    return completed.returncode, completed.stderr.splitlines()


def train(config: object, folder: object, **variables: str) -> tuple[int, list[str]]:
    return run("-m", "allennlp", "train", config, "-s", folder / "run", **variables)


def test_a_mistake_is_told_in_a_line(tmp_path):
    config = classifier_config(tmp_path, trainer={"num_epochs": 1, "optimizer": {"type": "adam", "lr": -1}})
    status, lines = train(config, tmp_path)
    assert status == 1
    assert lines[-1] == "allennlp: error: trainer.optimizer: Invalid learning rate: -1 (--debug shows where)"
    assert not any("Traceback" in line for line in lines)
    assert "Traceback" in (tmp_path / "run" / "out.log").read_text()


@pytest.mark.parametrize("command", ["predict absent.tar.gz absent.jsonl", "show-attention absent --out a.png"])
def test_every_command_takes_debug(line, monkeypatch, command):
    tells = []
    for arguments in (command, f"--debug {command}", f"{command} --debug"):
        monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
        line(*arguments.split())
        tells.append(isinstance(sys.excepthook, functools.partial) and sys.excepthook.func is tell)
    assert tells == [True, False, False]
    monkeypatch.setenv("ALLENNLP_DEBUG", "1")
    line(*command.split())
    assert sys.excepthook is sys.__excepthook__


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"model.type": "basic_clasifier"}, "basic_clasifier not in acceptable choices for model.type"),
        ({"model.seq2vec_encoder": "bag"}, "model.seq2vec_encoder: bag not in acceptable choices"),
        (
            {"model.seq2vec_encoder.embedding_dim": "four"},
            "model.seq2vec_encoder.embedding_dim: Expected embedding_dim to be a int",
        ),
        ({"model.seq2vec_encoder.size": 4}, "model.seq2vec_encoder: Extra parameters .*'size': 4"),
        ({"model.dropout": 2}, "model: dropout probability has to be between 0 and 1, but got 2"),
        ({"trainer.optimizer": {"type": "adam", "lrr": 1}}, "trainer.optimizer: Extra parameters .*'lrr': 1"),
        ({"model.droput.p": 1}, '--overrides .*model" has .*seq2vec_encoder.*unused keys: .*model.droput.p'),
        ({"train_data_path": "absent.jsonl"}, "file absent.jsonl not found"),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else "",
)
def test_a_wrong_value_is_told_with_its_key(line, tmp_path, changes, expected):
    told_line = line("train", classifier_config(tmp_path), "-s", tmp_path / "run", "-o", json.dumps(changes))
    assert told_line is not None and re.match(expected, told_line), told_line
    assert "\n" not in told_line


def test_a_config_that_cannot_be_read_is_named(line, tmp_path):
    config = tmp_path / "config.jsonnet"
    config.write_text('{\n  "model": {,}\n}')
    assert f"{config}:2:13: unexpected" in line("train", config, "-s", tmp_path / "run")
    assert line("train", tmp_path, "-s", tmp_path / "run").startswith(f"{tmp_path} is a folder")
    told_line = line("train", classifier_config(tmp_path), "-s", tmp_path / "run", "-o", "{")
    assert told_line.startswith("--overrides: STATIC ERROR: 1:2: unexpected")


def test_a_folder_that_cannot_be_written_is_named(line, tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert line("train", classifier_config(tmp_path), "-s", file) == f"{file}: {os.strerror(errno.ENOTDIR)}"


def test_unreadable_data_and_archives_are_named(line, tmp_path, classifier):
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "a", "label": "b"}\n{"text": \n')
    changes = json.dumps({"train_data_path": str(data)})
    arguments = ("train", classifier_config(tmp_path), "-o", changes, "-s")
    assert line(*arguments, tmp_path / "1") == f"{data}: Expecting value at character 10 of '{{\"text\":'"
    data.write_bytes(b'{"text": "\xff", "label": "b"}\n')
    assert line(*arguments, tmp_path / "2").startswith(f"{data}: 'utf-8' codec can't decode byte 0xff")

    half = tmp_path / "half.tar.gz"
    half.write_bytes(classifier.read_bytes()[:-100])
    for archive, reason in ((half, "Compressed file ended"), (data, "not a gzip file"), ("absent", "not found")):
        told_line = line("predict", archive, data)
        assert told_line.startswith(f'"{archive}" cannot be loaded as the archive of a trained model: '), told_line
        assert reason in told_line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_is_told_with_the_file(line, classifier, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text('{"sentence": "a good day"}\n')
    assert line(
        "predict", classifier, data, "--silent", "--output-file", "/dev/full", "--predictor", "text_classifier"
    ) == (f"/dev/full: {os.strerror(errno.ENOSPC)}")


@pytest.mark.parametrize(
    "content, expected",
    [
        (None, "--include-package {name}: there is no module {name} in this folder"),
        ("import no_such_library", "--include-package {name}: {file}, line 1, imports no_such_library, which"),
        ("1 / 0", None),
    ],
)
def test_a_package_that_cannot_be_imported_is_named(line, tmp_path, monkeypatch, content, expected):
    name = f"package_{abs(hash(content))}"
    file = tmp_path / f"{name}.py"
    if content is not None:
        file.write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    told_line = line("train", classifier_config(tmp_path), "-s", tmp_path / "run", "--include-package", name)
    if expected is None:
        assert told_line is None
    else:
        assert told_line.startswith(expected.format(name=name, file=file)), told_line


def test_mistakes_of_worker_processes_are_told_in_a_line(line, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text("{")
    changes = json.dumps({"train_data_path": str(data), "data_loader.num_workers": 1})
    told_line = line("train", classifier_config(tmp_path), "-s", tmp_path / "run", "-o", changes)
    assert told_line.startswith(f"{data}: Expecting property name"), told_line


def train_with_another(rank: int, config: Path, folder: Path, port: int) -> None:
    _train_worker(
        rank,
        Params.from_file(config),
        folder,
        world_size=2,
        primary_port=port,
        distributed_device_ids=[-1, -1],
        distributed_params=Params({}),
    )


def test_mistakes_of_processes_that_train_are_told_in_a_line(tmp_path):
    config = classifier_config(tmp_path, trainer={"num_epochs": 1, "optimizer": {"type": "adam", "lr": -1}})
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(Exception) as raised:
        start_processes(train_with_another, (config, tmp_path, port), nprocs=2, start_method="fork")
    assert told(raised.value) == "trainer.optimizer: Invalid learning rate: -1"


@pytest.mark.parametrize("error", [ValueError, RuntimeError, TypeError])
def test_an_error_of_the_model_keeps_its_traceback(line, tmp_path, monkeypatch, error):
    def forward(self, **inputs):
        raise error("of a program")

    monkeypatch.setattr(BasicClassifier, "forward", forward)
    assert line("train", classifier_config(tmp_path), "-s", tmp_path / "run") is None


def test_other_errors_keep_their_traceback():
    script = (
        "import sys\nfrom allennlp.commands import main, train\n"
        "sys.argv = ['allennlp', 'train', 'absent.json', '-s', 'run']\n"
        "try:\n    main()\nexcept FileNotFoundError:\n    pass\n"
        "train.train_model_from_args = lambda args: 1 / 0\nmain()"
    )
    status, lines = run("-c", script)
    assert status == 1
    assert any(line.startswith("Traceback") for line in lines) and lines[-1].startswith("ZeroDivisionError")
