import itertools
import json
import random

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import import_module_and_submodules
from allennlp.interpret.attackers import Attacker
from allennlp.predictors import Predictor

from regattn_allennlp.interpret.attackers import SynonymSwap
from regattn_allennlp.interpret.attackers.synonyms import DEFAULT_SYNONYMS, read_synonyms
from tests.interpret.toy import toy

GROUPS = [["a1", "a2", "a3"], ["b1", "b2"], ["c1", "c2", "c3", "c4"], ["d1", "d2"]]
WITHOUT_SYNONYMS = ["x", "y", "."]
WORDS = [*itertools.chain(*GROUPS), *WITHOUT_SYNONYMS]


@pytest.fixture
def table(tmp_path) -> str:
    path = tmp_path / "synonyms.txt"
    path.write_text("\n".join(", ".join(group) for group in GROUPS))
    return str(path)


def random_case(seed: int, num_labels: int):
    """A model of random vectors and a pair of random sentences."""
    draw = random.Random(seed)
    predictor = toy({word: [draw.gauss(0, 1) for _ in range(num_labels)] for word in WORDS}, num_labels)
    hypothesis = draw.choices(WORDS, k=draw.randint(1, 6))
    return predictor, {"premise": draw.choice(WORDS), "hypothesis": " ".join(hypothesis)}


def label_of(predictor, pair, words) -> str:
    return predictor.predict(pair["premise"], " ".join(words))["label"]


def fewest_swaps(predictor, pair, max_swaps: int) -> int | None:
    """By trying everything: how many words must be replaced to change the label; `None` if so many do not do."""
    words = pair["hypothesis"].split()
    label = label_of(predictor, pair, words)
    choices = [next((group for group in GROUPS if word in group), [word]) for word in words]
    numbers = [
        sum(a != b for a, b in zip(words, others, strict=True))
        for others in itertools.product(*choices)
        if label_of(predictor, pair, others) != label
    ]
    return min((number for number in numbers if number <= max_swaps), default=None)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("num_labels, max_swaps", [(2, 1), (2, 2), (2, 3), (3, 1)])
def test_it_finds_the_fewest_swaps_where_the_search_cannot_miss(table, seed, num_labels, max_swaps):
    # Of two labels' sums over the words the most harmful swaps together are the most harmful set; and of any labels
    # a single swap that does is found.
    predictor, pair = random_case(seed, num_labels)
    fewest = fewest_swaps(predictor, pair, max_swaps)
    result = SynonymSwap(predictor, table, max_swaps).attack_from_json(pair)
    (final,) = result["final"]
    changed = sum(a != b for a, b in zip(result["original"], final, strict=True))
    assert (label_of(predictor, pair, final) != label_of(predictor, pair, result["original"])) == (fewest is not None)
    if fewest is not None:
        assert changed == fewest


def test_both_ends_occur_in_the_cases_above():
    found = [fewest_swaps(*random_case(seed, 2), max_swaps=3) for seed in range(25)]
    assert {None, 1, 2} <= set(found)


@pytest.mark.parametrize("seed", range(25))
def test_what_it_says_is_so(table, seed):
    predictor, pair = random_case(100 + seed, 3)
    result = SynonymSwap(predictor, table, 2).attack_from_json(pair, ignore_tokens=["a1"])
    assert result.keys() == {"final", "original", "outputs"}
    assert result["original"] == pair["hypothesis"].split()
    (final,), (outputs,) = result["final"], result["outputs"]
    assert outputs["label"] == label_of(predictor, pair, final)
    pairs = [(a, b) for a, b in zip(result["original"], final, strict=True) if a != b]
    assert len(pairs) <= 2
    for word, other in pairs:
        assert word != "a1" and any(word in group and other in group for group in GROUPS)
    # The right label is never more probable than before.
    before, after = (predictor.predict(pair["premise"], " ".join(words)) for words in (result["original"], final))
    index = before["label_probs"].index(max(before["label_probs"]))
    assert after["label_probs"][index] <= before["label_probs"][index]


def test_all_swaps_are_two_batches(table):
    predictor, _ = random_case(0, 2)
    pair = {"premise": "x", "hypothesis": "a1 c1 y b1"}
    batches = []
    model = predictor._model
    forward = model.forward
    model.forward = lambda **batch: batches.append(1) or forward(**batch)
    SynonymSwap(predictor, table).attack_from_json(pair)
    assert len(batches) <= 3  # the last is for "outputs"
    # Itself, two of "a", three of "c", one of "b"; three sets at the most; the one that is shown.
    assert 8 <= model.num_predicted <= 11


