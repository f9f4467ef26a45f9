"""What all sources of rows share: slices such as "[:1000]" at the end of their paths, and rows that are generated."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import datasets
from allennlp.common.checks import ConfigurationError
from datasets.exceptions import DatasetGenerationError


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
