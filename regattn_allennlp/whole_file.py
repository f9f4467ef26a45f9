"""Files that are there whole or not at all, whatever ends the process that writes them."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Union

UNFINISHED = ".unfinished"
"""What the names of files that are being written end with."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What the system says of a write that a disk does not take. It names no file."""


@contextmanager
def naming(path: Union[str, os.PathLike]) -> Iterator[None]:
    """Where a disk is full in here, the error gets the name of this file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in NO_ROOM:
            error.filename = os.fspath(path)
        raise
    except RuntimeError as error:
        # PyTorch says no more than in which file of its own it noticed.
        if "inline_container" in str(error) and _is_full(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path)) from error
        raise


def _is_full(path: Union[str, os.PathLike]) -> bool:
    """Whether less is free than PyTorch writes at a time."""
    return shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free < 2**20


@contextmanager
def whole_file(path: Union[str, os.PathLike], *, several_write: bool = False) -> Iterator[str]:
    """
    Gives a name to write to beside `path`. When the block is over, the file gets its own name, in the place of the one
    that had it. Where several processes write the file at the same time, say so: each then has a name of its own.

    Where the disk is full, the error names the file.
    """
    process = f".{os.getpid()}" if several_write else ""
    unfinished = f"{os.fspath(path)}{process}{UNFINISHED}"
    try:
        # The unfinished file still takes its room.
        with naming(path):
            yield unfinished
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(unfinished)
        raise
    os.replace(unfinished, path)
