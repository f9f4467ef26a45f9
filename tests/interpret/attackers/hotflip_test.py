"""AllenNLP's HotFlip, and what else of `allennlp.interpret` asks for gradients, with this package's predictor."""

import pytest
import torch
from allennlp.common.util import import_module_and_submodules
from allennlp.data import Batch
from allennlp.interpret.attackers import Hotflip, InputReduction
from allennlp.interpret.saliency_interpreters import SimpleGradient
from allennlp.predictors import Predictor

from tests.interpret.toy import toy

PAIR = {"premise": "A small dog sleeps in the garden .", "hypothesis": "Two women run ."}


@pytest.fixture(scope="module")
def predictor(archive) -> Predictor:
    import_module_and_submodules("regattn_allennlp")
    return Predictor.from_path(archive)


def test_of_sums_it_takes_the_strongest_word():
    # The gradient of each word is the same: the words are replaced from the first on, each by the lowest value.
    values = {"x": 1.0, "y": 2.0, "low": -1.0, "lowest": -1.25, "-": -9.0}
    predictor = toy({word: [value, 0.0] for word, value in values.items()})
    attacker = Hotflip(predictor)
    result = attacker.attack_from_json({"premise": "x", "hypothesis": "x . x y"}, "hypothesis", "grad_input_1")
    # 5, then 2.75, then 0.5, then -2.75.
    assert result["final"] == [["lowest", ".", "lowest", "lowest"]]
    assert result["original"] == ["x", ".", "x", "y"]
    assert result["outputs"][0]["label"] == "neutral"


def test_a_target_is_reached():
    vectors = {"x": [1.0, 0.0, 0.0], "second": [0.0, 3.0, 0.0], "third": [0.0, 0.0, 2.0]}
    attacker = Hotflip(toy(vectors, num_labels=3))
    pair = {"premise": "x", "hypothesis": "x x"}
    target = {"label_probs": [0, 0, 1]}
    result = attacker.attack_from_json(pair, "hypothesis", "grad_input_1", target=target)
    assert result["outputs"][0]["label"] == "contradiction"
    assert attacker.attack_from_json(pair, "hypothesis", "grad_input_1")["outputs"][0]["label"] == "neutral"


def test_the_first_gradient_is_the_hypothesis(predictor):
    """All words are different ones that the model knows, so the gradients of their embeddings are theirs."""
    known = [word for word in predictor._model.vocab.get_token_to_index_vocabulary("tokens") if word.isalpha()]
    pair = {"premise": " ".join(known[:5]), "hypothesis": " ".join(known[5:8])}
    (instance,) = predictor.json_to_labeled_instances(pair)
    gradients, _ = predictor.get_gradients([instance])
    model = predictor._model
    model.zero_grad()
    (embedding,) = [module for module in model.modules() if type(module).__name__ == "Embedding"]
    embedding.weight.requires_grad_(True)
    batch = Batch([instance])
    batch.index_instances(model.vocab)
    tensors = batch.as_tensor_dict()
    output = model(**tensors)
    label = torch.tensor([output["label_probs"].argmax()])
    torch.nn.functional.cross_entropy(output["label_logits"], label).backward()
    for name, key, length in (("hypothesis", "grad_input_1", 3), ("premise", "grad_input_2", 5)):
        ids = tensors[name]["tokens"]["tokens"][0]
        assert len(ids) == length
        torch.testing.assert_close(torch.tensor(gradients[key][0]), embedding.weight.grad[ids], atol=1e-6, rtol=1e-4)
    assert abs(gradients["grad_input_1"]).max() > 0


def test_a_trained_model_under_attack(predictor):
    attacker = Hotflip(predictor)
    attacker.initialize()
    changed = []
    for hypothesis in ("Two women run .", "A dog is awake .", "An animal sleeps in the garden ."):
        pair = {**PAIR, "hypothesis": hypothesis}
        result = attacker.attack_from_json(pair, "hypothesis", "grad_input_1")
        (final,) = result["final"]
        assert final[-1] == "." and result["original"] == hypothesis.split()
        again = predictor.predict(pair["premise"], " ".join(final))
        assert again["label"] == result["outputs"][0]["label"]
        changed.append(again["label"] != predictor.predict_json(pair)["label"])
    assert any(changed)


def test_input_reduction_and_saliency_work_too(predictor):
    label = predictor.predict_json(PAIR)["label"]
    reduced = InputReduction(predictor).attack_from_json(PAIR, "hypothesis", "grad_input_1")["final"][0]
    assert len(reduced) < 4 and predictor.predict(PAIR["premise"], " ".join(reduced))["label"] == label
    saliency = SimpleGradient(predictor).saliency_interpret_from_json(PAIR)["instance_1"]
    assert [len(saliency[key]) for key in ("grad_input_1", "grad_input_2")] == [4, 8]
