import json
import re
import subprocess
import sys

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.predictors import Predictor

from tests.conftest import environment

PAIRS = [
    {"premise": "A small dog runs in the park.", "hypothesis": "An animal runs."},
    {"premise": "Two cats sleep.", "hypothesis": "Two cats are awake.", "id": 17, "error": "an unrelated key"},
    {"premise": "A chef is reading.", "hypothesis": "A chef is reading an unknowable word 😀"},
    {"premise": "Three birds sing near the old house.", "hypothesis": "Two birds sing."},
    {"premise": "A boy waits.", "hypothesis": "A boy waits patiently."},
]


def predict(allennlp, archive, folder, lines, batch_size) -> tuple[list[dict], str | None]:
    """The predictions in the output file, and the error the command ended with, if it did."""
    (folder / "pairs.jsonl").write_text("".join(f"{line}\n" for line in lines))
    message = None
    try:
        allennlp(
            "predict", archive, folder / "pairs.jsonl", "--output-file", folder / "predictions.jsonl", "--silent",
            "--batch-size", batch_size, "--include-package", "regattn_allennlp",
        )  # fmt: skip
    except ConfigurationError as error:
        message = str(error)
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()], message


def check_prediction(prediction):
    assert prediction["label"] in ("entailment", "neutral", "contradiction")
    assert set(prediction["probabilities"]) == {"entailment", "neutral", "contradiction"}
    assert sum(prediction["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
    premise_length, hypothesis_length = len(prediction["premise_tokens"]), len(prediction["hypothesis_tokens"])
    for key, num_rows, num_columns in (
        ("premise_to_hypothesis_attention", premise_length, hypothesis_length),
        ("hypothesis_to_premise_attention", hypothesis_length, premise_length),
    ):
        assert [len(row) for row in prediction[key]] == [num_columns] * num_rows
        assert [sum(row) for row in prediction[key]] == pytest.approx([1.0] * num_rows, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_predicts_every_line_in_order(allennlp, archive, tmp_path, batch_size):
    predictions, error = predict(allennlp, archive, tmp_path, [json.dumps(pair) for pair in PAIRS], batch_size)
    assert error is None
    assert len(predictions) == len(PAIRS)
    for pair, prediction in zip(PAIRS, predictions, strict=True):
        check_prediction(prediction)
        assert prediction["premise_tokens"][-1] == "."
        assert "".join(prediction["premise_tokens"]) == pair["premise"].replace(" ", "")
        assert "".join(prediction["hypothesis_tokens"]) == pair["hypothesis"].replace(" ", "")


@pytest.mark.parametrize("batch_size", [1, 2, 32])
@pytest.mark.parametrize(
    "bad_line, message",
    [
        ('{"premise": "A man reads."}', 'line 4.*"hypothesis" is missing.*premise'),
        ('{"premise": "A man reads.", "hypothesis": ', "line 4.*\n.*A man reads"),
        ('["A man reads.", "A man."]', "line 4.*JSON object"),
        ('{"premise": "  ", "hypothesis": "A man."}', 'line 4.*"premise" must be a sentence'),
        ('{"premise": "A man.", "hypothesis": 3}', 'line 4.*"hypothesis" must be a sentence, but is 3'),
        # As a text is that was cut within a character.
        (
            '{"premise": "A \\ud83d", "hypothesis": "A man."}',
            'line 4.*"premise" has half of a surrogate pair',
        ),
    ],
)
def test_a_bad_line_is_named_and_those_before_it_are_kept(allennlp, archive, tmp_path, bad_line, message, batch_size):
    lines = [json.dumps(pair) for pair in PAIRS]
    predictions, error = predict(allennlp, archive, tmp_path, [*lines[:3], bad_line, *lines[3:]], batch_size)
    assert error is not None and re.search(message, error)
    assert len(predictions) == 3
    for prediction in predictions:
        check_prediction(prediction)


def test_the_process_keeps_the_lines_before_a_bad_one_too(archive, tmp_path):
    (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIRS[0]) + "\n\n{}\n")
    command = (
        sys.executable, "-m", "allennlp", "predict", str(archive), "pairs.jsonl", "--output-file", "out.jsonl",
        "--batch-size", "32", "--include-package", "regattn_allennlp",
    )  # fmt: skip
    result = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert result.returncode != 0
    assert 'pairs.jsonl, line 3: the key "premise" is missing; the keys are []\n  {}\n' in result.stderr
    (prediction,) = (tmp_path / "out.jsonl").read_text().splitlines()
    check_prediction(json.loads(prediction))


@pytest.mark.parametrize("labels", [["-", "-1", "neutral", "whatever"], None])
def test_the_dataset_reader_gives_a_line_for_each_line_and_needs_no_labels(allennlp, archive, tmp_path, labels):
    pairs = [{key: pair[key] for key in ("premise", "hypothesis")} for pair in PAIRS[:4]]
    if labels is not None:
        pairs = [{**pair, "label": label} for pair, label in zip(pairs, labels, strict=True)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8-sig")
    arguments = ("predict", archive, tmp_path / "pairs.jsonl", "--silent", "--include-package", "regattn_allennlp")
    for name, option in ("read", ["--use-dataset-reader"]), ("lines", []):
        allennlp(*arguments, *option, "--output-file", tmp_path / f"{name}.jsonl")
    read, lines = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("read", "lines")
    )
    assert len(read) == 4
    for one, other in zip(read, lines, strict=True):
        check_prediction(one)
        assert one.keys() == other.keys() and one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_words_that_are_not_in_the_vocabulary_file_are_unknown(archive):
    predictor = Predictor.from_path(str(archive))
    known = (archive.parent / "vocabulary" / "tokens.txt").read_text().split("\n")
    predictions = predictor.predict_batch_json([*PAIRS, {"premise": "Xq xq a A Wz", "hypothesis": "A"}])
    for prediction in predictions:
        for side in ("premise", "hypothesis"):
            words = [token.lower() for token in prediction[f"{side}_tokens"]]
            unknown = [position for position, word in enumerate(words) if word not in known]
            assert prediction[f"{side}_unknown"] == unknown
            seen = ["" if position in unknown else word for position, word in enumerate(words)]
            assert prediction[f"{side}_same_as"] == [seen.index(word) for word in seen]
    # What is one word to the model is no group, whatever the attention.
    drawn = predictor.attention_map(
        predictions[-1] | {"hypothesis_to_premise_attention": [[0.25, 0.25, 0.125, 0.125, 0.25]]},
        "hypothesis_to_premise",
    )
    assert (drawn["groups"], drawn["unknownRows"], drawn["unknownColumns"]) == ([[]], [], [0, 1, 4])
    assert any(prediction["hypothesis_unknown"] for prediction in predictions)


def test_from_python(archive):
    predictor = Predictor.from_path(str(archive))
    prediction = predictor.predict(**PAIRS[0])
    check_prediction(prediction)
    many = predictor.predict_batch_json(PAIRS)
    assert many[0]["probabilities"] == pytest.approx(prediction["probabilities"], abs=1e-5)
    with pytest.raises(ConfigurationError, match='"hypothesis" is missing'):
        predictor.predict_json({"premise": "A man reads."})
    with pytest.raises(ConfigurationError, match='"premise" must be a sentence'):
        predictor.predict("", "A man reads.")
