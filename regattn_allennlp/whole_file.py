"""Files that are there whole or not at all, whatever ends the process that writes them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Union

UNFINISHED = ".unfinished"
"""What the names of files that are being written end with."""


@contextmanager
def whole_file(path: Union[str, os.PathLike], *, several_write: bool = False) -> Iterator[str]:
    """
    Gives a name to write to beside `path`. When the block is over, the file gets its own name, in the place of the one
    that had it. Where several processes write the file at the same time, say so: each then has a name of its own.
    """
    process = f".{os.getpid()}" if several_write else ""
    unfinished = f"{os.fspath(path)}{process}{UNFINISHED}"
    try:
        yield unfinished
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(unfinished)
        raise
    os.replace(unfinished, path)
