import json
import pickle
import resource

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, DatasetReader, Vocabulary
from allennlp.data.data_loaders import MultiProcessDataLoader

import regattn_allennlp.data.dataset_readers  # noqa: F401  (registers the reader)
from regattn_allennlp.data.data_loaders import CachedDataLoader
from regattn_allennlp.data.sample_graphs import sample_graphs

GRAPHS = [
    {"nodes": [[0.5, 1], [2, -3], [4, 5]], "edges": [[0, 1], [1, 0], [0, 1], [2, 2]], "labels": ["a", None, 7]},
    {"nodes": [[1, 2]], "edges": [], "labels": ["b"], "names": ["the only one"], "id": 17},
]


def reader(**params) -> DatasetReader:
    return DatasetReader.from_params(Params({"type": "graphs", **params}))


def write(path, graphs):
    path.write_text("".join(json.dumps(graph) + "\n" for graph in graphs))
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "graphs.jsonl", GRAPHS)


def tensors_of(instances) -> dict:
    batch = Batch(instances)
    batch.index_instances(Vocabulary.from_instances(instances))
    return batch.as_tensor_dict()


def test_a_batch_of_graphs(file):
    instances = list(reader().read(file))
    assert Vocabulary.from_instances(instances).get_token_to_index_vocabulary("node_labels").keys() == {"a", "7", "b"}
    tensors = tensors_of(instances)
    assert tensors["nodes"]["features"].tolist() == [[[0.5, 1], [2, -3], [4, 5]], [[1, 2], [0, 0], [0, 0]]]
    assert tensors["nodes"]["features"].dtype == torch.float32
    assert tensors["nodes"]["mask"].tolist() == [[True, True, True], [True, False, False]]
    assert tensors["adjacency"].tolist() == [[[0, 1, 0], [1, 0, 0], [0, 0, 1]], [[0] * 3] * 3]
    labels = tensors["node_labels"]
    assert (
        labels[:, 1:].lt(0).tolist() == [[True, False], [True, True]] and len(set(labels[labels >= 0].tolist())) == 3
    )
    assert tensors["metadata"] == [
        {"id": "", "node_names": [], "num_nodes": 3},
        {"id": "17", "node_names": ["the only one"], "num_nodes": 1},
    ]


def test_a_directed_edge_lets_its_end_attend_to_its_start(tmp_path):
    path = write(tmp_path / "graphs.jsonl", [{"nodes": [[1], [2], [3]], "edges": [[0, 1], [2, 1]]}])
    (directed,) = reader(directed=True).read(path)
    assert tensors_of([directed])["adjacency"].tolist() == [[[0, 0, 0], [1, 0, 1], [0, 0, 0]]]
    (undirected,) = reader().read(path)
    assert tensors_of([undirected])["adjacency"].tolist() == [[[0, 1, 0], [1, 0, 1], [0, 1, 0]]]
    assert "node_labels" not in undirected.fields


def test_to_predict_each_graph_is_read_without_its_labels(tmp_path):
    none_counts = {**GRAPHS[0], "labels": [None] * 3}
    path = write(tmp_path / "graphs.jsonl", [GRAPHS[0], none_counts, {**GRAPHS[1], "labels": None}])
    for params in {}, {"label_mask": "test"}:
        instances = list(reader(**params).to_predict().read(path))
        assert [instance["metadata"]["num_nodes"] for instance in instances] == [3, 3, 1]
        assert not any("node_labels" in instance.fields for instance in instances)


def test_a_mask_tells_which_labels_count(tmp_path):
    graph = {**GRAPHS[0], "labels": ["a", "b", "c"], "train": [True, False, True], "validation": [0, 1, 0]}
    path = write(tmp_path / "graphs.jsonl", [graph])
    for mask, counted in (("train", [True, False, True]), ("validation", [False, True, False])):
        (instance,) = reader(label_mask=mask).read(path)
        known = Vocabulary.from_instances([instance]).get_token_to_index_vocabulary("node_labels").keys()
        assert tensors_of([instance])["node_labels"].ge(0).tolist() == [counted]
        assert known == {label for label, counts in zip("abc", counted, strict=True) if counts}


def test_the_sample_and_slices_of_it():
    instances = list(reader().read("sample:validation[3:5]"))
    for instance, graph in zip(instances, sample_graphs("validation")[3:5], strict=True):
        np.testing.assert_array_equal(instance["nodes"].features, np.array(graph["nodes"], dtype=np.float32))
        assert instance["metadata"]["id"] == graph["id"] and instance["metadata"]["node_names"] == graph["names"]
        assert [field.label for field in instance["node_labels"]] == graph["labels"]
        edges = {tuple(edge) for edge in graph["edges"]}
        assert set(instance["adjacency"].indices) == edges | {(j, i) for i, j in edges}


def test_examples(file):
    first, second = reader().read_examples(file)
    assert first.inputs == {"id": "line 1", "nodes": GRAPHS[0]["nodes"], "edges": GRAPHS[0]["edges"], "names": []}
    assert (second.inputs["id"], second.inputs["names"]) == ("17", ["the only one"])
    # Only where all is known.
    assert (first.gold, second.gold) == (None, "b")


