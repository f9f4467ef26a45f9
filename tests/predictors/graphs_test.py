import json
import math
import re

import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.predictors import Predictor

from regattn_allennlp.commands import show_attention
from regattn_allennlp.data.sample_graphs import sample_graphs
from tests.conftest import PROJECT_ROOT
from tests.data.conftest import caches_in_a_temporary_folder  # noqa: F401  (applies to all tests here)

INCLUDE = ("--include-package", "regattn_allennlp")
GRAPH = sample_graphs("validation")[2]
NUM_NODES = len(GRAPH["nodes"])
# As the predictor takes it, and as it stands in data.
INPUT = {"nodes": GRAPH["nodes"], "edges": GRAPH["edges"]}
LINES = [GRAPH, {**INPUT, "an unrelated key": 3}]


@pytest.fixture(scope="module")
def archive(allennlp, tmp_path_factory):
    """A small model; sparsemax with one head, so that there are weights of 0."""
    folder = tmp_path_factory.mktemp("graphs") / "sparsemax"
    overrides = {
        "train_data_path": "sample:train[:96]",
        "validation_data_path": "sample:validation[:32]",
        "trainer.num_epochs": 1,
        "model.attention": {"type": "sparsemax"},
        "model.graph_encoder.num_heads": 1,
    }
    config = PROJECT_ROOT / "training_configs" / "alignment" / "graph.jsonnet"
    allennlp("train", config, "-s", folder, "--overrides", json.dumps(overrides), *INCLUDE)
    return folder / "model.tar.gz"


@pytest.fixture(scope="module")
def predictor(archive):
    return Predictor.from_path(str(archive))


def predict(allennlp, archive, folder, lines) -> tuple[list[dict], str | None]:
    """The predictions in the output file, and the error the command ended with, if it did."""
    (folder / "in.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    message = None
    try:
        allennlp(
            "predict", archive, folder / "in.jsonl", "--output-file", folder / "out.jsonl", "--silent", *INCLUDE
        )  # fmt: skip
    except ConfigurationError as error:
        message = str(error)
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()], message


def test_predicts_each_node(allennlp, archive, tmp_path):
    (named, unnamed), error = predict(allennlp, archive, tmp_path, LINES)
    assert error is None
    assert (named["id"], named["node_names"]) == (GRAPH["id"], GRAPH["names"])
    assert (unnamed["id"], unnamed["node_names"]) == ("", [])
    adjacent = np.eye(NUM_NODES, dtype=bool)
    for i, j in GRAPH["edges"]:
        adjacent[i, j] = adjacent[j, i] = True
    for prediction in (named, unnamed):
        weights = np.array(prediction["node_to_neighbors_attention"])
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
        assert (weights[~adjacent] == 0).all()
        assert len(prediction["node_labels"]) == len(prediction["node_probs"]) == prediction["num_nodes"] == NUM_NODES
        for label, probabilities in zip(prediction["node_labels"], prediction["probabilities"], strict=True):
            assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
            assert probabilities[label] == max(probabilities.values())
    assert named["node_labels"] == unnamed["node_labels"]


def test_predicts_with_the_dataset_reader(allennlp, archive, tmp_path):
    allennlp(
        "predict", archive, "sample:validation[:3]", "--use-dataset-reader", "--silent",
        "--output-file", tmp_path / "out.jsonl", *INCLUDE,
    )  # fmt: skip
    predictions = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [prediction["id"] for prediction in predictions] == [f"validation-{number}" for number in range(3)]


def test_the_neighbors_are_shown_by_layer_and_head(allennlp, archive, predictor, tmp_path):
    predictor.self_attention = True
    prediction = predictor.predict_json(GRAPH)
    predictor.self_attention = False
    (layers,) = predictor.self_attention_layers().values()
    assert list(layers.values()) == [1] * len(layers)
    last = predictor.self_attention_map(prediction, "node_to_neighbors", head=0)
    assert last == predictor.attention_map(prediction, "node_to_neighbors")
    (tmp_path / "in.jsonl").write_text(json.dumps(GRAPH))
    arguments = ("show-attention", archive, "--input", tmp_path / "in.jsonl", "--out", tmp_path / "a.html")
    allennlp(*arguments, "--layer", "0", "--head", "all")
    page = (tmp_path / "a.html").read_text()
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    shown = json.loads(data)
    assert shown["archives"] == ["sparsemax, layer 0, head 0"]
    weights = np.array(prediction["self_attention"]["node_to_neighbors"][0]["weights"][0])
    np.testing.assert_allclose(shown["examples"][0]["predictions"][0]["maps"][0]["weights"], weights, rtol=1e-3)


