"""Files that are read with NLTK."""

import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from regattn_allennlp.compatibility.mend import mend


@contextmanager
def copy_that_nltk_reads(path: str) -> Iterator[str]:
    """
    A copy of a file, in a folder of its own, which NLTK may read as long as the context lasts.

    NLTK 3.10 answers a series of attacks in which a program passes on a path from outside (CVE-2026-0847 and others)
    by reading from its own data folders alone, and there no links and no files that others own or may change. A data
    path in a config is the user's own word, so it is that one file that is let in, and NLTK's check stays as it is.
    """
    import nltk.data

    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(path))
        shutil.copyfile(path, copy)  # without the permissions, which NLTK might refuse
        nltk.data.path.append(folder)
        try:
            yield copy
        finally:
            nltk.data.path.remove(folder)


@mend(
    "allennlp_models.structured_prediction.dataset_readers.penn_tree_bank",
    puts_back="allennlp-models' reader of the Penn Treebank, and its constituency parser, read files of any folder",
    versions="nltk>=3.10",
    test="tests/compatibility/nltk_files_test.py::test_a_treebank_of_any_folder_is_read",
)
def read_treebanks_of_any_folder(penn_tree_bank: Any) -> None:
    reader = penn_tree_bank.PennTreeBankConstituencySpanDatasetReader
    read = reader._read

    @functools.wraps(read)
    def read_copy(self: Any, file_path: str) -> Iterator[Any]:
        with copy_that_nltk_reads(penn_tree_bank.cached_path(file_path)) as copy:
            yield from read(self, copy)

    reader._read = read_copy
