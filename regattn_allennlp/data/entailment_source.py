"""
Opens what premise-hypothesis pairs are read from: files, folders, data sets of the Hugging Face hub, and the sample
corpus. Whatever the source, its rows end in one memory-mapped Arrow table, so memory does not grow with the data.
"""

import csv
import difflib
import glob
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher

from regattn_allennlp.data.sample_corpus import sample_pairs
from regattn_allennlp.version import VERSION

# The premise's, the hypothesis' and the label's column, as far as the configuration names them.
GivenColumns = tuple[str | None, str | None, str | None]
# The records of a text file, each with the line of the file it starts at.
Records = Iterator[tuple[int, dict[str, Any]]]

# The premise's, the hypothesis' and the label's column in: the hub's SNLI and MultiNLI; SNLI's and MultiNLI's own
# files; SICK's files of SemEval-2014; SICK's files of its authors; the hub's SICK.
KNOWN_LAYOUTS = [
    ("premise", "hypothesis", "label"),
    ("sentence1", "sentence2", "gold_label"),
    ("sentence_A", "sentence_B", "entailment_judgment"),
    ("sentence_A", "sentence_B", "entailment_label"),
    ("sentence_A", "sentence_B", "label"),
]

# The table of a text file tells by this column which line of the file a row comes from.
LINE_COLUMN = "__line__"

# Rows are fetched from the table this many at a time.
BATCH_SIZE = 1000


@dataclass
class EntailmentSource:
    """
    Rows that hold premise-hypothesis pairs.

    # Parameters

    name : `str`
        What error messages call the source: the path as the user wrote it.
    table : `datasets.Dataset`
        All rows of the source, with at least the three columns.
    rows : `range`
        The rows to read: all, or those of a slice. Rows count from 0.
    premise_column, hypothesis_column, label_column : `str`
        The names of the columns. There need not be one of labels if none were asked for.
    """

    name: str
    table: datasets.Dataset
    rows: range
    premise_column: str
    hypothesis_column: str
    label_column: str

    def labels(self) -> Iterator[tuple[int, Any]]:
        """
        Yields each row's number and label: by name where the table knows the names of its labels; `None` if there
        are no labels.
        """
        if self.label_column not in self.table.column_names:
            yield from ((row, None) for row in self.rows)
            return
        feature = self.table.features[self.label_column]
        names = feature.names if isinstance(feature, datasets.ClassLabel) else None
        labels = self.table.select_columns(self.label_column)
        for start in range(self.rows.start, self.rows.stop, BATCH_SIZE):
            stop = min(start + BATCH_SIZE, self.rows.stop)
            for row, label in enumerate(labels[start:stop][self.label_column], start):
                # A row without a label has -1 also where labels have names.
                yield row, label if names is None or label in (None, -1) else names[label]

    def sentences(self, rows: list[int]) -> Iterator[tuple[str, str]]:
        """
        Yields the premise and the hypothesis of each of the `rows`.
        """
        batch = self.table.select_columns(list({self.premise_column, self.hypothesis_column}))[rows]
        for row, premise, hypothesis in zip(
            rows, batch[self.premise_column], batch[self.hypothesis_column], strict=True
        ):
            for column, sentence in ((self.premise_column, premise), (self.hypothesis_column, hypothesis)):
                if not isinstance(sentence, str) or not sentence.strip():
                    raise _not_a_sentence(self.location(row), column, sentence)
            yield premise, hypothesis

    @property
    def fingerprint(self) -> str:
        """
        Tells the rows and the columns of the source: another one if the data changed.
        """
        columns = (self.premise_column, self.hypothesis_column, self.label_column)
        return Hasher.hash((self.table._fingerprint, self.rows, columns))

    def location(self, row: int) -> str:
        """
        Says where a row is, for error messages.
        """
        if LINE_COLUMN in self.table.column_names:
            return f"{self.name}, line {self.table[row][LINE_COLUMN]}"
        return f"{self.name}, row {row} (counted from 0)"


