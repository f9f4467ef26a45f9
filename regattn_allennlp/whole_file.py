"""Files that are there whole or not at all, whatever ends the process that writes them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Union

UNFINISHED = ".unfinished"
"""What the names of files that are being written end with."""


@contextmanager
def whole_file(path: Union[str, os.PathLike]) -> Iterator[str]:
    """
    Gives a name to write to beside `path`. When the block is over, the file gets its own name, in the place of the one
    that had it.
    """
    unfinished = f"{os.fspath(path)}{UNFINISHED}"
    try:
        yield unfinished
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(unfinished)
        raise
    os.replace(unfinished, path)
