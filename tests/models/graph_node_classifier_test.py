import copy
import json

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.models.archival import load_archive

import regattn_allennlp.data.dataset_readers
import regattn_allennlp.models  # noqa: F401  (registers what the configs name)
from regattn_allennlp.comparison.evaluation import evaluate
from regattn_allennlp.data.graph import checked_graph
from regattn_allennlp.data.sample_graphs import sample_graphs
from tests.conftest import PROJECT_ROOT
from tests.data.conftest import caches_in_a_temporary_folder  # noqa: F401  (applies to all tests here)
from tests.training.metrics.attention_statistics_test import measured_one_by_one

CONFIG = PROJECT_ROOT / "training_configs" / "alignment" / "graph.jsonnet"
INCLUDE = ("--include-package", "regattn_allennlp")
TINY = {
    "train_data_path": "sample:train[:96]",
    "validation_data_path": "sample:validation[:32]",
    "trainer.num_epochs": 2,
}
ATTENTIONS = [
    {"type": "softmax"},
    {"type": "sparsemax", "gamma": 0.5},
    {"type": "fusedmax", "lam": 0.2},
    {"type": "oscarmax", "lam": 0.2},
]
DIM = 6


def read(number: int = 6) -> list:
    return list(DatasetReader.from_params(Params({"type": "graphs"})).read(f"sample:validation[:{number}]"))


def instance_of(**graph):
    return DatasetReader.from_params(Params({"type": "graphs"})).text_to_instance(checked_graph(graph))


def build(instances, encoder=None, **changes) -> Model:
    torch.manual_seed(0)
    config = {
        "type": "graph_node_classifier",
        "node_feedforward": {"input_dim": 16, "num_layers": 1, "hidden_dims": DIM, "activations": "tanh"},
        "attention": {"type": "softmax"},
        "graph_encoder": {"num_heads": 2, **(encoder or {})},
        **changes,
    }
    return Model.from_params(Params(copy.deepcopy(config)), vocab=Vocabulary.from_instances(instances)).eval()


def run(model: Model, instances) -> dict:
    batch = Batch(instances)
    batch.index_instances(model.vocab)
    return model(**batch.as_tensor_dict())


def hide(instance, hidden):
    """The instance without the labels of some of its nodes."""
    for node in hidden:
        field = instance["node_labels"].field_list[node]
        instance["node_labels"].field_list[node] = type(field)(-1, "node_labels", skip_indexing=True)