def open_entailment_source(
    file_path: str, config_name: str | None, columns: GivenColumns, needs_labels: bool = True
) -> EntailmentSource:
    """
    Opens a source; `EntailmentDatasetReader` says what `file_path` may be.

    # Parameters

    file_path : `str`
        The source, with a slice such as `[:1000]` or `[:10%]` at its end if wanted.
    config_name : `str`, optional
        The configuration of a data set of the hub that has several.
    columns : `Tuple[Optional[str], Optional[str], Optional[str]]`
        The premise's, the hypothesis' and the label's column; `None` where it is to be found by `KNOWN_LAYOUTS`.
    needs_labels : `bool`, optional (default = `True`)
        Whether it is a mistake if there is no column of labels, or a line of a text file has none.

    # Raises

    `ConfigurationError`
        If the source or its columns cannot be found, or a file is malformed.
    """
    name, brackets = re.fullmatch(r"(.*?)(\[[^\[\]]*\])?", file_path, re.DOTALL).groups()  # type: ignore[union-attr]
    before_colon, _, split = name.rpartition(":")
    if os.path.isdir(name):
        table = _load_folder(name, split=None)
    elif os.path.isfile(name) or "://" in name or "!" in name or _suffix(name) in SUFFIXES:
        table = _load_file(name, columns, needs_labels)
    elif before_colon == "sample":
        table = _load_sample(split)
    elif os.path.isdir(before_colon):
        table = _load_folder(before_colon, split)
    # A file of a known kind that isn't there is a misspelled path, not a data set of the hub.
    elif split and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", before_colon) and _suffix(before_colon) not in SUFFIXES:
        table = _load_from_hub(before_colon, config_name, split)
    else:
        raise ConfigurationError(
            f'"{name}" is neither a file nor a folder here. If a data set of the Hugging Face hub is meant, write '
            'its name and a split, as in "stanfordnlp/snli:train"; for the sample corpus, "sample:train".'
        )

    try:
        (selected,) = datasets.ReadInstruction.from_spec(f"rows{brackets or ''}").to_absolute({"rows": len(table)})
    except ValueError as error:
        raise ConfigurationError(
            f'"{brackets}" at the end of "{file_path}" is not a slice: write it as in [:1000], [1000:2000] or [:10%].'
        ) from error
    rows = range(selected.from_, selected.to)
    if not rows:
        raise ConfigurationError(f'"{file_path}" selects none of the {len(table)} pairs.')
    return EntailmentSource(name, table, rows, *_find_columns(name, table.column_names, columns, needs_labels))


def _load_sample(split: str) -> datasets.Dataset:
    try:
        return datasets.Dataset.from_list([pair._asdict() for pair in sample_pairs(split)])
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


def _load_file(name: str, columns: GivenColumns, needs_labels: bool) -> datasets.Dataset:
    if _suffix(name) not in SUFFIXES:
        raise ConfigurationError(
            f'"{name}" is of an unknown kind: its name ends in "{_suffix(name)}" where {", ".join(SUFFIXES)} can be '
            'read. For a file in an archive write "archive.zip!file.jsonl".'
        )
    path = name
    if not os.path.isfile(path):
        try:
            path = cached_path(name, extract_archive=True)
        except Exception as error:  # each kind of URL has a client, and each client its own errors
            raise ConfigurationError(f'"{name}" could not be opened: {error}.{_similar_files(name)}') from error
    if _suffix(name) == ".parquet":
        return _load_parquet(name, path)
    return _load_text(name, path, columns, needs_labels)


def _load_parquet(name: str, path: str) -> datasets.Dataset:
    try:
        with _no_progress_bars():
            return datasets.Dataset.from_parquet(glob.escape(path))
    except (ValueError, OSError, DatasetGenerationError) as error:
        raise ConfigurationError(f'"{name}" could not be read as Parquet: {error.__cause__ or error}') from error


def _load_text(name: str, path: str, columns: GivenColumns, needs_labels: bool) -> datasets.Dataset:
    first_record = next(TEXT_READERS[_suffix(name)](name, path), None)
    if first_record is None:
        raise ConfigurationError(f"{name}: the file holds no pairs.")
    found_columns = _find_columns(name, list(first_record[1]), columns, needs_labels)
    status = os.stat(path)
    rows_are_by = (found_columns, needs_labels)
    try:
        with _no_progress_bars():
            # Writes the rows to the cache of the datasets library, or finds them there; locks keep several processes
            # from writing at the same time. The fingerprint is all that the cached rows depend on.
            return datasets.Dataset.from_generator(
                _text_rows,
                gen_kwargs={"name": name, "path": path, "columns": found_columns, "needs_labels": needs_labels},
                features=datasets.Features(
                    {LINE_COLUMN: datasets.Value("int64"), **dict.fromkeys(found_columns, datasets.Value("string"))}
                ),
                fingerprint=Hasher.hash(
                    (VERSION, os.path.abspath(path), status.st_size, status.st_mtime_ns, _suffix(name), *rows_are_by)
                ),
            )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, ConfigurationError):
            # The user is to see what is wrong with the file, not the library's stack.
            raise error.__cause__ from None
        raise


