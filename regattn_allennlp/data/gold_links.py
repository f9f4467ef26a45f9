"""Reads which words of two texts people have aligned: from columns of the data, or from a file beside them."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import datasets
from allennlp.common import FromParams
from allennlp.common.checks import ConfigurationError
from datasets.fingerprint import Hasher

from regattn_allennlp.data.source_rows import generate_table, json_objects, split_slice, text_lines
from regattn_allennlp.data.table_source import JSON_SUFFIXES, LINE_COLUMN, TABLE_ROWS, TableSource, local_file, suffix
from regattn_allennlp.data.token_links import Link, WordLinks
from regattn_allennlp.version import VERSION

COLUMNS = ("sure", "possible")

# What stands in a path for the data's own without its suffix.
STEM = "{stem}"

PHARAOH_LINK = re.compile(r"([0-9]+)([-?])([0-9]+)", re.ASCII)

# No text has so many words, and Arrow could hold no larger number.
MOST_WORDS = 2**31


class GoldLinks(FromParams):
    """
    Where the gold links of pairs of texts are: which words of the one belong to which of the other, as people have
    said (Och & Ney 2003). Words are what white space separates in the text as it was read, whatever the tokenizer
    makes of it; they count from 0.

    A pair's links are pairs of two such numbers, `sure` or only `possible`. They stand

    - in the data: columns "sure" and, optionally, "possible", of JSON lines, Parquet, a folder or a hub's data set;
    - or in a file beside the data, which has a line for each pair, in the same order, and none for a header:
        - JSON lines (`.jsonl`, `.json`): `{"sure": [[0, 0], [1, 2]], "possible": [[3, 4]]}`; other keys are not read;
        - of any other name text in Pharaoh format, a possible link with "?": `0-0 1-2 3?4`; a line may be empty.

    # Parameters

    order : `str`
        Which text the first number of a link counts the words of, and which the second: "source-target" or
        "target-source"; of textual entailment "premise-hypothesis" or "hypothesis-premise".
    path : `str`, optional (default = `None`)
        The file beside the data. `"{stem}"` in it stands for the path of the data without its suffix and slice, so
        that each data has a file of its own: `"{stem}_alignment.jsonl"` is "dev_alignment.jsonl" for "dev.tsv[:100]".
        Without a path, the links are columns of the data.
    """

    def __init__(self, order: str, path: Optional[str] = None) -> None:
        self.order = order
        self.path = path

    def check(self, roles: Sequence[str]) -> None:
        """
        # Raises

        `ConfigurationError`
            If the `order` is not that of two texts with these `roles`, as "source" and "target".
        """
        orders = ("-".join(roles), "-".join(reversed(roles)))
        if self.order not in orders:
            raise ConfigurationError(
                f'"order" of "gold_links" is {self.order!r}, and should say which index of a link is of which text: '
                f'"{orders[0]}" or "{orders[1]}".'
            )

    def open(self, source: TableSource, roles: Sequence[str]) -> "SourceLinks":
        """
        The links of a source's pairs, whose texts have these `roles`.

        # Raises

        `ConfigurationError`
            If they cannot be found, there are links for another number of pairs, or a file is malformed.
        """
        if self.path is not None or suffix(source.name) in JSON_SUFFIXES:
            name = source.name if self.path is None else links_file(self.path, source.name)
            table = _load_links(name)
            if len(table) != len(source.table):
                raise ConfigurationError(
                    f"{name}: gold links for {len(table)} pairs, where {source.name} has {len(source.table)}. Wanted "
                    "is a line for each pair, in the same order, and none for a header."
                )
        elif suffix(source.name) in TABLE_ROWS:
            raise ConfigurationError(
                f"{source.name}: the gold links of a {suffix(source.name)} file stand in a file beside it. Name that "
                f'by "path" of "gold_links", as in "{STEM}_alignment.jsonl".'
            )
        else:
            name, table = source.name, source.table
            if COLUMNS[0] not in table.column_names:
                raise ConfigurationError(
                    f'{name}: there is no column "{COLUMNS[0]}" with gold links; the columns are: '
                    f'{", ".join(table.column_names)}. Name a file that has them by "path" of "gold_links", or leave '
                    '"gold_links" out of the dataset reader\'s configuration.'
                )
        table = table.select_columns([column for column in (LINE_COLUMN, *COLUMNS) if column in table.column_names])
        return SourceLinks(TableSource(name, table, source.rows, COLUMNS), tuple(roles), self.order)


def links_file(path: str, data: str) -> str:
    """The file that a `path` of `GoldLinks` names, beside these data, with a slice or without."""
    name, _ = split_slice(data)
    return path.replace(STEM, os.path.splitext(name)[0])


@dataclass
class SourceLinks:
    """
    The gold links of a source's pairs.

    # Parameters

    source : `TableSource`
        Of the links: a row for each of the pairs'.
    roles : `Tuple[str, ...]`
        What the two texts of a pair are: "source" and "target".
    order : `str`
        See `GoldLinks`.
    """

    source: TableSource
    roles: tuple[str, ...]
    order: str

    def of(self, row: int, texts: Sequence[str]) -> WordLinks:
        """
        The links of the pair in this row, in the order of its `texts`.

        # Raises

        `ConfigurationError`
            For what is no link, or the link of a word that the text has not.
        """
        record = self.source.table[row]
        sure, possible = (self._links(row, column, record.get(column), texts) for column in COLUMNS)
        return WordLinks(sure, sure | possible)

    def _links(self, row: int, column: str, value: Any, texts: Sequence[str]) -> frozenset[Link]:
        # By the order of the texts; a null where nothing is possible is as usual as an empty list.
        pairs = checked_links(self.source.location(row), column, [] if value is None else value)
        if self.order.startswith(f"{self.roles[1]}-"):
            pairs = [(second, first) for first, second in pairs]
        numbers = [len(text.split()) for text in texts]
        for pair in pairs:
            for word, number, role in zip(pair, numbers, self.roles, strict=True):
                if word >= number:
                    words = zip(pair, self.roles, strict=True)
                    raise ConfigurationError(
                        f'{self.source.location(row)}: "{column}" has a link of '
                        f"{' and '.join(f'word {word} of the {role}' for word, role in words)}, but the {role} has "
                        f"{number} {'word' if number == 1 else 'words'}, counted from 0. Is the order of a link's "
                        f'numbers "{self.order}", as "gold_links" says?'
                    )
        return frozenset(pairs)


def checked_links(location: str, column: str, value: Any) -> list[Link]:
    """
    A list of pairs of numbers, as links.

    # Raises

    `ConfigurationError`
        For anything else, by the name of its `column`.
    """
    for pair in value if isinstance(value, list) else [value]:
        is_pair = isinstance(pair, list) and len(pair) == 2
        if not is_pair or not all(type(word) is int and 0 <= word < MOST_WORDS for word in pair):
            raise ConfigurationError(
                f'{location}: "{column}" has {pair!r}, which is no link. Wanted is a list of pairs of the numbers of '
                "words, counted from 0, as in [[0, 0], [1, 2]]."
            )
    return [(first, second) for first, second in value]


def _load_links(name: str) -> datasets.Dataset:
    path = local_file(name)
    status = os.stat(path)
    links = datasets.List(datasets.List(datasets.Value("int64")))
    return generate_table(
        _link_rows,
        {"name": name, "path": path},
        datasets.Features({LINE_COLUMN: datasets.Value("int64"), **dict.fromkeys(COLUMNS, links)}),
        Hasher.hash((VERSION, "gold links", os.path.abspath(path), status.st_size, status.st_mtime_ns, suffix(name))),
    )


def _link_rows(name: str, path: str) -> Iterator[dict[str, Any]]:
    is_empty = True
    for row in (_json_rows if suffix(name) in JSON_SUFFIXES else _pharaoh_rows)(name, path):
        is_empty = False
        yield row
    if is_empty:
        raise ConfigurationError(f"{name}: the file holds no gold links: it is empty.")


def _json_rows(name: str, path: str) -> Iterator[dict[str, Any]]:
    for line, record in json_objects(name, path):
        location = f"{name}, line {line}"
        if COLUMNS[0] not in record:
            raise ConfigurationError(
                f'{location}: "{COLUMNS[0]}", the gold links, is missing; there are: {", ".join(record)}. Where there '
                "is no link, the list is empty."
            )
        values = {column: record.get(column, []) for column in COLUMNS}
        yield {LINE_COLUMN: line, **{column: checked_links(location, column, values[column]) for column in COLUMNS}}


def _pharaoh_rows(name: str, path: str) -> Iterator[dict[str, Any]]:
    for line, text in enumerate(text_lines(name, path), start=1):
        links: dict[str, list[Link]] = {column: [] for column in COLUMNS}
        for word in text.split():
            match = PHARAOH_LINK.fullmatch(word)
            if match is None or max(map(int, match.group(1, 3))) >= MOST_WORDS:
                raise ConfigurationError(
                    f"{name}, line {line}: {word!r} is no link. Wanted are sure links as 0-0, and possible ones as "
                    f"0?0, with spaces between them; or JSON lines, in a file called {' or '.join(JSON_SUFFIXES)}."
                )
            links[COLUMNS[match[2] == "?"]].append((int(match[1]), int(match[3])))
        yield {LINE_COLUMN: line, **links}
