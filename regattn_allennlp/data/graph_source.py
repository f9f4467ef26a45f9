"""
Opens what graphs are read from: JSON lines, and the embedded sample. Either way the graphs end in one memory-mapped
Arrow table, so memory does not grow with the data.
"""

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from datasets.fingerprint import Hasher

from regattn_allennlp.data.sample_graphs import sample_graphs
from regattn_allennlp.data.source_rows import RowSource, generate_table, json_objects, select_rows, split_slice
from regattn_allennlp.version import VERSION

# Of each graph the line of the file, or its number in the sample, and its object in JSON.
FEATURES = datasets.Features({"line": datasets.Value("int64"), "graph": datasets.Value("string")})


class GraphSource(RowSource):
    """Graphs, one a row; the table has the columns of `FEATURES`."""

    def graphs(self, rows: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each with its line. One at a time: graphs may be large."""
        for row in rows:
            found = self.table[row]
            yield found["line"], json.loads(found["graph"])


def open_graph_source(file_path: str) -> GraphSource:
    """
    Opens a source; `GraphsDatasetReader` says what its argument may be.

    # Raises

    `ConfigurationError`
        If the file cannot be found or holds what is no JSON, or the slice is none.
    """
    name, _ = split_slice(file_path)
    table = _load_sample(name) if name.startswith("sample:") else _load_file(name)
    return GraphSource(name, table, select_rows(file_path, table, "graphs"))


def _load_sample(name: str) -> datasets.Dataset:
    try:
        graphs = sample_graphs(name.removeprefix("sample:"))
    except ValueError as error:
        raise ConfigurationError(f'"{name}": {error}') from error
    return datasets.Dataset.from_list(
        [{"line": number, "graph": json.dumps(graph)} for number, graph in enumerate(graphs, start=1)],
        features=FEATURES,
    )


def _load_file(name: str) -> datasets.Dataset:
    try:
        path = str(cached_path(name, extract_archive=True))
    except Exception as error:  # each kind of URL has a client, and each client its own errors
        raise ConfigurationError(
            f'"{name}" could not be opened: {error}. Wanted is a file of JSON lines, a graph a line, or '
            '"sample:train".'
        ) from error
    status = os.stat(path)
    state = (VERSION, "graphs", os.path.abspath(path), status.st_size, status.st_mtime_ns)
    return generate_table(_rows, {"name": name, "path": path}, FEATURES, Hasher.hash(state))


def _rows(name: str, path: str) -> Iterator[dict[str, Any]]:
    is_empty = True
    for line, record in json_objects(name, path):
        is_empty = False
        yield {"line": line, "graph": json.dumps(record)}
    if is_empty:
        raise ConfigurationError(f"{name}: the file holds no graphs.")
