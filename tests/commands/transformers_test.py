"""A pretrained transformer on the command line, fine-tuned with its queries and keys regularized."""

import json

import pytest
from allennlp.models.archival import load_archive

from regattn_allennlp.data.sample_corpus import sample_pairs
from regattn_allennlp.modules.alignment_regularizer import ConditionalTransportRegularizer
from tests.conftest import PROJECT_ROOT
from tests.tiny_transformers import write_transformer

INCLUDE = ("--include-package", "regattn_allennlp")
CONFIG = PROJECT_ROOT / "training_configs" / "alignment" / "entailment_albert.jsonnet"
SMALL = {
    "train_data_path": "sample:train[:64]",
    "validation_data_path": "sample:validation[:32]",
    "trainer.num_epochs": 2,
}


@pytest.fixture
def sentences() -> list[str]:
    return [pair["premise"] for _, pair in zip(range(200), sample_pairs("train"), strict=False)]


def test_a_transformer_is_fine_tuned_evaluated_and_predicts(allennlp, sentences, tmp_path, monkeypatch):
    folder = write_transformer(tmp_path / "albert", "albert", sentences)
    monkeypatch.setenv("TRANSFORMER", str(folder))
    monkeypatch.setenv("TRANSFORMER_DIM", "16")
    run = tmp_path / "run"
    allennlp("train", CONFIG, "-s", run, "--overrides", json.dumps(SMALL), *INCLUDE)
