import json
import re

import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.predictors import Predictor

from regattn_allennlp.data.dataset_readers import VqaDatasetReader
from regattn_allennlp.data.sample_scenes import sample_scene
from tests.conftest import PROJECT_ROOT

INCLUDE = ("--include-package", "regattn_allennlp")
BY_ID = {"question": "what color is the leftmost thing?", "image_id": "validation-2"}
SCENE = sample_scene("validation-2")
BY_FEATURES = {
    "question": BY_ID["question"],
    "regions": SCENE.features.tolist(),
    "boxes": [list(one.box) for one in SCENE.objects],
    "an unrelated key": 3,
}


@pytest.fixture(scope="module")
def archive(allennlp, tmp_path_factory):
    """A small model; sparsemax, so that there are weights of 0."""
    folder = tmp_path_factory.mktemp("vqa") / "sparsemax"
    overrides = {
        "train_data_path": "sample:train[:192]",
        "validation_data_path": "sample:validation[:32]",
        "trainer.num_epochs": 1,
        "model.region_encoder": {"type": "multi_head_self_attention", "input_dim": 128, "num_heads": 2},
    }
    config = PROJECT_ROOT / "training_configs" / "vqa" / "sparsemax.jsonnet"
    allennlp("train", config, "-s", folder, "--overrides", json.dumps(overrides), *INCLUDE)
    return folder / "model.tar.gz"


@pytest.fixture(scope="module")
def variational(allennlp, tmp_path_factory):
    """With a sparse prior; answers that are rare are not known."""
    folder = tmp_path_factory.mktemp("vqa") / "variational"
    overrides = {
        "train_data_path": "sample:train[:192]",
        "validation_data_path": "sample:validation[:32]",
        "trainer.num_epochs": 1,
        "model.attention": {"type": "sparsemax"},
        "vocabulary": {"min_count": {"answers": 12}},
    }
    config = PROJECT_ROOT / "training_configs" / "vqa" / "variational_enumeration.jsonnet"
    allennlp("train", config, "-s", folder, "--overrides", json.dumps(overrides), *INCLUDE)
    return folder / "model.tar.gz"


@pytest.fixture(scope="module")
def predictor(archive):
    return Predictor.from_path(str(archive))


def predict(allennlp, archive, folder, lines, batch_size=32) -> tuple[list[dict], str | None]:
    """The predictions in the output file, and the error the command ended with, if it did."""
    (folder / "in.jsonl").write_text("".join(f"{line}\n" for line in lines))
    message = None
    try:
        allennlp(
            "predict", archive, folder / "in.jsonl", "--output-file", folder / "out.jsonl", "--silent",
            "--batch-size", batch_size, *INCLUDE,
        )  # fmt: skip
    except ConfigurationError as error:
        message = str(error)
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()], message


def test_predicts_by_image_and_by_features_alike(allennlp, archive, tmp_path):
    others = [{"question": "is there a star?", "image_id": f"validation-{number}"} for number in range(3)]
    lines = [json.dumps(one) for one in (BY_ID, *others, BY_FEATURES)]
    predictions, error = predict(allennlp, archive, tmp_path, lines, batch_size=2)
    assert error is None and len(predictions) == 5
    by_id, by_features = predictions[0], predictions[-1]
    for key in ("answer_probs", "question_to_regions_attention", "boxes"):
        np.testing.assert_allclose(by_id[key], by_features[key], rtol=1e-4, atol=1e-5)
    assert by_id["region_names"] == [one.name for one in SCENE.objects] and by_features["region_names"] == []
    for prediction in predictions:
        (weights,) = prediction["question_to_regions_attention"]
        assert len(weights) == len(prediction["boxes"]) == prediction["num_regions"]
        assert sum(weights) == pytest.approx(1, abs=1e-5)
        assert prediction["question"].split()[0] == prediction["question_tokens"][0]


def test_predicts_with_the_dataset_reader(allennlp, archive, tmp_path):
    allennlp(
        "predict", archive, "sample:validation[:5]", "--use-dataset-reader", "--silent",
        "--output-file", tmp_path / "out.jsonl", *INCLUDE,
    )  # fmt: skip
    predictions = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [prediction["question_id"] for prediction in predictions] == [0, 1, 2, 3, 4]


NAMES = ("attention", "posterior", "approximate_posterior")


