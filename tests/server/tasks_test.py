"""What each task makes of requests, with small models in this process."""

import json
import math

import numpy as np
import pytest

from regattn_allennlp.predictors.archives import load_predictors
from regattn_allennlp.server import LoadedModels
from regattn_allennlp.server.tasks import RequestError
from tests.conftest import PROJECT_ROOT

SMALL = {
    "train_data_path": "sample:train[:64]",
    "validation_data_path": "sample:validation[:8]",
    "trainer.num_epochs": 1,
}
PAIR = {"premise": "A small dog is asleep .", "hypothesis": "An animal sleeps outside ."}


@pytest.fixture(scope="module")
def load(allennlp, tmp_path_factory):
    """Trains by a config, and loads for the server."""

    def train_and_load(config: str, **overrides) -> LoadedModels:
        folder = tmp_path_factory.mktemp("served") / "model"
        allennlp(
            "train", PROJECT_ROOT / "training_configs" / config, "-s", folder,
            "--overrides", json.dumps({**SMALL, **overrides}), "--include-package", "regattn_allennlp",
        )  # fmt: skip
        return LoadedModels(load_predictors([str(folder)]))

    return train_and_load


@pytest.fixture(scope="module")
def sequences(load):
    overrides = {"model.beam_search.beam_size": 4, "model.beam_search.max_steps": 8}
    return load("g2p/variational_enumeration.jsonnet", **overrides)


@pytest.fixture(scope="module")
def questions(load):
    return load("vqa/exact.jsonnet")


@pytest.fixture(scope="module")
def entailment(archive):
    return LoadedModels(load_predictors([str(archive)]))


def ask(models, **request):
    request = models.task.request(**request)
    models.check(request)
    (answer,) = models.predict(request).archives
    return answer


def predictor_of(models):
    return next(iter(models._predictors.values()))


def blank(matrix, rows=(), columns=()):
    """With rows and columns of zeros before these positions."""
    matrix = np.array(matrix)
    for row in rows:
        matrix = np.insert(matrix, row, 0, axis=0)
    for column in columns:
        matrix = np.insert(matrix, column, 0, axis=1)
    return matrix.tolist()


def test_a_pair_without_a_word_is_the_pair_in_which_it_was_not_typed(entailment):
    whole = ask(entailment, **PAIR)
    less = ask(entailment, **PAIR, without={"premise": [2, 4], "hypothesis": [0]}, influence=True)
    typed = ask(entailment, premise="A small is .", hypothesis="animal sleeps outside .", influence=True)
    assert less.probabilities == typed.probabilities != whole.probabilities
    for view, rows, columns in (
        ("premise_to_hypothesis", [2, 4], [0]),
        ("hypothesis_to_premise", [0], [2, 4]),
    ):
        told, of_typed = getattr(less, view), getattr(typed, view)
        assert told.weights == blank(of_typed.weights, rows, columns)
        assert told.rows == getattr(whole, view).rows and told.columns == getattr(whole, view).columns
    assert less.influence["premise"] == np.insert(typed.influence["premise"], [2, 3], 0).tolist()
    assert ask(entailment, **PAIR) == whole


def test_groups_go_round_a_word_that_was_taken_out(entailment):
    # With a large lam all words share one weight, whatever they are.
    values = {name: {"lam": 1e6} for name in entailment._predictors}
    told = ask(entailment, **PAIR, without={"premise": [0, 3]}, regularization=values).hypothesis_to_premise
    assert told.groups == [[[(1, 3), (4, 6)]]] * len(told.rows)


def test_texts_are_those_that_the_predictor_writes_with_their_likelihoods(sequences):
    answer = ask(sequences, source="c a n i")
    predicted = predictor_of(sequences).predict_json({"source": "c a n i"})["predictions"]
    assert [reading.text for reading in answer.texts] == [one["text"] for one in predicted]
    assert len(answer.texts) == 4
    for reading, one in zip(answer.texts, predicted, strict=True):
        assert reading.log_prob == pytest.approx(one["log_prob"], rel=1e-4)
        assert len(reading.token_log_probs) == len(reading.tokens) + 1  # with the end
        assert math.fsum(reading.token_log_probs) == pytest.approx(reading.log_prob)
        np.testing.assert_allclose(reading.target_to_source.weights, one["attention"], atol=1e-5)
        assert not reading.is_given


