import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import environment

TESTS = """
import os, socket
from allennlp.modules import Attention

def test_passes():
    assert "fusedmax" in Attention.list_available()
    assert not os.path.exists("allennlp")

def test_asks_another_machine():
    try:
        socket.create_connection(("allennlp.org", 80))
    except Exception:
        pass

def test_is_in_the_list():
    assert False

def test_is_not_in_the_list():
    assert False

def test_is_in_the_list_and_passes():
    pass
"""
EXCEPTIONS = """
too old
    tests/fake_test.py::test_is_in_the_list
    tests/fake_test.py::test_is_in_the_list_and_passes
"""


def test_what_fails_and_is_not_in_the_list_and_what_passes_and_is_in_it_is_an_error(tmp_path):
    for name in ("tests", "test_fixtures", "allennlp"):
        (tmp_path / name).mkdir()
    for name in ("pytest.ini", "README.md"):
        (tmp_path / name).write_text("[pytest]\n")
    (tmp_path / "tests" / "fake_test.py").write_text(TESTS)
    runner = shutil.copy(Path(__file__).with_name("run.py"), tmp_path)
    (tmp_path / "exceptions.txt").write_text(EXCEPTIONS)
    command = (sys.executable, runner, tmp_path)
    finished = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert finished.returncode == 1, finished.stderr
    *_, expected, failed, passed, counts = finished.stdout.splitlines()
    assert expected == "expected: tests/fake_test.py::test_is_in_the_list: too old"
    assert failed == "! failed: tests/fake_test.py::test_is_not_in_the_list"
    assert passed.startswith("! passed") and passed.endswith("tests/fake_test.py::test_is_in_the_list_and_passes")
    assert counts == "2 passed, 1 need the network, 0 skip themselves, 1 expected exceptions, 1 failures"
