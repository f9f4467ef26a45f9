import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import import_module_and_submodules
from allennlp.data.fields import MetadataField
from allennlp.interpret.attackers import Attacker
from allennlp.models.archival import load_archive

from regattn_allennlp.comparison.evaluation import evaluate
from regattn_allennlp.comparison.robustness import check_attack, robustness
from regattn_allennlp.predictors.entailment import EntailmentPredictor
from tests.interpret.toy import toy

# Of two labels; the first is "entailment". "x" and "y" have no synonyms, "low" is in no table.
VALUES = {"x": 0.5, "y": -0.5, "a1": 1.0, "a2": 0.0, "b1": 1.0, "b2": -0.25, "c1": 1.0, "c2": 0.5, "low": -2.0}
PAIRS = [
    ("y", "a1", "entailment"),  # 0.5, with "a2" -0.5
    ("y", "a1 b1 .", "entailment"),  # 1.5: needs both
    ("x", "a1 b1 c1", "entailment"),  # 3.5: the synonyms leave 0.75
    ("y", "a1 b1 c1", "neutral"),  # wrong without an attack
    ("y", "y", "neutral"),  # right, and without synonyms
]


@Attacker.register("boaster")
class Boaster(Attacker):
    """Changes nothing, and says that the label changed."""

    def attack_from_json(self, inputs, input_field_to_attack, grad_input_field, ignore_tokens, target=None):
        words = inputs[input_field_to_attack].split()
        return {"final": [words], "original": words, "outputs": [{"label": "contradiction"}]}


@Attacker.register("replacer")
class Replacer(Attacker):
    """Puts a word in the place of each, and is told how many it may."""

    def __init__(self, predictor, word: str, max_swaps: int = 100) -> None:
        super().__init__(predictor)
        self.word, self.max_swaps = word, max_swaps

    def attack_from_json(self, inputs, input_field_to_attack, grad_input_field, ignore_tokens, target=None):
        words = inputs[input_field_to_attack].split()
        kept = [word for word in words[self.max_swaps :]]
        return {"final": [[*[self.word] * len(words[: self.max_swaps]), *kept]]}


@Attacker.register("unlimited")
class Unlimited(Replacer):
    """The same, and is not told."""

    def __init__(self, predictor, word: str) -> None:
        super().__init__(predictor, word)


@pytest.fixture
def predictor(tmp_path) -> EntailmentPredictor:
    return toy({word: [value, 0.0] for word, value in VALUES.items()})


@pytest.fixture
def table(tmp_path) -> str:
    (tmp_path / "synonyms.txt").write_text("a1, a2\nb1, b2\nc1, c2\n")
    return str(tmp_path / "synonyms.txt")


def instances_of(predictor, pairs=PAIRS):
    instances = [predictor._dataset_reader.text_to_instance(*pair) for pair in pairs]
    for instance in instances:
        predictor._dataset_reader.apply_token_indexers(instance)
    return instances


def attack(predictor, *attacks, pairs=PAIRS, **arguments) -> dict[str, float]:
    instances = instances_of(predictor, pairs)
    return robustness(predictor._model, predictor._dataset_reader, instances, attacks, **arguments)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_by_hand(predictor, table, batch_size):
    block = {"type": "synonym-swap", "synonyms": table}
    assert attack(predictor, block, batch_size=batch_size) == pytest.approx(
        {"synonym_swap_success": 2 / 4, "synonym_swap_accuracy": 2 / 5, "synonym_swap_changed_words": 1.5}
    )
    assert attack(predictor, {**block, "max_swaps": 1}, batch_size=batch_size) == pytest.approx(
        {"synonym_swap_success": 1 / 4, "synonym_swap_accuracy": 3 / 5, "synonym_swap_changed_words": 1.0}
    )


def test_hotflip_counts_up_to_the_limit(predictor):
    # "low" makes any of the first two negative at once; the third takes two; the last needs "a1" or the like.
    assert attack(predictor, {"type": "hotflip"}) == pytest.approx(
        {"hotflip_success": 1.0, "hotflip_accuracy": 0.0, "hotflip_changed_words": (1 + 1 + 2 + 1) / 4}
    )
    assert attack(predictor, {"type": "hotflip", "max_swaps": 1}) == pytest.approx(
        {"hotflip_success": 3 / 4, "hotflip_accuracy": 1 / 5, "hotflip_changed_words": 1.0}
    )


def test_what_an_attack_says_of_itself_does_not_count(predictor):
    assert attack(predictor, {"type": "boaster"}) == {"boaster_success": 0.0, "boaster_accuracy": 4 / 5}


