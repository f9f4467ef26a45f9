"""Graphs as JSON has them: what the dataset reader and the predictor take, checked."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.data.number_rows import number_rows


class Graph(NamedTuple):
    """
    # Parameters

    nodes : `np.ndarray`
        Shape (num_nodes, dim), float32: the nodes' features.
    edges : `List[Tuple[int, int]]`
        By the numbers of the nodes, from 0.
    labels : `List[Optional[str]]`, optional
        Of each node; `None` for one that has none or whose label does not count.
    names : `Sequence[str]`
        Of each node; empty if they have none.
    graph_id : `str`
        Empty if there is none.
    """

    nodes: np.ndarray
    edges: list[tuple[int, int]]
    labels: Optional[list[Optional[str]]] = None
    names: Sequence[str] = ()
    graph_id: str = ""


def checked_graph(record: Mapping[str, Any], label_mask: Optional[str] = None) -> Graph:
    """
    The graph of an object of JSON, as `GraphsDatasetReader` describes it.

    # Parameters

    label_mask : `str`, optional
        The key that tells which labels count.

    # Raises

    `ConfigurationError`
        For what is no graph; where labels are given and none counts.
    """
    for key in ("nodes", "edges"):
        if key not in record:
            raise ConfigurationError(f'the key "{key}" is missing; the keys are {sorted(record)}')
    nodes = number_rows("nodes", record["nodes"], "node")
    graph_id = record.get("id")
    if isinstance(graph_id, bool) or not isinstance(graph_id, (str, int, type(None))):
        raise ConfigurationError(f'"id" must be a text or a number, but is {graph_id!r}')
    # Empty where not known, as the predictor writes them.
    names = _of_each_node(record, "names", len(nodes)) if record.get("names") else None
    for number, name in enumerate(names or ()):
        if not isinstance(name, str):
            raise ConfigurationError(f'"names": that of node {number} is {name!r}, and should be a text')
    return Graph(
        nodes,
        _edges(record["edges"], len(nodes)),
        _labels(record, label_mask, len(nodes)),
        names or (),
        "" if graph_id is None else str(graph_id),
    )


def _edges(edges: Any, num_nodes: int) -> list[tuple[int, int]]:
    if not isinstance(edges, list):
        raise ConfigurationError(f'"edges" must be a list of [node, node], but is {edges!r}')
    for number, edge in enumerate(edges):
        if (
            not isinstance(edge, (list, tuple))
            or len(edge) != 2
            or not all(isinstance(node, int) and not isinstance(node, bool) for node in edge)
        ):
            raise ConfigurationError(
                f'"edges": entry {number} (counted from 0) is {edge!r}, where the numbers of two nodes are wanted'
            )
        for node in edge:
            if not 0 <= node < num_nodes:
                raise ConfigurationError(
                    f'"edges": entry {number} (counted from 0) is {edge!r}, but there is no node {node}: there are '
                    f"{num_nodes}, numbered from 0"
                )
    return [(start, end) for start, end in edges]


def _labels(record: Mapping[str, Any], label_mask: Optional[str], num_nodes: int) -> Optional[list[Optional[str]]]:
    labels = _of_each_node(record, "labels", num_nodes)
    if labels is None:
        return None
    for number, label in enumerate(labels):
        if isinstance(label, bool) or not isinstance(label, (str, int, type(None))) or label == "":
            raise ConfigurationError(
                f'"labels": that of node {number} is {label!r}, and should be a text, a whole number or null'
            )
    counted: list[Any] = [True] * num_nodes
    if label_mask is not None:
        if record.get(label_mask) is None:
            raise ConfigurationError(f'the label mask, key "{label_mask}", is missing; the keys are {sorted(record)}')
        counted = _of_each_node(record, label_mask, num_nodes) or []
        for number, counts in enumerate(counted):
            if counts not in (0, 1):
                raise ConfigurationError(
                    f'"{label_mask}": that of node {number} is {counts!r}, and should be true or false'
                )
    kept = [
        str(label) if counts and label is not None else None for label, counts in zip(labels, counted, strict=True)
    ]
    if not any(label is not None for label in kept):
        raise ConfigurationError('"labels": there is none that counts; a graph without labels has no key "labels"')
    return kept


def _of_each_node(record: Mapping[str, Any], key: str, num_nodes: int) -> Optional[list[Any]]:
    values = record.get(key)
    if values is None:
        return None
    if not isinstance(values, list):
        raise ConfigurationError(f'"{key}" must be a list with an entry for each node, but is {values!r}')
    if len(values) != num_nodes:
        raise ConfigurationError(f'"{key}" has {len(values)} entries, but there are {num_nodes} nodes')
    return values
