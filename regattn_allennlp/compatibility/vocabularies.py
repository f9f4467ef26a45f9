"""Vocabularies and their files."""

from types import SimpleNamespace
from typing import IO, Any

from regattn_allennlp.compatibility.mend import mend


def open_as_codecs_did(path: str, mode: str, encoding: str) -> IO[str]:
    """What was `codecs.open`: a text's line ends are those in the file, on every system."""
    return open(path, mode, encoding=encoding, newline="")


@mend(
    "allennlp.data.vocabulary",
    puts_back="Vocabularies are written and read without a warning that `codecs.open` is deprecated",
    versions="python>=3.14",
    test="tests/compatibility/vocabularies_test.py::test_a_vocabulary_is_written_and_read_without_a_warning",
)
def open_files_without_codecs(vocabularies: Any) -> None:
    vocabularies.codecs = SimpleNamespace(open=open_as_codecs_did)
