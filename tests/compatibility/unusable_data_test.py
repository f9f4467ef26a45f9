"""Training and evaluation on data that say nothing, or something that the model does not know."""

import json
import re
from pathlib import Path

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, Instance, Vocabulary
from allennlp.data.data_loaders.multiprocess_data_loader import WorkerError
from allennlp.data.fields import LabelField

from regattn_allennlp.data.sample_graphs import sample_graphs
from tests.compatibility.conftest import INCLUDE, TEXTS, classifier_config, write_texts
from tests.conftest import PROJECT_ROOT

LABEL = "\"unrelated\" is none that the model knows: ['contradiction', 'entailment', 'neutral']"


@pytest.mark.parametrize("data", ["train_data_path", "validation_data_path"])
def test_data_without_a_batch_are_refused(allennlp, tmp_path, data):
    empty = write_texts(tmp_path / "empty.jsonl", [])
    config = classifier_config(tmp_path, **{data: str(empty)})
    with pytest.raises(ConfigurationError, match=f"{empty} gives no batch: there is no instance. So there is nothing"):
        allennlp("train", config, "-s", tmp_path / "model")
    assert not (tmp_path / "model" / "model.tar.gz").exists()


@pytest.mark.parametrize("loader", [{}, {"max_instances_in_memory": 4}, {"num_workers": 1}], ids=str)
def test_an_evaluation_without_a_batch_is_refused(allennlp, classifier, tmp_path, loader):
    empty = write_texts(tmp_path / "empty.jsonl", [])
    overrides = json.dumps({f"data_loader.{key}": value for key, value in loader.items()})
    with pytest.raises(ConfigurationError, match=f"{empty} gives no batch"):
        allennlp("evaluate", classifier, empty, "-o", overrides, "--output-file", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_a_batch_that_is_dropped_is_none(allennlp, classifier, tmp_path):
    one = write_texts(tmp_path / "one.jsonl", TEXTS[:1])
    with pytest.raises(ConfigurationError, match=f'{one} gives no batch: .* fewer than a batch, and "drop_last"'):
        allennlp("evaluate", classifier, one, "-o", '{"data_loader.drop_last": true}')


@pytest.mark.parametrize(
    "loader",
    [
        {},
        {"max_instances_in_memory": 64},
        {"num_workers": 1},
        {"num_workers": 1, "max_instances_in_memory": 64},
        {"type": "cached"},
    ],
    ids=str,
)
def test_a_label_that_the_model_does_not_know_is_named(allennlp, archive, tmp_path, loader):
    labels = ["entailment", "neutral", "unrelated", "contradiction"]
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "".join(json.dumps({"premise": "A.", "hypothesis": "B.", "label": label}) + "\n\n" for label in labels)
    )
    overrides = {"dataset_reader.labels": labels, **{f"data_loader.{key}": value for key, value in loader.items()}}
    with pytest.raises((ConfigurationError, WorkerError)) as error:
        allennlp("evaluate", archive, f"{path}[:3]", "-o", json.dumps(overrides), *INCLUDE)
    # The blank lines count.
    assert str(error.value).strip().endswith(f"{path}[:3], line 5: the label {LABEL}")


def test_a_label_in_data_of_other_readers_is_named_too(allennlp, classifier, tmp_path):
    path = write_texts(tmp_path / "texts.jsonl", [*TEXTS, ("so so", "so so")])
    message = f"{path}: the label \"so so\" is none that the model knows: ['bad', 'good']"
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        allennlp("evaluate", classifier, path)


def test_the_error_is_still_that_of_a_key_that_is_not_there():
    vocabulary = Vocabulary.from_instances([Instance({"label": LabelField("a")})])
    batch = Batch([Instance({"label": LabelField("b")})])
    with pytest.raises(KeyError) as error:
        batch.index_instances(vocabulary)
    assert str(error.value) == "the label \"b\" is none that the model knows: ['a']"


def write_graphs(path: Path, graphs: list[dict]) -> str:
    path.write_text("".join(json.dumps(graph) + "\n" for graph in graphs))
    return str(path)


def test_data_without_answers_are_refused(allennlp, tmp_path):
    graphs = sample_graphs("train")[:8]
    labelled = write_graphs(tmp_path / "labelled.jsonl", graphs)
    hidden = write_graphs(tmp_path / "hidden.jsonl", [{**graph, "labels": None} for graph in graphs])
    unknown = write_graphs(tmp_path / "unknown.jsonl", [{**graphs[0], "labels": ["x"] * len(graphs[0]["nodes"])}])
    config = PROJECT_ROOT / "training_configs" / "alignment" / "graph.jsonnet"

    def train(name: str, train_data: str, validation_data: str) -> None:
        overrides = {
            "train_data_path": train_data,
            "validation_data_path": validation_data,
            "trainer.num_epochs": 1,
            # The vocabulary is not that of data without labels.
            "vocabulary": {"type": "from_instances", "tokens_to_add": {"node_labels": ["x0"]}},
        }
        allennlp("train", config, "-s", tmp_path / name, "-o", json.dumps(overrides), *INCLUDE)

    message = f"{hidden}: no item says what is right for it"
    for name, data in (("no_training", (hidden, labelled)), ("no_validation", (labelled, hidden))):
        with pytest.raises(ConfigurationError, match=message):
            train(name, *data)
        assert not (tmp_path / name / "model.tar.gz").exists()
    train("model", labelled, labelled)
    with pytest.raises(ConfigurationError, match=message):
        allennlp("evaluate", tmp_path / "model" / "model.tar.gz", hidden, *INCLUDE)
    with pytest.raises(ConfigurationError, match=re.escape(f'{unknown}, line 1: the label "x" is none that')):
        allennlp("evaluate", tmp_path / "model" / "model.tar.gz", unknown, *INCLUDE)
