"""
Opens the tables that dataset readers read: files, folders, data sets of the Hugging Face hub, and the samples of this
package. Whatever the source, its rows end in one memory-mapped Arrow table, so memory does not grow with the data.
"""

import csv
import difflib
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.common.util import lazy_groups_of
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher

from regattn_allennlp.data.source_rows import (
    RowSource,
    generate_table,
    is_unicode,
    json_objects,
    no_progress_bars,
    select_rows,
    split_slice,
    text_lines,
)
from regattn_allennlp.version import VERSION

# The names of the columns in the order of `RowKind.roles`, as far as the configuration gives them.
GivenColumns = tuple[str | None, ...]
# The records of a text file, each with the line of the file it starts at.
Records = Iterator[tuple[int, dict[str, Any]]]

# The table of a text file tells by this column which line of the file a row comes from.
LINE_COLUMN = "__line__"

# Rows are fetched from the table this many at a time.
BATCH_SIZE = 1000

# What the hub's data sets for translation call the column that holds a text for each language.
TRANSLATION_COLUMN = "translation"


@dataclass(frozen=True)
class RowKind:
    """
    What the rows hold that a dataset reader reads.

    # Parameters

    roles : `Tuple[str, ...]`
        What the columns are for; the configuration names the column of a role by the key `<role>_column`. The last is
        the gold answer, such as a label or a translation; the others are texts.
    layouts : `Sequence[Tuple[str, ...]]`
        How well-known data sets name these columns, in the order of the roles.
    gold_is_text : `bool`
        Whether the gold answers are texts, too, or labels.
    sample : `Callable[[str], Sequence[NamedTuple]]`
        Gives the rows of a split of the embedded sample; a `ValueError` says that there is no such split.
    """

    roles: tuple[str, ...]
    layouts: Sequence[tuple[str, ...]]
    gold_is_text: bool
    sample: Callable[[str], Sequence[NamedTuple]]


class TextRow(NamedTuple):
    """The texts of a row, and where it is in its source: "line 3"."""

    row: int
    place: str
    texts: tuple[str, ...]


@dataclass
class TableSource(RowSource):
    """
    Rows of a table with the columns that a dataset reader wants.

    # Parameters

    name, table, rows
        See `RowSource`.
    columns : `Tuple[str, ...]`
        The names of the columns in the order of `RowKind.roles`. There need not be one of the last, the gold answers,
        if none were asked for.
    """

    columns: tuple[str, ...]

    def gold(self) -> Iterator[tuple[int, Any]]:
        """
        Yields each row's number and gold answer: a label by name where the table knows the names of its labels; `None`
        if there are no gold answers.
        """
        column = self.columns[-1]
        if column not in self.table.column_names:
            yield from ((row, None) for row in self.rows)
            return
        feature = self.table.features[column]
        names = feature.names if isinstance(feature, datasets.ClassLabel) else None
        values = self.table.select_columns(column)
        for start in range(self.rows.start, self.rows.stop, BATCH_SIZE):
            stop = min(start + BATCH_SIZE, self.rows.stop)
            for row, value in enumerate(values[start:stop][column], start):
                # A row without a label has -1 also where labels have names.
                yield row, value if names is None or value in (None, -1) else names[value]

    def texts(
        self, rows: Iterable[int], columns: Sequence[str], skip_empty: bool = False, needs_gold: bool = True
    ) -> Iterator[TextRow]:
        """
        Yields each of the `rows` with the texts that it has in the `columns`. One that lacks a text is a mistake, or
        is skipped; but for gold answers that are not needed: of a row without one there are the other texts.
        """
        lines = [LINE_COLUMN] if LINE_COLUMN in self.table.column_names else []
        gold_column = self.columns[-1]
        if not needs_gold and gold_column not in self.table.column_names:
            columns = [column for column in columns if column != gold_column]
        table = self.table.select_columns([*lines, *dict.fromkeys(columns)])
        for group in lazy_groups_of(rows, BATCH_SIZE):
            batch = table[group]
            places = [f"line {line}" for line in batch[LINE_COLUMN]] if lines else map(_row_place, group)
            for row, place, *texts in zip(group, places, *(batch[column] for column in columns), strict=True):
                wanted = [
                    (column, text)
                    for column, text in zip(columns, texts, strict=True)
                    if needs_gold or column != gold_column or not _is_blank(text)
                ]
                wrong = [(column, text) for column, text in wanted if not isinstance(text, str) or _is_blank(text)]
                if not wrong:
                    yield TextRow(row, place, tuple(text for _, text in wanted))
                elif not skip_empty or any(not isinstance(text, str | None) for _, text in wrong):
                    raise _not_a_text(f"{self.name}, {place}", *wrong[0])

    @property
    def fingerprint(self) -> str:
        """
        Tells the rows and the columns of the source: another one if the data changed.
        """
        return Hasher.hash((self.table._fingerprint, self.rows, self.columns))

    def location(self, row: int) -> str:
        """
        Says where a row is, for error messages.
        """
        if LINE_COLUMN in self.table.column_names:
            return f"{self.name}, line {self.table[row][LINE_COLUMN]}"
        return f"{self.name}, {_row_place(row)}"


@dataclass(frozen=True)
class _Wanted:
    """What is looked for in a source: see `open_table_source`."""

    kind: RowKind
    columns: GivenColumns
    needs_gold: bool
    header: bool | None


def open_table_source(
    file_path: str,
    kind: RowKind,
    config_name: str | None,
    columns: GivenColumns,
    needs_gold: bool = True,
    header: bool | None = True,
) -> TableSource:
    """
    Opens a source; `EntailmentDatasetReader` says what `file_path` may be.

    # Parameters

    file_path : `str`
        The source, with a slice such as `[:1000]` or `[:10%]` at its end if wanted.
    kind : `RowKind`
        What its rows hold.
    config_name : `str`, optional
        The configuration of a data set of the hub that has several.
    columns : `Tuple[Optional[str], ...]`
        The column of each role; `None` where it is to be found by the kind's layouts. What is within a column or a
        JSON object has a dotted name: `"translation.de"`.
    needs_gold : `bool`, optional (default = `True`)
        Whether it is a mistake if there is no column of gold answers, or a line of a text file has none.
    header : `bool`, optional (default = `True`)
        Whether the first line of a `.tsv` or `.csv` names its columns. `None`: if and only if the wanted columns are
        among its fields. Without such a line there are to be as many columns as roles, called by the roles' names.

    # Raises

    `ConfigurationError`
        If the source or its columns cannot be found, or a file is malformed.
    """
    wanted = _Wanted(kind, columns, needs_gold, header)
    name, _ = split_slice(file_path)
    before_colon, _, split = name.rpartition(":")
    if os.path.isdir(name):
        table = _load_folder(name, split=None)
    elif os.path.isfile(name) or "://" in name or "!" in name or suffix(name) in SUFFIXES:
        table = _load_file(name, wanted)
    elif before_colon == "sample":
        table = _load_sample(kind, split)
    elif os.path.isdir(before_colon):
        table = _load_folder(before_colon, split)
    # A file of a known kind that isn't there is a misspelled path, not a data set of the hub.
    elif split and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", before_colon) and suffix(before_colon) not in SUFFIXES:
        table = _load_from_hub(before_colon, config_name, split)
    else:
        raise ConfigurationError(
            f'"{name}" is neither a file nor a folder here. If a data set of the Hugging Face hub is meant, write '
            'its name and a split, as in "stanfordnlp/snli:train"; for the embedded sample, "sample:train".'
        )
    if any(isinstance(feature, (dict, datasets.Translation)) for feature in table.features.values()):
        table = table.flatten()  # a column within a column gets a dotted name
    rows = select_rows(file_path, table, "pairs")
    return TableSource(name, table, rows, _find_columns(name, table.column_names, wanted))


def _load_sample(kind: RowKind, split: str) -> datasets.Dataset:
    try:
        return datasets.Dataset.from_list([row._asdict() for row in kind.sample(split)])
    except ValueError as error:
        raise ConfigurationError(f'"sample:{split}": {error}') from error


def _load_from_hub(name: str, config_name: str | None, split: str) -> datasets.Dataset:
    try:
        return datasets.load_dataset(name, config_name, split=split)
    except Exception as error:  # the hub's client, the network and each file format have errors of their own
        raise ConfigurationError(
            f'"{name}" is no folder here, and its split "{split}" could not be had from the Hugging Face hub '
            f"(config_name: {config_name}): {error}"
        ) from error


def _load_folder(folder: str, split: str | None) -> datasets.Dataset:
    try:
        loaded = datasets.load_from_disk(folder)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f'The folder "{folder}" was not written by save_to_disk of the datasets library.'
        ) from error
    if isinstance(loaded, datasets.Dataset):
        if split is not None:
            raise ConfigurationError(f'The folder "{folder}" has no splits: leave out ":{split}".')
        return loaded
    if split not in loaded:
        written = "no split is given" if split is None else f'there is no split "{split}"'
        examples = " or ".join(f'"{folder}:{existing}"' for existing in loaded)
        raise ConfigurationError(f'The folder "{folder}" has splits, and {written}: write {examples}.')
    return loaded[split]