def _text_rows(name: str, path: str, columns: tuple[str, str, str], needs_labels: bool) -> Iterator[dict[str, Any]]:
    *sentence_columns, label_column = columns
    for line, record in TEXT_READERS[_suffix(name)](name, path):
        location = f"{name}, line {line}"
        for column in columns if needs_labels else sentence_columns:
            if column not in record:
                raise ConfigurationError(f'{location}: "{column}" is missing; there are: {", ".join(record)}.')
        sentences = {column: record[column] for column in sentence_columns}
        for column, sentence in sentences.items():
            # What isn't Unicode or no string at all cannot go into the table; an empty one is found when it's read.
            if sentence is not None and not _is_unicode(sentence):
                raise _not_a_sentence(location, column, sentence)
        label = record.get(label_column)
        row = {LINE_COLUMN: line, **sentences, label_column: str(label)}
        yield row if needs_labels or label is not None else {**row, label_column: None}


def _json_records(name: str, path: str) -> Records:
    for line, text in enumerate(_lines(name, path), start=1):
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


def _csv_records(name: str, path: str) -> Records:
    return _table_records(name, csv.reader(_lines(name, path), strict=True))


def _tsv_records(name: str, path: str) -> Records:
    # A quotation mark in SICK's and MultiNLI's files is part of the sentence.
    return _table_records(name, csv.reader(_lines(name, path), delimiter="\t", quoting=csv.QUOTE_NONE))


def _table_records(name: str, reader: Any) -> Records:
    header: list[str] = []
    while True:
        line = reader.line_num + 1  # a quoted field may go over several lines: this is the first
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ConfigurationError(f"{name}, line {line}: {error}.") from error
        if not header:
            header = fields
        elif fields and len(fields) != len(header):
            raise ConfigurationError(
                f"{name}, line {line}: {len(fields)} fields {fields} where the header has {len(header)} {header}."
            )
        elif fields:
            yield line, dict(zip(header, fields, strict=True))


def _lines(name: str, path: str) -> Iterator[str]:
    # Read as bytes so that a line ends at "\n" only and a line that isn't UTF-8 can be named.
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ConfigurationError(f"{name}, line {number}: not UTF-8 ({error}).") from error
            yield text


TEXT_READERS = {".jsonl": _json_records, ".json": _json_records, ".csv": _csv_records, ".tsv": _tsv_records}
SUFFIXES = [*TEXT_READERS, ".parquet"]


def _find_columns(name: str, existing: list[str], given: GivenColumns, needs_labels: bool) -> tuple[str, str, str]:
    without_label = None
    for layout in KNOWN_LAYOUTS:
        premise, hypothesis, label = (column or known for column, known in zip(given, layout, strict=True))
        if {premise, hypothesis, label} <= set(existing):
            return premise, hypothesis, label
        if {premise, hypothesis} <= set(existing):
            without_label = without_label or (premise, hypothesis, label)
    if without_label is not None and not needs_labels:
        return without_label
    missing = ", ".join(f'"{column}"' for column in given if column is not None and column not in existing)
    problem = f"there is no column {missing}" if missing else "no known layout of premise, hypothesis and label"
    raise ConfigurationError(
        f"{name}: {problem}; the columns are: {', '.join(existing)}. Name the right ones by premise_column, "
        "hypothesis_column and label_column in the dataset reader's configuration."
    )


def _not_a_sentence(location: str, column: str, value: Any) -> ConfigurationError:
    return ConfigurationError(f'{location}: "{column}" is {value!r}, and should be a sentence.')


def _is_unicode(value: Any) -> bool:
    # JSON can spell half of a surrogate pair, which is not a character.
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def _suffix(name: str) -> str:
    return Path(re.sub(r"[?#].*", "", name) if "://" in name else name).suffix.lower()


def _similar_files(name: str) -> str:
    folder, file_name = os.path.split(name)
    files = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
    similar = difflib.get_close_matches(file_name, files)
    return f" Is {' or '.join(os.path.join(folder, file) for file in similar)} meant?" if similar else ""


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    # AllenNLP shows a progress bar of its own while it reads.
    were_disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            datasets.enable_progress_bars()