def test_a_given_answer_has_its_likelihood_and_its_alignments(allennlp, variational, tmp_path):
    known = Predictor.from_path(str(variational))._model.vocab.get_token_to_index_vocabulary("answers")
    answer = next(name for name in known if name.isalpha())
    given_answers = [answer, f"The {answer.upper()}!", "zebra", " ", None]
    items = [{**one, "answer": each} for each in given_answers for one in (BY_ID, BY_FEATURES)]
    outputs, error = predict(allennlp, variational, tmp_path, [json.dumps(item) for item in items], batch_size=4)
    assert error is None
    plain, _ = predict(allennlp, variational, tmp_path, [json.dumps(one) for one in (BY_ID, BY_FEATURES)])
    num_regions = len(SCENE.objects)
    for number, (item, output) in enumerate(zip(items, outputs, strict=True)):
        expected = plain[number % 2]
        given = output.pop("given_answer", None)
        assert output.keys() == expected.keys() and output["answer"] == expected["answer"]
        np.testing.assert_allclose(output["answer_probs"], expected["answer_probs"], rtol=1e-4)
        if not (item["answer"] or "").strip():
            assert given is None
            continue
        np.testing.assert_allclose(given["attention"], expected["question_to_regions_attention"], atol=1e-5)
        if item["answer"] == "zebra":
            assert given == {"answer": "zebra", "log_prob": None, "attention": given["attention"]}
            continue
        assert given.keys() == {"answer", "log_prob", *NAMES} and given["answer"] == answer
        assert np.exp(given["log_prob"]) == pytest.approx(expected["answer_probs"][known[answer]], rel=1e-4)
        prior, posterior, approximate = (np.array(given[name]) for name in NAMES)
        assert prior.shape == posterior.shape == approximate.shape == (1, num_regions)
        for one in (posterior, approximate):
            assert one.sum() == pytest.approx(1, abs=1e-5) and ((one > 0) == (prior > 0)).all()
            assert not np.allclose(one, prior)


def test_with_the_dataset_reader_the_answers_are_those_of_the_data(allennlp, variational, tmp_path):
    source = "sample:validation[:30]"
    allennlp(
        "predict", variational, source, "--use-dataset-reader", "--silent",
        "--output-file", tmp_path / "out.jsonl", *INCLUDE,
    )  # fmt: skip
    read = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    examples = list(VqaDatasetReader().read_examples(source))
    lines, error = predict(
        allennlp, variational, tmp_path, [json.dumps({**one.inputs, "answer": one.gold}) for one in examples]
    )
    assert error is None
    assert {output["given_answer"]["log_prob"] is None for output in read} == {True, False}
    for output, line, example in zip(read, lines, examples, strict=True):
        given, of_line = output["given_answer"], line["given_answer"]
        assert given["answer"] == of_line["answer"] == example.gold and given.keys() == of_line.keys()
        assert "answer_scores" not in output
        for name in given.keys() - {"answer"}:
            np.testing.assert_allclose(
                np.array(given[name], dtype=float), np.array(of_line[name], dtype=float), rtol=1e-3, atol=1e-5
            )


def test_what_is_shown_of_a_given_answer_is_as_if_it_was_the_models(variational):
    predictor = Predictor.from_path(str(variational))
    answer = next(name for name in predictor._model.vocab.get_token_to_index_vocabulary("answers") if name.isalpha())
    prediction = predictor.predict_json({**BY_ID, "answer": answer})
    given = prediction["given_answer"]
    for distribution, name in zip(predictor._model.given_distributions, NAMES, strict=True):
        written = predictor.as_written(prediction, distribution)
        assert predictor.answer(written) == (answer, pytest.approx(np.exp(given["log_prob"])))
        assert predictor.attention_map(written, "question_to_regions")["weights"] == given[name]
    with pytest.raises(ConfigurationError, match='does not know the answer "zebra"; it knows'):
        predictor.as_written(predictor.predict_json({**BY_ID, "answer": "zebra"}), "posterior")
    with pytest.raises(ConfigurationError, match='it has no "answer"'):
        predictor.as_written(predictor.predict_json(BY_ID), "posterior")


def test_the_answer_and_the_map(predictor):
    prediction = predictor.predict(**BY_ID)
    answer = predictor.answer(prediction)
    assert answer.text == prediction["answer"] and answer.probability == max(prediction["probabilities"].values())
    drawn = predictor.attention_map(prediction, "question_to_regions")
    assert drawn["rows"] == [BY_ID["question"]]
    assert drawn["columns"] == [one.name for one in SCENE.objects]
    assert drawn["weights"] == prediction["question_to_regions_attention"]
    assert (drawn["rowTitle"], drawn["columnTitle"], drawn["rightToLeft"]) == ("question", "regions", False)
    assert drawn["boxes"] == [list(one.box) for one in SCENE.objects] and drawn["image"] is None
    without_boxes = {key: value for key, value in BY_FEATURES.items() if key != "boxes"}
    drawn = predictor.attention_map(predictor.predict_json(without_boxes), "question_to_regions")
    assert drawn["columns"] == [str(number) for number in range(1, len(SCENE.objects) + 1)]
    assert drawn["boxes"] is None


