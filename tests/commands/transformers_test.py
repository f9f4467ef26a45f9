"""A pretrained transformer on the command line, fine-tuned with its queries and keys regularized."""

import json
import re

import numpy as np
import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive

from regattn_allennlp.data.sample_corpus import generate_pairs
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


def test_a_transformer_is_fine_tuned_evaluated_and_predicts(allennlp, tmp_path, monkeypatch):
    pairs = generate_pairs(100, 0, [])
    sentences = [sentence for pair in pairs for sentence in (pair.premise, pair.hypothesis)]
    folder = write_transformer(tmp_path / "albert", "albert", sentences, max_position_embeddings=128)
    monkeypatch.setenv("TRANSFORMER", str(folder))
    monkeypatch.setenv("TRANSFORMER_DIM", "16")
    run = tmp_path / "run"
    allennlp("train", CONFIG, "-s", run, "--overrides", json.dumps(SMALL), *INCLUDE)
    logged = json.loads((run / "metrics.json").read_text())
    (regularizer,) = load_archive(run).model._text_field_embedder._alignment_regularizers
    assert isinstance(regularizer, ConditionalTransportRegularizer) and regularizer.num_heads == 2
    assert 0 < logged["training_alignment_loss"] == pytest.approx(0.01 * logged["training_alignment_distance"])
    assert logged["validation_alignment_distance"] > 0

    # What is measured again is what was measured: the archive has all weights, and its layers are observed.
    arguments = ("evaluate", run / "model.tar.gz", SMALL["validation_data_path"], "--output-file")
    allennlp(*arguments, tmp_path / "out.json", *INCLUDE)
    evaluated = json.loads((tmp_path / "out.json").read_text())
    for key in "loss", "alignment_distance":
        assert evaluated[key] == pytest.approx(logged[f"best_validation_{key}"], rel=1e-3)

    pair = {"premise": "A small dog sleeps", "hypothesis": "An animal is asleep"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    arguments = ("predict", run / "model.tar.gz", tmp_path / "pairs.jsonl", "--silent", "--output-file")
    allennlp(*arguments, tmp_path / "predictions.jsonl", *INCLUDE)
    prediction = json.loads((tmp_path / "predictions.jsonl").read_text())
    pieces = prediction["premise_tokens"]
    assert (pieces[0], pieces[-1]) == ("[CLS]", "[SEP]")
    assert "".join(pieces[1:-1]).replace("\u2581", " ").strip() == "a small dog sleeps"
    assert len(prediction["premise_to_hypothesis_attention"]) == len(pieces)
    picture = tmp_path / "attention.svg"
    sentences = ("--premise", pair["premise"], "--hypothesis", pair["hypothesis"])
    allennlp("show-attention", run, *sentences, "--out", picture)
    assert all(f">{piece}<" in picture.read_text() for piece in pieces)

    # Its self-attention: two heads, each with its weights over all word pieces.
    arguments = ("predict", run / "model.tar.gz", tmp_path / "pairs.jsonl", "--silent", "--output-file")
    allennlp(*arguments, tmp_path / "with.jsonl", "--predictor-args", '{"self_attention": true}', *INCLUDE)
    with_layers = json.loads((tmp_path / "with.jsonl").read_text())
    layers = with_layers.pop("self_attention")["premise_to_premise"]
    assert with_layers == prediction and [layer["tokens"] for layer in layers] == [pieces] * len(layers)
    page = tmp_path / "attention.html"
    wanted = ("--direction", "premise_to_premise", "--layer", "1", "--head", "all")
    allennlp("show-attention", run, *sentences, "--out", page, *wanted)
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    shown = json.loads(data)
    assert shown["archives"] == ["run, layer 1, head 0", "run, layer 1, head 1"]
    for head, one in enumerate(shown["examples"][0]["predictions"]):
        assert one["maps"][0]["rows"] == one["maps"][0]["columns"] == pieces
        np.testing.assert_allclose(one["maps"][0]["weights"], layers[1]["weights"][head], rtol=1e-3)
        np.testing.assert_allclose(np.sum(layers[1]["weights"][head], axis=1), 1, atol=1e-5)
    allennlp("show-attention", run, *sentences, "--out", picture, *wanted[:2])  # the mean of the last layer
    assert f">run, layer {len(layers) - 1}, mean of heads<" in picture.read_text()
    for more, message in {
        ("--layer", "12"): r'--layer is 12, but the layers of "run" premise_to_premise are 0 \(_text_.*\.0\), 1 \(',
        ("--head", "2"): '--head is 2, but the heads of "run" in layer [0-9]+ are 0 to 1',
    }.items():
        with pytest.raises(ConfigurationError, match=message):
            allennlp("show-attention", run, *sentences, "--out", picture, *more)


def test_the_transformer_is_trained_gently_and_all_else_is_not(monkeypatch):
    monkeypatch.setenv("TRANSFORMER", "some-transformer")
    config = Params.from_file(CONFIG).as_dict()
    (((pattern,), fields),) = config["trainer"]["optimizer"]["parameter_groups"]
    assert pattern == "transformer_model" and fields["lr"] < config["trainer"]["optimizer"]["lr"]
    names = re.findall(r'"model_name": "([^"]*)"', json.dumps(config))
    assert names == ["some-transformer"] * 3


def test_a_dimension_that_is_not_the_transformers_is_named(allennlp, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFORMER", str(write_transformer(tmp_path / "bert", "bert")))
    with pytest.raises(ConfigurationError, match=r"words have dimension 16.* takes 768"):
        allennlp("train", CONFIG, "-s", tmp_path / "run", "--overrides", json.dumps(SMALL), *INCLUDE)