def _load_file(name: str, wanted: _Wanted) -> datasets.Dataset:
    if suffix(name) not in SUFFIXES:
        raise ConfigurationError(
            f'"{name}" is of an unknown kind: its name ends in "{suffix(name)}" where {", ".join(SUFFIXES)} can be '
            'read. For a file in an archive write "archive.zip!file.jsonl".'
        )
    path = local_file(name)
    if suffix(name) == ".parquet":
        return _load_parquet(name, path)
    return _load_text(name, path, wanted)


def local_file(name: str) -> str:
    """
    Where a file is on this machine that is named by a path, a URL, or as one in an archive.

    # Raises

    `ConfigurationError`
        If it cannot be had.
    """
    if os.path.isfile(name):
        return name
    try:
        return str(cached_path(name, extract_archive=True))
    except Exception as error:  # each kind of URL has a client, and each client its own errors
        raise ConfigurationError(f'"{name}" could not be opened: {error}.{_similar_files(name)}') from error


def _load_parquet(name: str, path: str) -> datasets.Dataset:
    try:
        with no_progress_bars():
            return datasets.Dataset.from_parquet(glob.escape(path))
    except (ValueError, OSError, DatasetGenerationError) as error:
        raise ConfigurationError(f'"{name}" could not be read as Parquet: {error.__cause__ or error}') from error


def _load_text(name: str, path: str, wanted: _Wanted) -> datasets.Dataset:
    header = _missing_header(name, path, wanted)
    first_record = next(_records(name, path, header), None)
    if first_record is None:
        or_header = ", or has but a header" if suffix(name) in TABLE_ROWS else ""
        raise ConfigurationError(f"{name}: the file holds no pairs: it is empty{or_header}.")
    columns = _find_columns(name, list(first_record[1]), wanted)
    status = os.stat(path)
    rows_are_by = {
        "header": header,
        "columns": columns,
        "needs_gold": wanted.needs_gold,
        "gold_is_text": wanted.kind.gold_is_text,
    }
    return generate_table(
        _text_rows,
        {"name": name, "path": path, **rows_are_by},
        datasets.Features({LINE_COLUMN: datasets.Value("int64"), **dict.fromkeys(columns, datasets.Value("string"))}),
        Hasher.hash((VERSION, os.path.abspath(path), status.st_size, status.st_mtime_ns, suffix(name), rows_are_by)),
    )


def _text_rows(
    name: str,
    path: str,
    header: tuple[str, ...] | None,
    columns: tuple[str, ...],
    needs_gold: bool,
    gold_is_text: bool,
) -> Iterator[dict[str, Any]]:
    gold_column = columns[-1]
    text_columns = columns if gold_is_text else columns[:-1]
    for line, record in _records(name, path, header):
        location = f"{name}, line {line}"
        for column in columns if needs_gold else columns[:-1]:
            if column not in record:
                raise ConfigurationError(f'{location}: "{column}" is missing; there are: {", ".join(record)}.')
        row = {column: record.get(column) for column in columns}
        for column in text_columns:
            # What isn't Unicode or no string at all cannot go into the table; an empty one is found when it's read.
            if row[column] is not None and not is_unicode(row[column]):
                raise _not_a_text(location, column, row[column])
        if not gold_is_text and (needs_gold or row[gold_column] is not None):
            row[gold_column] = str(row[gold_column])
        yield {LINE_COLUMN: line, **row}


def _records(name: str, path: str, header: tuple[str, ...] | None) -> Records:
    """The records of a text file; `header` names the columns of a table whose first line does not."""
    if suffix(name) in TABLE_ROWS:
        return _table_records(name, TABLE_ROWS[suffix(name)](name, path), header)
    return _json_records(name, path)


def _missing_header(name: str, path: str, wanted: _Wanted) -> tuple[str, ...] | None:
    """What the columns of a table are called whose first line does not say so; `None` if it does."""
    if wanted.header or suffix(name) not in TABLE_ROWS:
        return None
    fields = next((fields for _, fields in TABLE_ROWS[suffix(name)](name, path) if fields), None)
    if fields is None:
        return None
    roles = wanted.kind.roles
    header = roles[:-1] if len(fields) < len(roles) and not wanted.needs_gold else roles
    is_row = len(fields) == len(header)
    if wanted.header is False and not is_row:
        raise ConfigurationError(
            f"{name}: {len(fields)} fields {fields} in the first line, where without a header there are to be "
            f"{len(header)}: {', '.join(header)}."
        )
    if wanted.header is None:
        # Where it could be a pair, it is a header only by all its columns, also if the gold answers are not needed: a
        # file is to be read in the same way for both.
        names_columns = _columns_among(fields, wanted, wanted.needs_gold or len(fields) == len(roles)) is not None
        is_row = is_row and not names_columns and _columns_among(header, wanted, wanted.needs_gold) is not None
    return header if is_row else None


