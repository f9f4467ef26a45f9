import errno
import resource
from pathlib import Path

import pytest
import torch

from regattn_allennlp import whole_file as module
from regattn_allennlp.whole_file import whole_file


def write(path: Path, text: str, error: BaseException | None = None) -> None:
    with whole_file(path) as unfinished:
        Path(unfinished).write_text(text)
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()], ids=repr)
def test_an_error_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "file"
    with pytest.raises(type(error)):
        write(path, "half", error)
    assert list(tmp_path.iterdir()) == []
    write(path, "whole")
    with pytest.raises(type(error)):
        write(path, "half", error)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["whole"]


def test_an_error_before_anything_was_written_is_the_one_that_is_raised(tmp_path):
    with pytest.raises(ValueError), whole_file(tmp_path / "file"):
        raise ValueError


def test_several_processes_write_one_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    with whole_file(path, several_write=True) as first:
        Path(first).write_text("first")
        monkeypatch.setattr("os.getpid", lambda: 0)  # as another process would
        with whole_file(path, several_write=True) as second:
            Path(second).write_text("second")
        assert path.read_text() == "second"
    assert [file.read_text() for file in tmp_path.iterdir()] == ["first"]


def save(path: str) -> None:
    torch.save(torch.zeros(2**16), path)


@pytest.mark.parametrize("write", [lambda path: Path(path).write_bytes(b" " * 2**18), save], ids=["Python", "PyTorch"])
def test_a_write_that_the_disk_does_not_take_is_told_with_the_file(tmp_path, monkeypatch, write):
    path = tmp_path / "file"
    # A limit of the process is refused as a full disk is, but for what is free.
    monkeypatch.setattr(module, "_is_full", lambda path: True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, before[1]))
    try:
        with pytest.raises(OSError) as raised, whole_file(path) as unfinished:
            write(unfinished)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.errno in (errno.EFBIG, errno.ENOSPC)
    assert raised.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []
