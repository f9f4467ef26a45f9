"""
The embedded sample of graphs: generated, of this project's own making.

A graph has 8 to 16 nodes. Each node has one of six shapes and one of four colors, and its features show both: a fixed
random projection of them, with noise. Each node has exactly one neighbor of its own shape, and about four of other
shapes. A node's label is the color of the neighbor that has its shape.

So the label is found by who looks at the neighbors, and there at the right one. Each color being drawn by itself, a
node's own features tell nothing of its label, which is one of four: 0.25 is right by chance. The most frequent color
among all neighbors, whatever their shape, is right for 0.51 of the nodes, and that among all other nodes of the same
shape, whatever the edges, for 0.71.

The training split is drawn with seed 20401 and the validation split with seed 20402.
"""

import random
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS = ("red", "green", "blue", "yellow")
# Of a graph, of its pairs of the same shape: the nodes are twice as many.
NUM_PAIRS = (4, 8)
# How many neighbors of another shape a node has, on average.
NUM_DISTRACTORS = 4

SPLIT_SIZES = {"train": 500, "validation": 200}
SPLIT_SEEDS = {"train": 20_401, "validation": 20_402}

FEATURE_DIM = 16
FEATURE_NOISE = 0.7  # standard deviation; a shape or a color that changes moves the features by about 1.4 each
PROJECTION_SEED = 20_400


def generate_graphs(split: str, num_graphs: int, seed: int) -> Iterator[dict[str, Any]]:
    """
    Draws graphs as the dataset reader "graphs" takes them. Their "id" is the split and a number from 0: "train-17";
    the names of the nodes say what they show: "red circle". The same arguments always give the same graphs.
    """
    # RandomState, because NumPy keeps its numbers the same from version to version.
    rng, noise = random.Random(seed), np.random.RandomState(seed)
    for number in range(num_graphs):
        num_pairs = rng.randint(*NUM_PAIRS)
        num_nodes = 2 * num_pairs
        order = rng.sample(range(num_nodes), num_nodes)
        partners = {order[i]: order[i + 1 - 2 * (i % 2)] for i in range(num_nodes)}
        shapes = [""] * num_nodes
        for node in order[::2]:
            shapes[node] = shapes[partners[node]] = rng.choice(SHAPES)
        colors = [rng.choice(COLORS) for _ in range(num_nodes)]
        # Of an edge to a node of another shape, by how many those are on average.
        chance = NUM_DISTRACTORS / ((1 - 1 / len(SHAPES)) * (num_nodes - 2))
        edges = [
            [i, j]
            for i, j in combinations(range(num_nodes), 2)
            if partners[i] == j or (shapes[i] != shapes[j] and rng.random() < chance)
        ]
        yield {
            "id": f"{split}-{number}",
            "nodes": _features(shapes, colors, noise),
            "edges": edges,
            "labels": [colors[partners[node]] for node in range(num_nodes)],
            "names": [f"{color} {shape}" for color, shape in zip(colors, shapes, strict=True)],
        }


def _features(shapes: list[str], colors: list[str], noise: np.random.RandomState) -> list[list[float]]:
    attributes = np.array(
        [
            [shape == one for one in SHAPES] + [color == one for one in COLORS]
            for shape, color in zip(shapes, colors, strict=True)
        ],
        dtype=np.float64,
    )
    projection = np.random.RandomState(PROJECTION_SEED).standard_normal((attributes.shape[1], FEATURE_DIM))
    features = attributes @ projection + FEATURE_NOISE * noise.standard_normal((len(shapes), FEATURE_DIM))
    return features.round(3).tolist()


@lru_cache
def sample_graphs(split: str) -> list[dict[str, Any]]:
    """The graphs of the embedded sample's split, "train" or "validation"."""
    if split not in SPLIT_SIZES:
        raise ValueError(f"the embedded sample has no split {split!r}; it has {', '.join(SPLIT_SIZES)}")
    return list(generate_graphs(split, SPLIT_SIZES[split], SPLIT_SEEDS[split]))