def _json_records(name: str, path: str) -> Records:
    for line, record in json_objects(name, path):
        yield line, dict(_flattened(record))


def _flattened(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The names and values of a JSON object; what is in an object within it has a dotted name."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _csv_rows(name: str, path: str) -> Iterator[tuple[int, list[str]]]:
    return _table_rows(name, csv.reader(text_lines(name, path), strict=True))


def _tsv_rows(name: str, path: str) -> Iterator[tuple[int, list[str]]]:
    # A quotation mark in SICK's and MultiNLI's files is part of the sentence.
    return _table_rows(name, csv.reader(text_lines(name, path), delimiter="\t", quoting=csv.QUOTE_NONE))


def _table_rows(name: str, reader: Any) -> Iterator[tuple[int, list[str]]]:
    while True:
        line = reader.line_num + 1  # a quoted field may go over several lines: this is the first
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ConfigurationError(f"{name}, line {line}: {error}.") from error
        yield line, fields


def _table_records(name: str, rows: Iterator[tuple[int, list[str]]], header: Sequence[str] | None) -> Records:
    named_by = "the header" if header is None else "the first line"
    for line, fields in rows:
        if not header:
            header = fields
        elif fields and len(fields) != len(header):
            raise ConfigurationError(
                f"{name}, line {line}: {len(fields)} fields {fields} where {named_by} has {len(header)} {header}."
            )
        elif fields:
            yield line, dict(zip(header, fields, strict=True))


TABLE_ROWS = {".csv": _csv_rows, ".tsv": _tsv_rows}
JSON_SUFFIXES = (".jsonl", ".json")
SUFFIXES = [*JSON_SUFFIXES, *TABLE_ROWS, ".parquet"]


def _columns_among(existing: Sequence[str], wanted: _Wanted, needs_gold: bool) -> tuple[str, ...] | None:
    without_gold = None
    layouts = wanted.kind.layouts
    # After these as they are, the texts of one with the gold answers of another.
    mixed = [(*texts[:-1], gold[-1]) for texts in layouts for gold in layouts]
    for layout in [*layouts, *mixed]:
        columns = tuple(column or known for column, known in zip(wanted.columns, layout, strict=True))
        if set(columns) <= set(existing):
            return columns
        if set(columns[:-1]) <= set(existing):
            without_gold = without_gold or columns
    return None if needs_gold else without_gold


def _find_columns(name: str, existing: Sequence[str], wanted: _Wanted) -> tuple[str, ...]:
    columns = _columns_among(existing, wanted, wanted.needs_gold)
    if columns is not None:
        return columns
    roles, keys = wanted.kind.roles, [f"{role}_column" for role in wanted.kind.roles]
    languages = [column.split(".", 1)[1] for column in existing if column.startswith(f"{TRANSLATION_COLUMN}.")]
    if languages and None in wanted.columns:
        raise ConfigurationError(
            f'{name}: the column "{TRANSLATION_COLUMN}" holds the languages {", ".join(languages)}. Name those wanted '
            f"by {_enumeration(keys)} in the dataset reader's configuration, as in \"{TRANSLATION_COLUMN}."
            f'{languages[0]}".'
        )
    missing = ", ".join(f'"{column}"' for column in wanted.columns if column is not None and column not in existing)
    problem = f"there is no column {missing}" if missing else f"no known layout of {_enumeration(roles)}"
    raise ConfigurationError(
        f"{name}: {problem}; the columns are: {', '.join(existing)}. Name the right ones by {_enumeration(keys)} in "
        "the dataset reader's configuration."
    )


def _enumeration(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _is_blank(text: Any) -> bool:
    return text is None or (isinstance(text, str) and not text.strip())


def _not_a_text(location: str, column: str, value: Any) -> ConfigurationError:
    return ConfigurationError(f'{location}: "{column}" is {value!r}, and should be a sentence.')


def _row_place(row: int) -> str:
    return f"row {row} (counted from 0)"


def suffix(name: str) -> str:
    """By which the kind of a file is known, in lower case; of a URL that of its path."""
    return Path(re.sub(r"[?#].*", "", name) if "://" in name else name).suffix.lower()


def _similar_files(name: str) -> str:
    folder, file_name = os.path.split(name)
    files = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
    similar = difflib.get_close_matches(file_name, files)
    return f" Is {' or '.join(os.path.join(folder, file) for file in similar)} meant?" if similar else ""
