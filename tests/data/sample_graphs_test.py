import hashlib
import json
from collections import Counter

import numpy as np
import pytest

from regattn_allennlp.data.sample_graphs import (
    COLORS,
    FEATURE_DIM,
    NUM_DISTRACTORS,
    SHAPES,
    SPLIT_SEEDS,
    SPLIT_SIZES,
    generate_graphs,
    sample_graphs,
)

DIGESTS = {
    "train": "7698c8a50c8bb3c27c8de6a177a399d4bdc94445df7da77eed086a653f14c79d",
    "validation": "d11276059bff73f86d55181db79171f5cb94a60b686a75ce1e153fad4fcc4420",
}
GRAPHS = [graph for split in SPLIT_SIZES for graph in sample_graphs(split)]


def neighbors_of(graph):
    neighbors = [set() for _ in graph["nodes"]]
    for i, j in graph["edges"]:
        neighbors[i].add(j)
        neighbors[j].add(i)
    return neighbors


@pytest.mark.parametrize("split", ["train", "validation"])
def test_splits_are_always_the_same(split):
    # Without the features: the last digit of a product is the processor's.
    graphs = [{key: graph[key] for key in ("id", "edges", "labels", "names")} for graph in sample_graphs(split)]
    assert hashlib.sha256(json.dumps(graphs).encode()).hexdigest() == DIGESTS[split]


def test_a_label_is_the_color_of_the_one_neighbor_of_the_same_shape():
    for graph in GRAPHS:
        colors, shapes = zip(*(name.split() for name in graph["names"]), strict=True)
        for node, neighbors in enumerate(neighbors_of(graph)):
            assert node not in neighbors
            (partner,) = [other for other in neighbors if shapes[other] == shapes[node]]
            assert graph["labels"][node] == colors[partner]


def test_graphs_are_what_is_promised():
    for split, size in SPLIT_SIZES.items():
        assert [graph["id"] for graph in sample_graphs(split)] == [f"{split}-{number}" for number in range(size)]
    assert {len(graph["nodes"]) for graph in GRAPHS} == set(range(8, 17, 2))
    for graph in GRAPHS:
        assert np.array(graph["nodes"]).shape == (len(graph["labels"]), FEATURE_DIM)
        assert len({tuple(sorted(edge)) for edge in graph["edges"]}) == len(graph["edges"])
    degrees = [len(neighbors) for graph in GRAPHS for neighbors in neighbors_of(graph)]
    assert np.mean(degrees) == pytest.approx(1 + NUM_DISTRACTORS, abs=0.1)


def test_labels_are_balanced_and_independent_of_the_node_itself():
    pairs = Counter(
        (*name.split(), label) for graph in GRAPHS for name, label in zip(graph["names"], graph["labels"], strict=True)
    )
    total = pairs.total()
    for label in COLORS:
        assert sum(pairs[key] for key in pairs if key[2] == label) / total == pytest.approx(1 / 4, abs=0.015)
        for color in COLORS:
            assert sum(pairs[color, shape, label] for shape in SHAPES) / total == pytest.approx(1 / 16, abs=0.012)
    # The best guess by what a node shows, learned from the graphs for training.
    guesses, right = Counter(), []
    for graph in sample_graphs("train"):
        guesses.update(zip(graph["names"], graph["labels"], strict=True))
    for graph in sample_graphs("validation"):
        for name, label in zip(graph["names"], graph["labels"], strict=True):
            right.append(max(COLORS, key=lambda one, name=name: guesses[name, one]) == label)
    assert np.mean(right) < 0.28


def test_neither_the_neighbors_colors_nor_the_shapes_without_edges_are_enough():
    """The most frequent color among all neighbors, and among all other nodes of the same shape."""
    of_neighbors, of_shape = [], []
    for graph in GRAPHS:
        colors, shapes = zip(*(name.split() for name in graph["names"]), strict=True)
        for node, neighbors in enumerate(neighbors_of(graph)):
            alike = [other for other in range(len(shapes)) if other != node and shapes[other] == shapes[node]]
            for right, others in ((of_neighbors, sorted(neighbors)), (of_shape, alike)):
                right.append(Counter(colors[other] for other in others).most_common(1)[0][0] == graph["labels"][node])
    assert np.mean(of_neighbors) < 0.52
    assert np.mean(of_shape) < 0.72


def test_features_tell_the_shape_and_the_color():
    def table(split):
        graphs = sample_graphs(split)
        features = np.concatenate([graph["nodes"] for graph in graphs])
        return np.hstack([features, np.ones((len(features), 1))]), [
            name.split() for graph in graphs for name in graph["names"]
        ]

    (inputs, names), (other_inputs, other_names) = table("train"), table("validation")
    for number, values in enumerate((COLORS, SHAPES)):
        wanted = np.array([[name[number] == value for value in values] for name in names], dtype=float)
        readout, *_ = np.linalg.lstsq(inputs, wanted, rcond=None)
        told = (other_inputs @ readout).argmax(1)
        assert np.mean([values[one] == name[number] for one, name in zip(told, other_names, strict=True)]) > 0.9


def test_the_seed_decides():
    assert list(generate_graphs("x", 5, seed=1)) == list(generate_graphs("x", 5, seed=1))
    assert list(generate_graphs("x", 5, seed=1)) != list(generate_graphs("x", 5, seed=2))
    assert list(generate_graphs("train", 3, SPLIT_SEEDS["train"])) == sample_graphs("train")[:3]


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match=r"'test'.*train, validation"):
        sample_graphs("test")
