"""Compiled code on disks and in folders as they are: damaged, full, read-only. Each run is a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import PROJECT_ROOT

PROGRAM = """
import json, sys, warnings
import torch
from numba.extending import is_jitted
from regattn_allennlp import sparsemax

dtypes, before, after = sys.argv[1:]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from regattn_allennlp.operators.kernels import cpu

    exec(before)
    scores = [torch.tensor([1.0, 0.5, -1.0], dtype=getattr(torch, dtype)) for dtype in dtypes.split()]
    weights = [sparsemax(row).tolist() for row in scores]
    functions = [value for value in vars(cpu).values() if is_jitted(value)]
    exec(after)
print(json.dumps({
    "weights": weights,
    "warnings": [(warning.category.__name__, str(warning.message)) for warning in caught],
    "loaded": sorted(function.__name__ for function in functions for _ in function.stats.cache_hits.elements()),
    "compiled": sorted(function.__name__ for function in functions for _ in function.stats.cache_misses.elements()),
}))
"""

# A function that is loaded has in it those that it calls: their files are not read. This reads them.
LOAD_ALL = """
for function in functions:
    for signature, *_ in function._cache._cache_file._load_index():
        function.compile(signature)
"""


@dataclass
class Run:
    weights: list
    warnings: list
    loaded: list
    compiled: list


def run(folder, dtypes="float32", before="", after="", package=PROJECT_ROOT, **variables) -> Run:
    """Call sparsemax, of the package in `package`, with the cache in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(package), "NUMBA_CACHE_DIR": str(folder), **variables}
    command = [sys.executable, "-c", PROGRAM, dtypes, before, after]
    finished = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    result = Run(**json.loads(finished.stdout))
    assert result.weights == [[0.75, 0.25, 0.0]] * len(dtypes.split())
    return result


def check_warning(result: Run) -> None:
    ((category, message),) = result.warnings
    assert category == "RuntimeWarning"
    assert "compiled anew in each process" in message
    assert "NUMBA_CACHE_DIR" in message


def copy_package(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT_ROOT / "regattn_allennlp", folder / "regattn_allennlp", ignore=ignored)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, list[str]]:
    """A folder with the cache of one run, and the names of the functions in it."""
    folder = tmp_path_factory.mktemp("whole")
    result = run(folder)
    assert result.warnings == []
    assert result.loaded == []
    assert "sparsemax_numpy" in result.compiled
    return folder, result.compiled


@pytest.fixture
def cache(whole, tmp_path) -> Path:
    return shutil.copytree(whole[0], tmp_path / "cache")


def make_unreadable(path: Path) -> None:
    """Even for root: a link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def damage_machine_code(path: Path) -> None:
    """The pickle around it stays whole. To run this, or for LLVM to read it, ends the process."""
    content = path.read_bytes()
    start = len(content) // 8
    path.write_bytes(content[:start] + bytes(200) + content[start + 200 :])


DAMAGES = [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    lambda path: path.write_bytes(path.read_bytes()[:-1]),
    lambda path: path.write_bytes(b"\x93garbage" * 1000),
    damage_machine_code,
    make_unreadable,
]


def test_damaged_files_are_replaced(whole, cache):
    for pattern in ("*.nbi", "*.nbc"):
        paths = sorted(cache.rglob(pattern))
        assert len(paths) >= len(DAMAGES)
        for k, path in enumerate(paths):
            DAMAGES[k % len(DAMAGES)](path)
        result = run(cache)
        assert (result.loaded, result.compiled, result.warnings) == ([], whole[1], [])
    result = run(cache, after=LOAD_ALL)
    assert (result.loaded, result.compiled) == (whole[1], [])


def test_data_of_another_entry_is_not_taken(whole, cache, tmp_path):
    # As when two processes began the index at the same time, and one's index was kept, but the other's data.
    run(tmp_path / "other", "float64")
    for path in (tmp_path / "other").rglob("*sparsemax_numpy*.nbc"):
        shutil.copy(path, cache / path.relative_to(tmp_path / "other"))
    assert run(cache).compiled == ["sparsemax_numpy"]


def test_a_full_disk(tmp_path):
    pytest.importorskip("resource")
    package, cache = copy_package(tmp_path / "package"), tmp_path / "cache"
    all_names = run(cache, package=package).compiled
    with open(package / "regattn_allennlp/operators/kernels/cpu.py", "a") as file:
        file.write("# a new version\n")
    # There is space for the indices, but not for the data, which are those of the old version still.
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))"
    result = run(cache, package=package, before=full)
    assert result.compiled == all_names
    check_warning(result)
    result = run(cache, package=package)
    assert (result.loaded, result.compiled, result.warnings) == ([], all_names, [])


def test_a_folder_that_can_no_longer_be_written_to(tmp_path):
    cache = tmp_path / "cache"
    before = f"import pathlib, shutil; shutil.rmtree({str(cache)!r}); pathlib.Path({str(cache)!r}).touch()"
    check_warning(run(cache, before=before))


def test_without_any_folder_to_write_to(tmp_path):
    # Files in place of folders keep out root too.
    package = copy_package(tmp_path / "package")
    (package / "regattn_allennlp/operators/kernels/__pycache__").touch()
    (tmp_path / "home").touch()
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home/cache")}
    result = run("", package=package, **home)
    assert result.loaded == []
    check_warning(result)
    # The remedy.
    assert run(tmp_path / "cache", package=package, **home).warnings == []
    assert list((tmp_path / "cache").rglob("*.nbc"))
