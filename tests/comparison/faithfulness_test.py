import math
import random
from statistics import fmean

import pytest
import torch
from allennlp.common.util import import_module_and_submodules
from allennlp.data import Instance, Token, Vocabulary
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer
from allennlp.models import Model
from allennlp.models.archival import load_archive
from allennlp.nn.util import get_text_field_mask
from allennlp.predictors import Predictor

from regattn_allennlp.comparison.faithfulness import faithfulness

WEIGHTS = {"key": 4.0, "clue": 2.0, "filler": 1.0, "trifle": 0.5}
VALUES = {"key": 3.0, "clue": 1.0, "filler": -0.5, "trifle": -0.25}


class SumOfValues(Model):
    """
    Two labels; the logit of the first is the sum of all words' values. What a word receives of the attention is in
    proportion to its weight.
    """

    def __init__(self, vocab: Vocabulary) -> None:
        super().__init__(vocab)
        for name, numbers in (("weights", WEIGHTS), ("values", VALUES)):
            table = torch.zeros(vocab.get_vocab_size("tokens"))
            for word, number in numbers.items():
                table[vocab.get_token_index(word)] = number
            self.register_parameter(name, torch.nn.Parameter(table))

    def forward(self, premise, hypothesis):
        ids = [sentence["tokens"]["tokens"] for sentence in (premise, hypothesis)]
        masks = [get_text_field_mask(sentence) for sentence in (premise, hypothesis)]
        premise_weights, hypothesis_weights = (
            self.weights[i] * mask / (self.weights[i] * mask).sum(-1, keepdim=True)
            for i, mask in zip(ids, masks, strict=True)
        )
        logit = sum((self.values[i] * mask).sum(-1) for i, mask in zip(ids, masks, strict=True))
        shape = premise_weights.shape[0], premise_weights.shape[1], hypothesis_weights.shape[1]
        return {
            "label_probs": torch.stack([logit, torch.zeros_like(logit)], -1).softmax(-1),
            "premise_to_hypothesis_attention": hypothesis_weights.unsqueeze(1).expand(shape),
            "hypothesis_to_premise_attention": premise_weights.unsqueeze(2).expand(shape).transpose(1, 2),
        }


def toy(*pairs: tuple[str, str]) -> tuple[SumOfValues, list[Instance]]:
    indexers = {"tokens": SingleIdTokenIndexer()}
    instances = [
        Instance({
            name: TextField([Token(word) for word in sentence.split()], indexers)
            for name, sentence in zip(("premise", "hypothesis"), pair, strict=True)
        })
        for pair in pairs
    ]  # fmt: skip
    return SumOfValues(Vocabulary({"tokens": dict.fromkeys(WEIGHTS, 1)})), instances


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_closed_form():
    model, instances = toy(("filler key trifle clue", "clue filler"), ("filler", "trifle filler trifle"))
    measured = faithfulness(model, instances, fractions=[0.25, 0.5])
    # The first: "key" and "clue" are the rationale, then "key clue" and "clue". Its whole logit is 3.75.
    # The second: label 1, the sum is -1.5; the premise is but one word; the rationale "filler", then "trifle filler",
    # for of the two equal words the earlier counts.
    comprehensiveness = [
        sigmoid(3.75) - sigmoid(-0.5 - 0.25 + 1 - 0.5),
        sigmoid(3.75) - sigmoid(-0.5 - 0.25 - 0.5),
        sigmoid(1.5) - sigmoid(0.5 + 0.25 + 0.25),
        sigmoid(1.5) - sigmoid(0.5 + 0.25),
    ]
    sufficiency = [
        sigmoid(3.75) - sigmoid(3 + 1),
        sigmoid(3.75) - sigmoid(3 + 1 + 1),
        sigmoid(1.5) - sigmoid(0.5 + 0.5),
        sigmoid(1.5) - sigmoid(0.5 + 0.25 + 0.5),
    ]
    assert measured["comprehensiveness"] == pytest.approx(fmean(comprehensiveness), abs=1e-6)
    assert measured["sufficiency"] == pytest.approx(fmean(sufficiency), abs=1e-6)


def test_of_equally_attended_words_the_earlier_is_the_rationale():
    model, instances = toy(("clue", "key filler"), ("clue", "filler key"))
    with torch.no_grad():
        model.weights.fill_(1)
    whole = sigmoid(1 + 3 - 0.5)
    measured = faithfulness(model, instances, fractions=[0.5])
    assert measured["sufficiency"] == pytest.approx(
        fmean([whole - sigmoid(1 + 3), whole - sigmoid(1 - 0.5)]), abs=1e-6
    )


def test_a_fractions_rounding_is_no_further_word():
    # 0.28 * 25 is 7.000000000000001: "filler" seven times is the rationale.
    model, instances = toy(("key", " ".join(["filler"] * 7 + ["trifle"] * 18)))
    expected = sigmoid(-(3 - 3.5 - 4.5)) - sigmoid(-(3 - 3.5))
    assert faithfulness(model, instances, fractions=[0.28])["sufficiency"] == pytest.approx(expected, abs=1e-6)


def test_a_sentence_never_gets_empty():
    model, instances = toy(("key", "clue"))
    assert set(faithfulness(model, instances).values()) == {0.0}
    # Without "key clue" the word that is attended to least stays.
    model, instances = toy(("key", "trifle key clue"))
    expected = sigmoid(3 - 0.25 + 3 + 1) - sigmoid(3 - 0.25)
    assert faithfulness(model, instances, fractions=[1.0])["comprehensiveness"] == pytest.approx(expected, abs=1e-6)