def test_the_search_goes_by_harm_and_stops_at_the_label(table):
    # The sum is 1.75; "b2" takes 1 of it, "c3" 0.8, "a2" 0.2, and "d2" would add something.
    values = {"x": 0.75, "a1": 0.25, "a2": 0.05, "b1": 0.5, "b2": -0.5, "c1": 0.25, "c2": 0.0, "c3": -0.55, "d2": 3.0}
    predictor = toy({word: [value, 0.0] for word, value in values.items()})
    pair = {"premise": "x", "hypothesis": "a1 b1 c1 d1 ."}
    finals = [SynonymSwap(predictor, table, n).attack_from_json(pair)["final"][0] for n in (1, 2, 3)]
    assert finals == [["a1", "b2", "c1", "d1", "."], *[["a1", "b2", "c3", "d1", "."]] * 2]
    assert label_of(predictor, pair, finals[0]) == "entailment"
    assert label_of(predictor, pair, finals[1]) == "neutral"


def test_the_case_is_kept(tmp_path):
    (tmp_path / "synonyms.txt").write_text("big, large\nsofa, couch\ni, me")
    predictor = toy({"big": [1.0, 0.0], "sofa": [1.0, 0.0], "i": [1.0, 0.0], "x": [-1.5, 0]})
    attacker = SynonymSwap(predictor, str(tmp_path / "synonyms.txt"))
    result = attacker.attack_from_json({"premise": "x", "hypothesis": "Big SOFA I"})
    assert result["final"] == [["Large", "COUCH", "I"]]


def test_nothing_happens_without_synonyms(table):
    predictor, _ = random_case(0, 2)
    result = SynonymSwap(predictor, table).attack_from_json({"premise": "a1", "hypothesis": "x y ."})
    assert result["final"] == [["x", "y", "."]] == [result["original"]]


def test_another_sentence_may_be_attacked(table):
    predictor = toy({"a1": [1.0, 0.0], "a2": [-1.0, 0.0], "x": [0.5, 0.0]})
    attacker = SynonymSwap(predictor, table)
    pair = {"premise": "a1", "hypothesis": "x"}
    assert attacker.attack_from_json(pair, "premise")["final"] == [["a2"]]
    with pytest.raises(ConfigurationError, match=r'"tokens" is no text of the input; its texts are .*premise'):
        attacker.attack_from_json(pair, "tokens")
    with pytest.raises(ConfigurationError, match="no target"):
        attacker.attack_from_json(pair, target={"label": "neutral"})


@pytest.mark.parametrize("changes", [{"max_swaps": 0}, {"max_swaps": True}, {"max_swaps": 1.5}, {"batch_size": 0}])
def test_wrong_numbers_are_named(table, changes):
    with pytest.raises(ConfigurationError, match=f"{next(iter(changes))} must be a whole number, 1 or more"):
        SynonymSwap(toy({}), **changes)


def test_the_models_output_must_have_probabilities(table):
    predictor, _ = random_case(0, 2)
    predictor._model.forward = lambda **batch: {"scores": None}
    with pytest.raises(ConfigurationError, match=r"\['label_probs', 'probs'\]; that of SumOfVectors has \['scores'\]"):
        SynonymSwap(predictor, table).attack_from_json({"premise": "x", "hypothesis": "a1"})


@pytest.fixture(scope="module")
def predictor(archive) -> Predictor:
    import_module_and_submodules("regattn_allennlp")
    return Predictor.from_path(archive)


def test_a_trained_model_under_attack(predictor):
    attacker = Attacker.from_params(Params({"type": "synonym-swap", "max_swaps": 4}), predictor=predictor)
    in_small_batches = SynonymSwap(predictor, max_swaps=4, batch_size=3)
    synonyms = read_synonyms(DEFAULT_SYNONYMS)
    num_changed = 0
    for instance in itertools.islice(predictor._dataset_reader.read("sample:validation"), 30):
        pair = {name: instance["metadata"][name] for name in ("premise", "hypothesis")}
        result = attacker.attack_from_json(pair)
        json.dumps(result)
        (final,), (outputs,) = result["final"], result["outputs"]
        assert in_small_batches.attack_from_json(pair)["final"] == [final]
        for word, other in zip(result["original"], final, strict=True):
            assert word == other or other.lower() in synonyms[word.lower()]
            num_changed += word != other
        assert outputs["hypothesis_tokens"] == final
        again = predictor.predict(pair["premise"], " ".join(final))
        assert again["hypothesis_tokens"] == final
        assert outputs["label_probs"] == pytest.approx(again["label_probs"], abs=1e-5)
    assert num_changed > 10
