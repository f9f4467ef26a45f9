"""
What sources of rows share: the table and the rows of it to read, slices such as "[:1000]" at the end of their paths,
rows that are generated, and lines.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import datasets
from allennlp.common.checks import ConfigurationError
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher


@dataclass
class RowSource:
    """
    A table, some of whose rows are to be read.

    # Parameters

    name : `str`
        What error messages call the source: the path as the user wrote it.
    table : `datasets.Dataset`
        All rows of the source.
    rows : `range`
        The rows to read: all, or those of a slice. Rows count from 0.
    """

    name: str
    table: datasets.Dataset
    rows: range

    @property
    def fingerprint(self) -> str:
        """Another one if the data changed."""
        return Hasher.hash((self.table._fingerprint, self.rows))


def split_slice(file_path: str) -> tuple[str, str]:
    """ "train.tsv" and "[:1000]" of "train.tsv[:1000]"; without a slice, the second is empty."""
    match = re.fullmatch(r"(.*?)(\[[^\[\]]*\])?", file_path, re.DOTALL)
    assert match is not None  # the first part takes anything
    return match[1], match[2] or ""


def select_rows(file_path: str, table: datasets.Dataset, things: str) -> range:
    """
    The rows of the table that the slice at the end of `file_path` selects: all if there is none.

    # Parameters

    things : `str`
        What the rows are, for the errors: "pairs".

    # Raises

    `ConfigurationError`
        For what is not a slice, and for one that selects nothing.
    """
    _, brackets = split_slice(file_path)
    try:
        (selected,) = datasets.ReadInstruction.from_spec(f"rows{brackets}").to_absolute({"rows": len(table)})
    except ValueError as error:
        raise ConfigurationError(
            f'"{brackets}" at the end of "{file_path}" is not a slice: write it as in [:1000], [1000:2000] or [:10%].'
        ) from error
    rows = range(selected.from_, selected.to)
    if not rows:
        raise ConfigurationError(f'"{file_path}" selects none of the {len(table)} {things}.')
    return rows


def generate_table(
    generator: Callable[..., Iterator[dict[str, Any]]],
    arguments: dict[str, Any],
    features: datasets.Features,
    fingerprint: str,
) -> datasets.Dataset:
    """
    Writes the generator's rows to the cache of the datasets library, or finds them there; locks keep several processes
    from writing at the same time. The fingerprint is all that the rows depend on.

    # Raises

    `ConfigurationError`
        That of the generator.
    """
    try:
        with no_progress_bars():
            return datasets.Dataset.from_generator(
                generator, gen_kwargs=arguments, features=features, fingerprint=fingerprint
            )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, ConfigurationError):
            # The user is to see what is wrong with the file, not the library's stack.
            raise error.__cause__ from None
        raise


@contextmanager
def no_progress_bars() -> Iterator[None]:
    # AllenNLP shows a progress bar of its own while it reads.
    were_disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            datasets.enable_progress_bars()


def json_objects(name: str, path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """
    The objects of a file of JSON lines, each with its line, counted from 1; blank lines are passed over.

    # Raises

    `ConfigurationError`
        For a line that is none; it calls the file by its `name`.
    """
    for line, text in enumerate(text_lines(name, path), start=1):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except ValueError as error:
            raise ConfigurationError(
                f"{name}, line {line}: not JSON ({error}): {text.strip()[:200]!r}. Each line is to be one JSON object."
            ) from error
        if not isinstance(record, dict):
            raise ConfigurationError(
                f"{name}, line {line}: not a JSON object: {text.strip()[:200]!r}. Each line is to be one JSON object."
            )
        yield line, record


def is_unicode(value: Any) -> bool:
    """Whether it is a text of characters. JSON can spell half of a surrogate pair, which is not a character."""
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def text_lines(name: str, path: str) -> Iterator[str]:
    """The lines of a file in UTF-8; a `ConfigurationError` names the line that is not."""
    # Read as bytes so that a line ends at "\n" only and a line that isn't UTF-8 can be named.
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ConfigurationError(f"{name}, line {number}: not UTF-8 ({error}).") from error
            yield text
