import subprocess
import sys

import pytest

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


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"model": {"type": "basic_clasifier"}}, "allennlp: error: basic_clasifier not in acceptable choices"),
        ({"train_data_path": "absent.jsonl"}, "allennlp: error: file absent.jsonl not found"),
    ],
    ids=["config", "data"],
)
def test_a_mistake_is_told_in_a_line(tmp_path, changes, told):
    config = classifier_config(tmp_path, **changes)
    status, lines = train(config, tmp_path)
    assert status == 1
    assert lines[-1].startswith(told)
    assert not any("Traceback" in line for line in lines)
    assert "Traceback" in (tmp_path / "run" / "out.log").read_text()


def test_the_traceback_is_there_to_debug(tmp_path):
    status, lines = train(tmp_path / "absent.json", tmp_path, ALLENNLP_DEBUG="1")
    assert status == 1
    assert any(line.startswith("Traceback") for line in lines)
    assert "absent.json" in lines[-1]


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