def test_what_regions_attend_to(allennlp, archive, predictor, tmp_path):
    predictor.self_attention = True
    with_names, without = predictor.predict_batch_json([BY_ID, BY_FEATURES | {"question": "what is a blorp?"}])
    given = predictor.predict_json({**BY_ID, "answer": "red"})
    predictor.self_attention = False
    # The given answer is scored in another pass, which is not recorded.
    (layer,), (expected,) = (one["self_attention"]["regions_to_regions"] for one in (given, with_names))
    np.testing.assert_allclose(layer["weights"], expected["weights"], atol=1e-5)
    assert (with_names["question_unknown"], without["question_unknown"]) == ([], [3])
    for prediction, names in (with_names, [one.name for one in SCENE.objects]), (without, None):
        drawn = predictor.self_attention_map(prediction, "regions_to_regions", layer=0, head=1)
        assert (
            drawn["rows"] == drawn["columns"] == (names or [str(number + 1) for number in range(len(SCENE.objects))])
        )
        assert np.array(drawn["weights"]).sum(axis=1) == pytest.approx(np.ones(len(SCENE.objects)), abs=1e-5)
    (tmp_path / "in.jsonl").write_text(json.dumps(BY_ID))
    allennlp(
        "predict", archive, tmp_path / "in.jsonl", "--output-file", tmp_path / "out.jsonl", "--silent",
        "--predictor-args", '{"self_attention": true}', *INCLUDE,
    )  # fmt: skip
    (layer,) = json.loads((tmp_path / "out.jsonl").read_text())["self_attention"]["regions_to_regions"]
    assert layer["name"] == "_region_encoder._layers.0"
    np.testing.assert_allclose(
        layer["weights"], with_names["self_attention"]["regions_to_regions"][0]["weights"], atol=1e-5
    )


def test_regions_of_one_weight_are_a_group(predictor):
    prediction = {**predictor.predict(**BY_ID), "question_to_regions_attention": [[0.25, 0.25, 0.0, 0.5]]}
    assert predictor.attention_map(prediction, "question_to_regions")["groups"] == [[[(0, 2)]]]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"question": " "}, '"question" must be a sentence'),
        ({"answer": 2}, '"answer" must be a text, or not be there, but is 2'),
        ({"question": "why \ud83d"}, '"question" has half of a surrogate pair'),
        ({"image_id": "\ud83d"}, "no scene"),
        ({"image_id": None}, '"image_id" or "regions" is missing.*question'),
        ({"image_id": "validation-200"}, '"validation-200".*"validation-199".*region_features'),
        ({"image_id": 17}, 'no scene "17"'),
        ({"image_id": 1.5}, '"image_id" must be a number or a text, but is 1.5'),
        ({"regions": []}, '"regions" must be a list'),
        ({"regions": [[]]}, '"regions" must be a list'),
        ({"regions": [1, 2]}, '"regions" must be a list'),
        ({"regions": [[1.0] * 32, [1.0] * 31]}, '"regions": row 1 has 31 numbers, row 0 has 32'),
        ({"regions": [[1.0] * 31]}, "dimension 31; the model takes 32"),
        ({"regions": [[1.0] * 31 + ["a"]]}, "row 0 has 'a' where a finite number is wanted"),
        ({"regions": [[1.0] * 31 + [float("nan")]]}, "row 0 has nan"),
        ({"regions": [[1.0] * 32], "boxes": [[0, 0, 1, 1]] * 2}, r"\(2, 4\), not \(1, 4\)"),
        ({"regions": [[1.0] * 32], "boxes": [[0, 0, 640, 480]]}, "fractions of the picture"),
        ({"regions": [[1.0] * 32], "boxes": [[0.5, 0, 0.2, 1]]}, r"\[left, top, right, bottom\]"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_a_bad_line_is_named_and_those_before_it_are_kept(allennlp, archive, tmp_path, changes, message):
    lines = [json.dumps(one) for one in (BY_ID, BY_FEATURES, {**BY_ID, **changes}, BY_ID)]
    predictions, error = predict(allennlp, archive, tmp_path, lines)
    assert error is not None and re.search("line 3.*" + message, error), error
    assert len(predictions) == 2