def test_random_words_depend_on_the_seed_and_not_on_the_attention():
    words = random.Random(0)
    sentences = [" ".join(words.choices(list(WEIGHTS), k=words.randint(1, 12))) for _ in range(60)]
    model, instances = toy(*zip(sentences[::2], sentences[1::2], strict=True))
    attentive = faithfulness(model, instances)
    again = faithfulness(model, instances, batch_size=7)
    with torch.no_grad():
        model.weights.copy_(1 / model.weights.clamp(min=0.1))
    opposite = faithfulness(model, instances)
    other_seed = faithfulness(model, instances, seed=1)
    assert again == pytest.approx(attentive, abs=1e-6)
    for name in ("comprehensiveness", "sufficiency"):
        assert opposite[f"random_{name}"] == pytest.approx(attentive[f"random_{name}"], abs=1e-6)
        assert other_seed[f"random_{name}"] != pytest.approx(attentive[f"random_{name}"], abs=1e-5)
        assert other_seed[name] == pytest.approx(opposite[name], abs=1e-6)
    # The words that get the weight have the value.
    assert attentive["comprehensiveness"] > attentive["random_comprehensiveness"] > opposite["comprehensiveness"]
    assert attentive["sufficiency"] < attentive["random_sufficiency"] < opposite["sufficiency"]


def test_the_random_words_of_each_item_are_others():
    pair = ("filler key trifle clue", "clue filler key")
    model, instances = toy(pair)
    once, often = faithfulness(model, instances), faithfulness(model, instances * 50)
    assert once["comprehensiveness"] == pytest.approx(often["comprehensiveness"], abs=1e-6)
    assert once["random_comprehensiveness"] != pytest.approx(often["random_comprehensiveness"], abs=1e-5)


@pytest.fixture(scope="module")
def loaded(archive):
    import_module_and_submodules("regattn_allennlp")
    return load_archive(archive)


@pytest.fixture(scope="module")
def instances(loaded) -> list[Instance]:
    return list(loaded.validation_dataset_reader.read("sample:validation[:40]"))


def test_a_trained_model_agrees_with_predictions_of_rewritten_sentences(loaded, instances):
    predictor = Predictor.from_archive(loaded, "entailment")
    fractions = [0.05, 0.3, 0.5]
    comprehensiveness, sufficiency = [], []
    for instance in instances:
        premise, hypothesis = ([token.text for token in instance[name]] for name in ("premise", "hypothesis"))
        whole = predictor.predict(" ".join(premise), " ".join(hypothesis))
        assert (whole["premise_tokens"], whole["hypothesis_tokens"]) == (premise, hypothesis)
        for fraction in fractions:
            kept, removed = [], []
            for words, weights in (
                (premise, whole["hypothesis_to_premise_attention"]),
                (hypothesis, whole["premise_to_hypothesis_attention"]),
            ):
                received = [round(sum(row[position] for row in weights), 5) for position in range(len(words))]
                rationale: set[int] = set()
                while len(rationale) < fraction * len(words):
                    rationale.add(max(set(range(len(words))) - rationale, key=lambda j: (received[j], -j)))
                kept.append(" ".join(word for j, word in enumerate(words) if j in rationale))
                removed.append(" ".join(word for j, word in enumerate(words) if j not in rationale))
            probability = whole["probabilities"][whole["label"]]
            comprehensiveness.append(probability - predictor.predict(*removed)["probabilities"][whole["label"]])
            sufficiency.append(probability - predictor.predict(*kept)["probabilities"][whole["label"]])
    measured = faithfulness(loaded.model, instances, fractions, batch_size=16)
    assert measured["comprehensiveness"] == pytest.approx(fmean(comprehensiveness), abs=1e-5)
    assert measured["sufficiency"] == pytest.approx(fmean(sufficiency), abs=1e-5)


def test_all_words_are_sufficient(loaded, instances):
    measured = faithfulness(loaded.model, instances, fractions=[1.0])
    assert measured["sufficiency"] == measured["random_sufficiency"] == 0.0
    assert measured["comprehensiveness"] != 0.0


def test_the_model_and_the_instances_are_left_as_they_were(loaded, instances):
    model = loaded.model
    model.get_metrics(reset=True)
    model.train()
    model.forward_on_instances(instances[:8])  # so that the metrics are of something
    model.train()
    metrics = model.get_metrics()
    fresh = list(loaded.validation_dataset_reader.read("sample:validation[:8]"))
    measured = faithfulness(model, fresh)
    assert model.training
    assert model.get_metrics() == metrics
    assert all(not instance.indexed for instance in fresh)
    # Dropout was off all the same.
    assert faithfulness(model.eval(), fresh) == pytest.approx(measured, abs=1e-6)


def test_instances_may_be_indexed_for_another_model():
    model, fresh = toy(("filler key trifle clue", "clue filler"))
    _, indexed = toy(("filler key trifle clue", "clue filler"))
    for instance in indexed:
        instance.index_fields(Vocabulary({"tokens": {"unrelated": 2, "words": 1}}))
    assert faithfulness(model, indexed) == faithfulness(model, fresh)