def test_an_attack_is_told_its_limit_if_it_can_be(predictor):
    measured = attack(predictor, {"type": "replacer", "word": "low"}, {"type": "unlimited", "word": "low"})
    # The full stop of the second counts as well; by three words it, the first and the third change.
    assert measured["replacer_success"] == measured["unlimited_success"] == 3 / 4
    assert measured["replacer_changed_words"] == pytest.approx((1 + 3 + 3) / 3)
    of_one, of_two = (
        attack(predictor, {"type": "replacer", "word": "low", "max_swaps": 1}),
        attack(predictor, {"type": "unlimited", "word": "low", "max_swaps": 1}),
    )
    # "low b1 ." is enough for the first two; who replaces all has replaced too many in the second.
    assert of_one["replacer_success"] == 2 / 4 and of_one["replacer_changed_words"] == 1
    assert of_two["unlimited_success"] == 1 / 4 and of_two["unlimited_changed_words"] == 1


def test_punctuation_stays(predictor):
    words = {**VALUES, "``": 3.0, "-": 1.0}
    predictor = toy({word: [value, 0.0] for word, value in words.items()})
    pairs = [("y", "`` - .", "entailment")]
    assert attack(predictor, {"type": "hotflip"}, pairs=pairs) == {"hotflip_success": 0.0, "hotflip_accuracy": 1.0}
    assert attack(predictor, {"type": "hotflip"}, pairs=[("y", "`` x .", "entailment")])["hotflip_success"] == 0.0
    assert attack(predictor, {"type": "hotflip"}, pairs=[("x", "- x .", "entailment")])["hotflip_success"] == 1.0


def test_none_right_is_no_success_and_no_failure(predictor, table):
    pairs = [("y", "a1 b1 c1", "neutral")]
    assert attack(predictor, {"type": "hotflip"}, pairs=pairs) == {"hotflip_accuracy": 0.0}


def test_texts_that_the_reader_did_not_keep_are_missed(predictor):
    instances = instances_of(predictor)
    instances[1].fields["metadata"] = MetadataField({"id": 7})
    with pytest.raises(ConfigurationError, match='keeps them in the metadata as "premise" and "hypothesis"'):
        robustness(predictor._model, predictor._dataset_reader, instances, [{"type": "boaster"}])


@pytest.mark.parametrize(
    "block, message",
    [
        ({"type": "hotflap"}, 'no attack "hotflap"; there are .*hotflip.*synonym-swap'),
        ({"type": "input-reduction"}, "input-reduction removes words so that the label stays"),
        (
            {"type": "synonym-swap", "swaps": 1},
            "synonym-swap does not take swaps; it takes batch_size, max_swaps, syn",
        ),
        ({"type": "hotflip", "max_swaps": 0}, "hotflip: max_swaps must be a whole number, 1 or more, but is 0"),
        ({"type": "synonym-swap", "synonyms": "nothing.txt"}, 'synonyms "nothing.txt" cannot be read'),
    ],
)
def test_an_attack_that_cannot_be_made_is_named(block, message):
    with pytest.raises(ConfigurationError, match=message):
        check_attack(block)


@pytest.mark.parametrize("block", [{"type": "hotflip", "max_swaps": 1}, {"type": "hotflip", "max_tokens": 9}])
def test_an_attack_that_can_be_made_passes(block):
    check_attack(block)


def test_a_trained_model_is_left_as_it_was(archive):
    import_module_and_submodules("regattn_allennlp")
    loaded = load_archive(archive)
    model, reader = loaded.model, loaded.validation_dataset_reader
    attacks = [{"type": "synonym-swap"}, {"type": "hotflip"}]
    path = "sample:validation[:40]"
    plain = evaluate(model, reader, path)
    attacked = evaluate(model, reader, path, attacks=attacks, num_attacked_items=25, out_of_domain=path)
    again = evaluate(model, reader, path)
    assert again == plain
    assert all(parameter.grad is None for parameter in model.parameters())
    metrics = attacked["metrics"]
    assert plain["metrics"].items() <= metrics.items()
    # The same data, so the same numbers; of those that the attention is described by, none.
    further = metrics.keys() - plain["metrics"].keys()
    out_of_domain = {name for name in further if name.startswith("out_of_domain_")}
    probabilities = ("loss", "negative_log_likelihood", "expected_calibration_error", "pavpu")
    assert out_of_domain == {f"out_of_domain_{name}" for name in ("accuracy", *probabilities)}
    assert all(metrics[name] == metrics[name.removeprefix("out_of_domain_")] for name in out_of_domain)
    assert metrics["negative_log_likelihood"] == pytest.approx(metrics["loss"], abs=1e-5)
    right = sum(attacked["item_scores"][:25])
    for name in ("synonym_swap", "hotflip"):
        assert metrics[f"{name}_accuracy"] == pytest.approx(right * (1 - metrics[f"{name}_success"]) / 25)
    assert metrics["hotflip_success"] > 0 and 1 <= metrics["hotflip_changed_words"] <= 3
