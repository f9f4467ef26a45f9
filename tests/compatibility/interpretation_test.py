"""AllenNLP's attackers and saliency interpreters, with their default arguments, and this package's predictors."""

import json
import math
from pathlib import Path

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import import_module_and_submodules
from allennlp.interpret.attackers import Hotflip, InputReduction
from allennlp.interpret.saliency_interpreters import IntegratedGradient, SimpleGradient, SmoothGradient
from allennlp.predictors import Predictor

from regattn_allennlp.data.sample_graphs import sample_graphs
from tests.compatibility.conftest import INCLUDE
from tests.conftest import PROJECT_ROOT, SMALL
from tests.interpret.toy import toy
from tests.tiny_transformers import write_transformer

PAIR = {"premise": "A small dog sleeps in the garden .", "hypothesis": "Two women run ."}
GRAPH = sample_graphs("validation")[2]
# By task: a config, an input, how long its texts are in the order of the gradients, and of what is reduced the words.
TASKS = {
    "entailment": ("sample/fusedmax", PAIR, [4, 8], PAIR["hypothesis"].split()),
    "sequence_pairs": ("g2p/softmax", {"source": "c i n q u e"}, [6], [*"cinque"]),
    "vqa": (
        "vqa/exact",
        {"question": "is there a star ?", "image_id": "validation-2"},
        [5],
        ["is", "there", "a", "star", "?"],
    ),
    "graphs": ("alignment/graph", {"nodes": GRAPH["nodes"], "edges": GRAPH["edges"]}, [len(GRAPH["nodes"])], None),
}


def train(allennlp, folder: Path, config: str, **overrides: object) -> Predictor:
    path = PROJECT_ROOT / "training_configs" / f"{config}.jsonnet"
    small = {**SMALL, "train_data_path": "sample:train[:64]", "validation_data_path": "sample:validation[:8]"}
    allennlp("train", path, "-s", folder, "--overrides", json.dumps({**small, **overrides}), *INCLUDE)
    import_module_and_submodules("regattn_allennlp")
    return Predictor.from_path(folder)


@pytest.fixture(scope="module", params=TASKS)
def task(request, allennlp, tmp_path_factory):
    config, *others = TASKS[request.param]
    return train(allennlp, tmp_path_factory.mktemp("interpretation") / request.param, config), *others


def answer(predictor: Predictor, inputs: dict) -> str:
    return predictor.answer(predictor.predict_json(inputs)).text


@pytest.mark.parametrize("interpreter", [SimpleGradient, IntegratedGradient, SmoothGradient])
def test_saliency_is_of_each_word_or_node(task, interpreter):
    predictor, inputs, lengths, _ = task
    saliency = interpreter(predictor).saliency_interpret_from_json(inputs)["instance_1"]
    assert [len(saliency[f"grad_input_{number}"]) for number in range(1, len(saliency) + 1)] == lengths
    for values in saliency.values():
        assert min(values) >= 0 and sum(values) == pytest.approx(1, abs=1e-5) and len(set(values)) > 1


def test_attackers_find_the_text_themselves(task):
    predictor, inputs, _, words = task
    attacker = InputReduction(predictor)
    if words is None:
        with pytest.raises(ConfigurationError, match="GraphsPredictor has no text"):
            attacker.attack_from_json(inputs)
        return
    result = attacker.attack_from_json(inputs)
    assert result["original"] == words
    (reduced,) = result["final"]
    assert 0 < len(reduced) < len(words)
    kept = iter(words)
    assert all(word in kept for word in reduced), "they are no longer in their order"
    key = next(key for key in inputs if key in ("hypothesis", "source", "question"))
    assert answer(predictor, {**inputs, key: " ".join(reduced)}) == answer(predictor, inputs)


def test_an_attacker_may_be_told_another_text():
    predictor = toy({"x": [1.0, 0.0], "y": [0.5, 0.0], "low": [-9.0, 0.0]})
    pair = {"premise": "x y", "hypothesis": "y y x"}
    assert InputReduction(predictor).attack_from_json(pair)["original"] == ["y", "y", "x"]
    assert InputReduction(predictor).attack_from_json(pair, "premise", "grad_input_2")["original"] == ["x", "y"]
    attacker = Hotflip(predictor)
    assert attacker.attack_from_json(pair)["original"] == ["y", "y", "x"]
    assert attacker.attack_from_json(pair, "premise", "grad_input_2")["original"] == ["x", "y"]


def test_simple_gradient_is_of_each_word():
    # The gradient of each word is the same: how much each says is its own embedding.
    values = {"x": 1.0, "y": 3.0, "z": -2.0}
    predictor = toy({word: [value, 0.0] for word, value in values.items()})
    pair = {"premise": "x", "hypothesis": "x y z"}
    saliency = SimpleGradient(predictor).saliency_interpret_from_json(pair)["instance_1"]
    assert saliency["grad_input_1"] == pytest.approx([1 / 6, 3 / 6, 2 / 6])
    assert saliency["grad_input_2"] == pytest.approx([1])


def test_words_in_pieces_have_their_own_gradients(allennlp, tmp_path):
    """Both texts' words are in pieces, which the transformer embeds."""
    model = str(write_transformer(tmp_path / "bert", "bert", max_position_embeddings=128))
    kind = {"type": "pretrained_transformer_mismatched", "model_name": model}
    predictor = train(
        allennlp,
        tmp_path / "model",
        "sample/fusedmax",
        **{
            "dataset_reader.token_indexers.tokens": kind,
            "model.text_field_embedder.token_embedders.tokens": kind,
            "model.attend_feedforward.input_dim": 16,
            "model.compare_feedforward.input_dim": 32,
            "model.initializer": None,
        },
    )
    for interpreter in SimpleGradient, IntegratedGradient, SmoothGradient:
        saliency = interpreter(predictor).saliency_interpret_from_json(PAIR)["instance_1"]
        assert [len(saliency[key]) for key in ("grad_input_1", "grad_input_2")] == [4, 8]
        assert all(math.isfinite(value) for values in saliency.values() for value in values)