def test_the_answer_and_the_map(predictor):
    prediction = predictor.predict(**INPUT)
    answer = predictor.answer(prediction)
    assert answer.text.split() == prediction["node_labels"]
    assert answer.probability == pytest.approx(math.prod(max(probs) for probs in prediction["node_probs"]))
    drawn = predictor.attention_map(prediction, "node_to_neighbors")
    assert drawn["rows"] == drawn["columns"] == [str(number) for number in range(NUM_NODES)]
    assert drawn["weights"] == prediction["node_to_neighbors_attention"]
    assert (drawn["rowTitle"], drawn["columnTitle"], drawn["rightToLeft"]) == ("node", "neighbors", False)
    named = predictor.attention_map(predictor.predict_json(GRAPH), "node_to_neighbors")
    assert named["rows"] == named["columns"] == GRAPH["names"]
    grouped = {**prediction, "node_to_neighbors_attention": [[0.25, 0.25, 0.0, 0.5]]}
    assert predictor.attention_map(grouped, "node_to_neighbors")["groups"] == [[[(0, 2)]]]


@pytest.mark.parametrize(
    "line, message",
    [
        ([1], r'a JSON object with "nodes" and "edges" is wanted, not \[1\]'),
        ({"nodes": GRAPH["nodes"]}, r"the key \"edges\" is missing; the keys are \['nodes'\]"),
        ({**INPUT, "edges": [[0, 99]]}, r"\[0, 99\], but there is no node 99"),
        ({**INPUT, "names": ["a"]}, f'"names" has 1 entries, but there are {NUM_NODES} nodes'),
        ({"nodes": [[1, 2]], "edges": []}, '"nodes": they have 2 features each; the model takes 16'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_line_is_named_and_those_before_it_are_kept(allennlp, archive, tmp_path, line, message):
    predictions, error = predict(allennlp, archive, tmp_path, [*LINES, line, GRAPH])
    assert error is not None and re.search("line 3.*" + message, error), error
    assert len(predictions) == 2


def examples_of(page) -> list[dict]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(data)["examples"]


def test_graphs_are_shown(allennlp, archive, predictor, tmp_path):
    allennlp("show-attention", archive, "--input", "sample:validation[:3]", "--out", tmp_path / "a.html")
    examples = examples_of(tmp_path / "a.html")
    # Of the graph as it stands in the data, what can be read.
    assert [example["inputs"] for example in examples] == [{"id": f"validation-{number}"} for number in range(3)]
    assert examples[2]["gold"] == " ".join(GRAPH["labels"])
    (prediction,) = examples[2]["predictions"]
    assert prediction["maps"][0]["columns"] == GRAPH["names"]
    expected = predictor.predict_json(GRAPH)
    assert prediction["text"].split() == expected["node_labels"]
    assert np.array(prediction["maps"][0]["weights"]) == pytest.approx(
        np.array(expected["node_to_neighbors_attention"]), rel=1e-3, abs=1e-6
    )
    (tmp_path / "graphs.jsonl").write_text(json.dumps({"nodes": [[0.5] * 16] * 2, "edges": []}) + "\n")
    allennlp("show-attention", archive, "--input", tmp_path / "graphs.jsonl", "--out", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_graph_is_no_text(allennlp, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(show_attention, "load_predictors", lambda *_: pytest.fail("loaded a model"))
    with pytest.raises(ConfigurationError, match=r'Given is --source: for the task "graphs" wanted is --input\.$'):
        allennlp("show-attention", archive, "--source", "a", "--out", tmp_path / "a.html")