def test_loss_and_scores_are_those_of_the_nodes_that_count():
    """One graph at a time, node by node."""
    instances = read(3)
    model = build(instances, encoder={"feedforward_hidden_dim": 5})
    hide(instances[0], range(0, 8, 2))
    output = run(model, instances)
    losses, right = [], []
    for number, graph in enumerate(sample_graphs("validation")[:3]):
        num_nodes = len(graph["labels"])
        adjacency = torch.zeros(1, num_nodes, num_nodes, dtype=torch.bool)
        for i, j in graph["edges"]:
            adjacency[0, i, j] = adjacency[0, j, i] = True
        embedded = model._node_feedforward(torch.tensor([graph["nodes"]]))
        encoded, weights = model._graph_encoder(embedded, adjacency, torch.ones(1, num_nodes, dtype=torch.bool))
        attention = output["node_to_neighbors_attention"][number]
        torch.testing.assert_close(attention[:num_nodes, :num_nodes], (weights[0, 0] + weights[0, 1]) / 2)
        assert attention[num_nodes:].eq(0).all() and attention[:, num_nodes:].eq(0).all()
        probs = model._label_layer(encoded[0]).softmax(-1)
        torch.testing.assert_close(output["node_probs"][number, :num_nodes], probs)
        right.append([])
        for node in range(num_nodes):
            if number > 0 or node not in range(0, 8, 2):
                label = model.vocab.get_token_index(graph["labels"][node], "node_labels")
                losses.append(-probs[node, label].log())
                right[-1].append(float(probs[node].argmax() == label))
    torch.testing.assert_close(output["loss"], torch.stack(losses).mean())
    assert output["item_scores"].tolist() == pytest.approx([sum(one) / len(one) for one in right])
    accuracy = sum(map(sum, right)) / sum(map(len, right))
    assert 0 < accuracy < 1 and model.get_metrics()["accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_statistics_are_of_the_neighbors_and_the_node_itself_alone(attention):
    instances = read()
    model = build(instances, attention=attention, encoder={"num_heads": 1})
    weights = run(model, instances)["node_to_neighbors_attention"]
    rows = []
    for instance, of_graph in zip(instances, weights, strict=True):
        for node in range(instance["metadata"]["num_nodes"]):
            attended = sorted([node, *(end for start, end in instance["adjacency"].indices if start == node)])
            row = of_graph[node, attended].tolist()
            assert sum(row) == pytest.approx(1) and of_graph[node].sum().item() == pytest.approx(1)
            rows.append(row)
    measured = [measured_one_by_one(row, [True] * len(row)) for row in rows]
    metrics = model.get_metrics(reset=True)
    all_weights = [weight for row in rows for weight in row]
    assert metrics["node_to_neighbors_zeros"] == pytest.approx(all_weights.count(0) / len(all_weights))
    for name in ("support_size", "entropy", "segments", "distinct_weights"):
        expected = sum(of_row[name] for of_row in measured) / len(measured)
        assert metrics[f"node_to_neighbors_{name}"] == pytest.approx(expected, rel=1e-5), name


def test_trains_all_parameters_and_adds_the_alignment_loss():
    encoder = {"num_layers": 2, "alignment_regularizer": {"type": "mmd", "weight": 0.5}}
    instances = read()
    model, plain = build(instances, encoder=encoder), build(instances, encoder={"num_layers": 2})
    evaluated = run(model, instances)
    torch.testing.assert_close(evaluated["loss"], run(plain, instances)["loss"])
    assert not any(name.startswith("alignment") for name in plain.get_metrics(reset=True))
    model.get_metrics(reset=True)
    trained = run(model.train(), instances)
    torch.testing.assert_close(trained["loss"], evaluated["loss"] + trained["alignment_loss"])
    torch.testing.assert_close(trained["alignment_loss"], 0.5 * trained["alignment_distance"])
    assert trained["alignment_distance"] > 0 and "item_scores" not in trained
    trained["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    names = {"accuracy", "node_to_neighbors_zeros", "alignment_loss", "alignment_distance"}
    assert set(model.get_metrics()) == names


def test_a_graph_is_predicted_alike_alone_and_among_others():
    instances = read()
    model = build(instances)
    for instance, among in zip(instances, model.forward_on_instances(instances), strict=True):
        alone = model.forward_on_instance(instance)
        num_nodes = instance["metadata"]["num_nodes"]
        for key, columns in (("node_probs", 4), ("node_to_neighbors_attention", num_nodes)):
            assert alone[key].shape == (num_nodes, columns)
            torch.testing.assert_close(torch.tensor(alone[key]), torch.tensor(among[key]), rtol=1e-4, atol=1e-6)
        assert alone["node_labels"] == among["node_labels"] and len(alone["node_labels"]) == num_nodes
        for label, probabilities, probs in zip(
            among["node_labels"], among["probabilities"], among["node_probs"], strict=True
        ):
            assert probabilities[label] == max(probabilities.values()) == pytest.approx(probs.max())
            assert set(probabilities) == {"red", "green", "blue", "yellow"}


def test_predicts_without_labels():
    model = build(read())
    instance = instance_of(nodes=[[0.1] * 16, [0.2] * 16], edges=[])
    output = run(model, [instance])
    assert "loss" not in output and "item_scores" not in output
    assert model.forward_on_instance(instance)["num_nodes"] == 2


def test_features_of_another_dimension_are_named():
    model = build(read())
    with pytest.raises(ConfigurationError, match='have 2 features each, but "node_feedforward" takes 16'):
        run(model, [instance_of(nodes=[[1, 2]], edges=[])])


def test_the_attention_is_the_models_alone():
    with pytest.raises(ConfigurationError, match='"graph_encoder" has an "attention"'):
        build(read(), encoder={"attention": {"type": "sparsemax"}})
    model = build(read(), attention={"type": "sparsemax"}, encoder={"num_layers": 2})
    operators = [type(layer._attention).__name__ for layer in model._graph_encoder._self_attention._layers]
    assert operators == ["SparsemaxAttention"] * 2


def test_items_are_graphs():
    model = build(read())
    evaluation = evaluate(model, DatasetReader.from_params(Params({"type": "graphs"})), "sample:validation[:6]", 4)
    assert len(evaluation["item_scores"]) == 6 and evaluation["compared_metrics"] == ["accuracy"]
    assert "expected_calibration_error" not in evaluation["metrics"]
    sizes = [instance["metadata"]["num_nodes"] for instance in read()]
    assert len(set(sizes)) > 1
    right = sum(score * size for score, size in zip(evaluation["item_scores"], sizes, strict=True))
    assert evaluation["metrics"]["accuracy"] == pytest.approx(right / sum(sizes), abs=1e-6)


def test_the_same_items_are_told_from_others(tmp_path):
    def items(*node_labels) -> str:
        lines = [{"nodes": [[float(i)] * 16 for i in range(2)], "edges": [], "labels": given} for given in node_labels]
        (tmp_path / "graphs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        reader = DatasetReader.from_params(Params({"type": "graphs"}))
        return evaluate(model, reader, str(tmp_path / "graphs.jsonl"), 4)["items"]

    model = build(read())
    first, second = [model.vocab.get_token_from_index(index, "node_labels") for index in range(2)]
    assert items([first, second], [first, first]) == items([first, second], [first, first])
    assert items([first, second], [first, first]) != items([first, second], [second, first])
    with pytest.raises(ConfigurationError, match=r'label "unheard of" of item 1 .* is none that the model knows'):
        items([first, second], [first, "unheard of"])


# ---- by the command line ----


def metrics_of(folder) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_the_config_trains_and_evaluates(allennlp, tmp_path):
    allennlp("train", CONFIG, "-s", tmp_path / "run", "--overrides", json.dumps(TINY), *INCLUDE)
    archive = tmp_path / "run" / "model.tar.gz"
    allennlp("evaluate", archive, TINY["validation_data_path"], "--output-file", tmp_path / "metrics.json", *INCLUDE)
    evaluated, trained = metrics_of(tmp_path), metrics_of(tmp_path / "run")
    for key in ("accuracy", "loss", "alignment_loss", "alignment_distance", "node_to_neighbors_entropy"):
        assert evaluated[key] == pytest.approx(trained[f"best_validation_{key}"], rel=1e-4), key
    assert trained["training_alignment_loss"] == pytest.approx(0.1 * trained["training_alignment_distance"], rel=1e-4)


def test_learns_the_sample_by_its_edges(allennlp, tmp_path):
    """All 20 epochs give more than 0.95; without the edges it stays at 0.25."""
    accuracy = {}
    for neighborhood, num_epochs in (("edges", 6), ("none", 2)):
        overrides = {"trainer.num_epochs": num_epochs, "model.graph_encoder.neighborhood": neighborhood}
        allennlp("train", CONFIG, "-s", tmp_path / neighborhood, "--overrides", json.dumps(overrides), *INCLUDE)
        accuracy[neighborhood] = metrics_of(tmp_path / neighborhood)["best_validation_accuracy"]
    assert accuracy["edges"] > 0.85 and accuracy["none"] < 0.3


def test_some_nodes_of_one_graph_are_trained_on_and_others_validated(allennlp, tmp_path):
    graph = sample_graphs("train")[0]
    counts = [node % 2 == 0 for node in range(len(graph["labels"]))]
    masked = {**graph, "train": counts, "validation": [not one for one in counts]}
    (tmp_path / "graph.jsonl").write_text(json.dumps(masked) + "\n")
    overrides = {
        "dataset_reader.label_mask": "train",
        "validation_dataset_reader": {"type": "graphs", "label_mask": "validation"},
        "train_data_path": str(tmp_path / "graph.jsonl"),
        "validation_data_path": str(tmp_path / "graph.jsonl"),
        "trainer.num_epochs": 60,
    }
    allennlp("train", CONFIG, "-s", tmp_path / "run", "--overrides", json.dumps(overrides), *INCLUDE)
    metrics = metrics_of(tmp_path / "run")
    # It knows by heart what it trained on, and that does not tell it the others.
    assert metrics["training_accuracy"] == 1 > metrics["validation_accuracy"]
    model = load_archive(tmp_path / "run").model
    reader = DatasetReader.from_params(Params({"type": "graphs", "label_mask": "train"}))
    assert evaluate(model, reader, str(tmp_path / "graph.jsonl"))["item_scores"] != [metrics["validation_accuracy"]]
