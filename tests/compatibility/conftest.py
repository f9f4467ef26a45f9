import json
from pathlib import Path

import pytest

from regattn_allennlp.compatibility.mistakes import told

# The readers write to the cache.
from tests.data.conftest import caches_in_a_temporary_folder  # noqa: F401

pytest.register_assert_rewrite("tests.compatibility.killed")

INCLUDE = ("--include-package", "regattn_allennlp")

TEXTS = [("a good day", "good"), ("a bad day", "bad"), ("so good", "good"), ("so bad", "bad")]


def write_texts(path: Path, texts: list[tuple[str, str]]) -> Path:
    """As AllenNLP's reader "text_classification_json" has them."""
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in texts))
    return path


def classifier_config(folder: Path, **changes: object) -> Path:
    """Of a model of AllenNLP's own, with its own reader and its own predictor."""
    data = str(write_texts(folder / "texts.jsonl", TEXTS))
    config = {
        "dataset_reader": {"type": "text_classification_json", "tokenizer": "whitespace"},
        "train_data_path": data,
        "validation_data_path": data,
        "model": {
            "type": "basic_classifier",
            "text_field_embedder": {"token_embedders": {"tokens": {"type": "embedding", "embedding_dim": 4}}},
            "seq2vec_encoder": {"type": "bag_of_embeddings", "embedding_dim": 4},
        },
        "data_loader": {"batch_size": 2},
        "trainer": {"num_epochs": 1, "optimizer": "adam", "run_confidence_checks": False},
        **changes,
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture(scope="session")
def classifier(allennlp, tmp_path_factory) -> Path:
    """The archive of that model."""
    folder = tmp_path_factory.mktemp("classifier")
    allennlp("train", classifier_config(folder), "-s", folder / "model")
    return folder / "model" / "model.tar.gz"


@pytest.fixture
def line(allennlp):
    """Of a command with a mistake, in this process: the line that tells of it, `None` where a traceback is shown."""

    def line_of(*arguments: object) -> str | None:
        with pytest.raises(Exception) as raised:
            allennlp(*map(str, arguments))
        return told(raised.value)

    return line_of