def test_a_target_has_the_likelihood_of_evaluation_and_a_posterior(sequences):
    source, target = "c a n i", "k a"
    given = ask(sequences, source=source, target=target, influence=True).texts[0]
    predictor = predictor_of(sequences)
    instance = predictor._dataset_reader.text_to_instance(source, target)
    predictor._dataset_reader.apply_token_indexers(instance)
    loss = predictor._model.forward_on_instance(instance)["loss"]  # the mean of three tokens, with the end
    assert given.is_given and given.text == target
    assert given.log_prob == pytest.approx(-3 * loss, rel=1e-4)
    posterior = np.array(given.target_to_source_posterior.weights)
    assert posterior.shape == (2, 4)
    np.testing.assert_allclose(posterior.sum(1), 1, atol=1e-5)
    assert posterior.tolist() != given.target_to_source.weights
    read = predictor.predict_json({"source": source, "target": target})["given_target"]
    for weights, name in (
        (given.target_to_source_posterior.weights, "posterior"),
        (given.target_to_source_approximate_posterior.weights, "approximate_posterior"),
    ):
        np.testing.assert_allclose(weights, read[name], atol=1e-5)
    assert [view.title for view in sequences.task.views] == ["prior", "posterior", "approximate posterior"]
    assert [view.name.removeprefix("target_to_source") for view in sequences.task.views] == [
        "", "_posterior", "_approximate_posterior",
    ]  # fmt: skip


def test_a_source_without_a_token_is_the_source_in_which_it_was_not_typed(sequences):
    less, typed = ask(sequences, source="c a n i", without={"source": [1]}), ask(sequences, source="c n i")
    assert [reading.text for reading in less.texts] == [reading.text for reading in typed.texts]
    for reading, other in zip(less.texts, typed.texts, strict=True):
        assert reading.log_prob == other.log_prob
        assert reading.target_to_source.columns == ["c", "a", "n", "i"]
        assert reading.target_to_source.weights == blank(other.target_to_source.weights, columns=[1])


def test_an_image_without_a_region_is_the_image_that_never_had_it(questions):
    question, image_id = "what color is the leftmost thing?", "validation-3"
    predictor = predictor_of(questions)
    regions = predictor._dataset_reader.regions_of(image_id)
    kept = [number for number in range(len(regions.names)) if number != 1]
    shown = ask(questions, question=question, image_id=image_id, without={"regions": [1]}, influence=True)
    predicted = predictor.predict_json(
        {"question": question, "regions": regions.features[kept].tolist(), "boxes": regions.boxes[kept].tolist()}
    )
    assert shown.probabilities == pytest.approx(predicted["probabilities"], rel=1e-5)
    expected = blank(predicted["question_to_regions_attention"], columns=[1])
    np.testing.assert_allclose(shown.question_to_regions.weights, expected, atol=1e-6)
    assert shown.words["regions"] == regions.names and shown.question_to_regions.boxes == regions.boxes.tolist()
    assert shown.influence["regions"][1] == 0 != shown.influence["regions"][0]


def test_an_answer_has_its_probability_and_what_it_makes_of_the_prior(questions):
    request = {"question": "what color is the leftmost thing?", "image_id": "validation-3"}
    plain, given = ask(questions, **request), ask(questions, **request, answer="A Star")
    assert plain.question_to_regions_posterior is None and plain.question_to_regions == given.question_to_regions
    assert given.probabilities["star"] > 0
    assert sum(given.question_to_regions_posterior.weights[0]) == pytest.approx(1)
    read = predictor_of(questions).predict_json({**request, "answer": "star"})["given_answer"]
    assert given.question_to_regions_posterior.weights == read["posterior"]
    assert given.probabilities["star"] == pytest.approx(math.exp(read["log_prob"]))
    assert given.question_to_regions_approximate_posterior is None  # exact has no inference network
    assert [view.title for view in questions.task.views] == ["prior", "posterior"]
    with pytest.raises(RequestError, match='does not know the answer "zebra"') as raised:
        ask(questions, **request, answer="zebra")
    assert raised.value.field == "answer"
    with pytest.raises(RequestError, match='no scene "validation-900"; it has "train-0"') as raised:
        ask(questions, **{**request, "image_id": "validation-900"})
    assert raised.value.field == "image_id"


def test_gamma_moves_the_likelihood_of_a_dirichlet_alignment_with_its_map(load):
    models = load("g2p/dirichlet.jsonnet")
    request = {"source": "c a n i", "target": "k a"}
    values = {name: {"gamma": 0.01} for name in models._predictors}
    trained, moved = (ask(models, **request, regularization=each).texts[0] for each in ({}, values))
    assert trained.target_to_source.weights != moved.target_to_source.weights
    assert trained.log_prob != moved.log_prob


def test_a_layer_of_self_attention_is_told_head_by_head_after_their_mean(load):
    models = load("alignment/entailment.jsonnet")
    (archive,) = models.archives().archives
    direction, heads = next(iter(archive.self_attention.items()))
    last = len(heads) - 1
    told = ask(models, **PAIR, self_attention={"direction": direction, "layer": last}).self_attention
    predictor = predictor_of(models)
    assert not predictor.self_attention and ask(models, **PAIR).self_attention is None
    predictor.self_attention = True
    expected = predictor.predict_json(PAIR)["self_attention"][direction][last]["weights"]
    predictor.self_attention = False
    assert [one.weights for one in told[1:]] == expected and len(expected) == heads[last]
    np.testing.assert_allclose(told[0].weights, np.mean(expected, axis=0))
    with pytest.raises(RequestError, match=f"no archive has layer 7 of {direction}; there is layer 0 of "):
        ask(models, **PAIR, self_attention={"direction": direction, "layer": 7})