@pytest.mark.parametrize("loader", [MultiProcessDataLoader, CachedDataLoader])
def test_worker_processes_share_the_graphs_with_few_files_open(loader):
    graphs, before = reader(), resource.getrlimit(resource.RLIMIT_NOFILE)
    data = loader(graphs, "sample:train", batch_size=50, num_workers=2, quiet=True)
    data.index_with(Vocabulary.from_instances(graphs.read("sample:train[:20]")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        found = sorted(item["id"] for batch in data for item in batch["metadata"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found == sorted(graph["id"] for graph in sample_graphs("train"))


def test_an_instance_is_small_on_its_way_between_processes():
    (instance,) = reader().read("sample:train[:1]")
    assert len(pickle.dumps(instance)) < 10_000
    assert isinstance(pickle.loads(pickle.dumps(instance))["nodes"].features, np.ndarray)


def test_the_fingerprint_tells_the_instances(file):
    def fingerprint(path=file, **params):
        return reader(**params).fingerprint(str(path))

    before = fingerprint()
    others = [fingerprint(f"{file}[:1]"), fingerprint(directed=True), fingerprint(label_mask="train")]
    assert fingerprint() == before
    write(file, GRAPHS[:1])
    assert len({before, *others, fingerprint()}) == 5


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"nodes": None}, '"nodes" must be a list with a list of numbers for each node'),
        ({"nodes": []}, '"nodes" must be a list'),
        ({"nodes": [[1, 2], [3], [4, 5]]}, '"nodes": row 1 has 1 numbers, row 0 has 2'),
        ({"nodes": [[1, "x"]] * 3}, "\"nodes\": row 0 has 'x' where a finite number is wanted"),
        ({"nodes": [[1, 2, 3]] * 3}, "the nodes have 3 features each, those of line 1 2: all must have the same"),
        ({"edges": "0-1"}, "\"edges\" must be a list of \\[node, node\\], but is '0-1'"),
        ({"edges": [[0, 1], [0, 1, 2]]}, r'"edges": entry 1 .* is \[0, 1, 2\], where the numbers of two nodes'),
        ({"edges": [[0, True]]}, r'"edges": entry 0 .* is \[0, True\], where the numbers'),
        (
            {"edges": [[0, 3]]},
            r'"edges": entry 0 .* is \[0, 3\], but there is no node 3: there are 3, numbered from 0',
        ),
        ({"edges": [[-1, 0]]}, "there is no node -1"),
        ({"labels": ["a", "b"]}, '"labels" has 2 entries, but there are 3 nodes'),
        ({"labels": {"0": "a"}}, '"labels" must be a list with an entry for each node'),
        (
            {"labels": ["a", 1.5, None]},
            '"labels": that of node 1 is 1.5, and should be a text, a whole number or null',
        ),
        ({"labels": ["a", "", None]}, "\"labels\": that of node 1 is ''"),
        ({"labels": [None] * 3}, '"labels": there is none that counts'),
        ({"names": ["a"]}, '"names" has 1 entries, but there are 3 nodes'),
        ({"names": ["a", 2, "c"]}, '"names": that of node 1 is 2, and should be a text'),
        ({"id": [1]}, r'"id" must be a text or a number, but is \[1\]'),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, changes, message):
    path = write(tmp_path / "graphs.jsonl", [GRAPHS[0], {**GRAPHS[0], **changes}])
    with pytest.raises(ConfigurationError, match="graphs.jsonl, line 2: .*" + message):
        list(reader().read(path))


@pytest.mark.parametrize(
    "mask, message",
    [
        (None, r'key "train", is missing; the keys are .*"?nodes'),
        ([True], '"train" has 1 entries, but there are 3 nodes'),
        ([True, "no", False], "\"train\": that of node 1 is 'no', and should be true or false"),
        ([False, True, False], "there is none that counts"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_label_mask_is_named(tmp_path, mask, message):
    path = write(tmp_path / "graphs.jsonl", [{**GRAPHS[0], "train": mask}])
    with pytest.raises(ConfigurationError, match="graphs.jsonl, line 1: .*" + message):
        list(reader(label_mask="train").read(path))


@pytest.mark.parametrize("missing", ["nodes", "edges"])
def test_a_missing_key_is_named(tmp_path, missing):
    path = write(tmp_path / "graphs.jsonl", [{key: value for key, value in GRAPHS[1].items() if key != missing}])
    with pytest.raises(ConfigurationError, match=f'line 1: the key "{missing}" is missing; the keys are'):
        list(reader().read(path))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\n", "graphs.jsonl: the file holds no graphs"),
        (b'{"nodes": [[1]], "edges": []}\n\n[1, 2]\n', r"graphs.jsonl, line 3: not a JSON object: '\[1, 2\]'"),
        (b'{"nodes": [[1]], "edges": []\n', "graphs.jsonl, line 1: not JSON"),
        (b'{"nodes": [[1]], "edges": []}\n\xff\n', "graphs.jsonl, line 2: not UTF-8"),
    ],
)
def test_a_file_of_something_else_is_named(tmp_path, content, message):
    (tmp_path / "graphs.jsonl").write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        list(reader().read(tmp_path / "graphs.jsonl"))


@pytest.mark.parametrize(
    "path, message",
    [
        ("nowhere.jsonl", '"nowhere.jsonl" could not be opened: .* a graph a line'),
        ("sample:test", "\"sample:test\": .* no split 'test'"),
        ("sample:train[1000:]", "selects none of the 500 graphs"),
    ],
)
def test_a_source_that_is_none_is_named(path, message):
    with pytest.raises(ConfigurationError, match=message):
        list(reader().read(path))
