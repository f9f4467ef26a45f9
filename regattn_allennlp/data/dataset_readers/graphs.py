from collections.abc import Iterable, Iterator
from os import PathLike
from typing import Any, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Field, Instance
from allennlp.data.fields import AdjacencyField, LabelField, ListField, MetadataField

from regattn_allennlp.data.dataset_readers.source_dataset_reader import SourceDatasetReader
from regattn_allennlp.data.example import Example
from regattn_allennlp.data.fields import NodesField
from regattn_allennlp.data.graph import Graph, checked_graph
from regattn_allennlp.data.graph_source import GraphSource, open_graph_source
from regattn_allennlp.data.source_instance import SourceInstance


@DatasetReader.register("graphs")
class GraphsDatasetReader(SourceDatasetReader):
    """
    Reads graphs whose nodes are to be classified. What it reads from, the `file_path`, may be:

    - a file of JSON lines, a graph a line; a path, a URL, or `"archive.zip!file.jsonl"`:
      `{"nodes": [[0.1, 2.5], [1.0, -3.0]], "edges": [[0, 1]], "labels": ["a", null], "names": ["x", "y"], "id": "1"}`;
    - the sample of this package, generated graphs: `"sample:train"` and `"sample:validation"`.

    A slice at the end selects some of the graphs: `"sample:train[:100]"`.

    - `nodes`: a list of numbers for each node, its features; all of one length;
    - `edges`: the numbers of two nodes each, counted from 0. What is there twice counts once;
    - `labels`, optional: of each node, a text, a number, or null where there is none. With the labels of other nodes
      in one file and in the other, one graph is both trained on and validated;
    - `names`, optional: of each node, a text, to show it;
    - `id`, optional: the graph's.

    The instances have the fields

    - `nodes` (`NodesField`): the features, and what tells nodes from padding;
    - `adjacency` (`AdjacencyField`): 1 where the row's node is reached by an edge from the column's;
    - `node_labels` (`ListField` of `LabelField` in the namespace "node_labels"), if there are labels: -1 where there
      is none that counts;
    - `metadata` (`MetadataField`) with the keys `id`, `node_names` (empty if not known) and `num_nodes`.

    Registered as a `DatasetReader` with name "graphs".

    # Parameters

    directed : `bool`, optional (default = `False`)
        If true, [i, j] is an edge from i to j: j attends to i, and not the other way round.
    label_mask : `str`, optional (default: all labels count)
        The key of a list with true for each node whose label counts, and false for the others, such as "train": so one
        file serves for training and, with another mask in the `validation_dataset_reader`, for validation.

    # Raises

    `ConfigurationError`
        While reading: if a file cannot be found, or a graph is malformed, has features of another dimension than those
        before, or labels of which none counts. The message names the file and the line.
    """

    def __init__(self, directed: bool = False, label_mask: Optional[str] = None, **kwargs: Any) -> None:
        super().__init__(manual_distributed_sharding=True, manual_multiprocess_sharding=True, **kwargs)
        self._directed = directed
        self._label_mask = label_mask

    def _open(self, file_path: str | PathLike) -> GraphSource:
        return open_graph_source(str(file_path))

    def _graphs(self, source: GraphSource, rows: Iterable[int]) -> Iterator[tuple[int, dict[str, Any], Graph]]:
        """Each with its line and as it stands there."""
        first: Optional[tuple[int, int]] = None
        for line, record in source.graphs(rows):
            if self._reads_to_predict:
                record.pop("labels", None)
            try:
                graph = checked_graph(record, self._label_mask)
            except ConfigurationError as error:
                raise ConfigurationError(f"{source.name}, line {line}: {error}") from error
            dim = graph.nodes.shape[1]
            first = first or (line, dim)
            if dim != first[1]:
                raise ConfigurationError(
                    f"{source.name}, line {line}: the nodes have {dim} features each, those of line {first[0]} "
                    f"{first[1]}: all must have the same number."
                )
            yield line, record, graph

    def _read(self, file_path: str | PathLike) -> Iterable[Instance]:
        source = self._open(file_path)
        for line, _, graph in self._graphs(source, self._own_share(source.rows)):
            yield SourceInstance(self.text_to_instance(graph), f"line {line}")

    def read_examples(self, file_path: str | PathLike) -> Iterator[Example]:
        """
        Yields all graphs as they stand in the source, by their "id" or, if there is none, their line; with the labels
        of the nodes in order where all are known.
        """
        source = self._open(file_path)
        for line, record, graph in self._graphs(source, source.rows):
            labels = graph.labels or [None]
            inputs = {
                "id": graph.graph_id or f"line {line}",
                "nodes": record["nodes"],
                "edges": record["edges"],
                "names": list(graph.names),
            }
            yield Example(inputs, None if None in labels else " ".join(map(str, labels)))

    def text_to_instance(self, graph: Graph) -> Instance:  # type: ignore[override]
        """The instance of a graph, which `checked_graph` makes."""
        nodes = NodesField(graph.nodes)
        # By who attends, the end of an edge, and to whom.
        attended = {(end, start) for start, end in graph.edges}
        if not self._directed:
            attended.update(graph.edges)
        fields: dict[str, Field] = {
            "nodes": nodes,
            "adjacency": AdjacencyField(sorted(attended), nodes, padding_value=0),
            "metadata": MetadataField(
                {"id": graph.graph_id, "node_names": list(graph.names), "num_nodes": len(graph.nodes)}
            ),
        }
        if graph.labels is not None:
            fields["node_labels"] = ListField(
                [
                    LabelField(-1 if label is None else label, "node_labels", skip_indexing=label is None)
                    for label in graph.labels
                ]
            )
        return Instance(fields)
