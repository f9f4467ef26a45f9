import json
import math
import re

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.predictors import Predictor

from tests.conftest import PROJECT_ROOT

NUM_BEST = 3
LINES = [{"source": "c a t e"}, {"source": "s h i p", "target": "left alone"}, {"source": "b"}]


def trained(allennlp, folder, config):
    overrides = {
        "train_data_path": "sample:train[:256]",
        "validation_data_path": "sample:validation[:16]",
        "trainer.num_epochs": 1,
        "model.num_best": NUM_BEST,
        "model.beam_search.beam_size": 4,
        "model.beam_search.max_steps": 6,
    }
    config = PROJECT_ROOT / "training_configs" / "g2p" / f"{config}.jsonnet"
    allennlp(
        "train", config, "-s", folder, "--include-package", "regattn_allennlp", "--overrides", json.dumps(overrides)
    )  # fmt: skip
    return folder / "model.tar.gz"


@pytest.fixture(scope="module")
def archive(allennlp, tmp_path_factory):
    return trained(allennlp, tmp_path_factory.mktemp("archive") / "fusedmax", "fusedmax")


@pytest.fixture(scope="module")
def variational(allennlp, tmp_path_factory):
    return trained(allennlp, tmp_path_factory.mktemp("archive") / "variational", "variational_enumeration")


def predicted(allennlp, archive, folder, content, *options, name="input.jsonl"):
    """What the command writes, and the error that it ended with, if it did."""
    (folder / name).write_text(content)
    message = None
    try:
        allennlp(
            "predict", archive, folder / name, "--output-file", folder / "out.jsonl", "--silent",
            "--include-package", "regattn_allennlp", *options,
        )  # fmt: skip
    except ConfigurationError as error:
        message = str(error)
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()], message


def json_lines(items):
    return "".join(f"{json.dumps(item)}\n" for item in items)


@pytest.fixture(scope="module")
def predictor(archive):
    return Predictor.from_path(str(archive))


def test_lines_are_predicted_with_the_n_best_and_their_attention(allennlp, archive, tmp_path):
    (tmp_path / "input.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    for name, batch_size in (("one", "1"), ("all", "3")):
        allennlp(
            "predict", archive, tmp_path / "input.jsonl", "--output-file", tmp_path / name, "--batch-size", batch_size,
            "--silent", "--include-package", "regattn_allennlp",
        )  # fmt: skip
    outputs = [[json.loads(line) for line in (tmp_path / name).read_text().splitlines()] for name in ("one", "all")]
    for line, output, batched in zip(LINES, *outputs, strict=True):
        given = {"given_target"} if "target" in line else set()
        assert output.keys() == {"source_tokens", "source_same_as", "source_unknown", "predictions"} | given
        assert output["source_tokens"] == line["source"].split()
        assert len(output["predictions"]) == NUM_BEST
        for prediction, other in zip(output["predictions"], batched["predictions"], strict=True):
            assert prediction["text"] == other["text"] == " ".join(prediction["tokens"])
            assert prediction["log_prob"] == pytest.approx(other["log_prob"], rel=1e-4)
            assert len(prediction["attention"]) == len(prediction["tokens"])
            for row in prediction["attention"]:
                assert len(row) == len(output["source_tokens"])
                assert sum(row) == pytest.approx(1, abs=1e-5)
        log_probs = [prediction["log_prob"] for prediction in output["predictions"]]
        assert log_probs == sorted(log_probs, reverse=True)


def test_what_is_shown_is_of_the_best_prediction(predictor):
    prediction = predictor.predict("c a t e")
    best = prediction["predictions"][0]
    answer = predictor.answer(prediction)
    assert answer.text == best["text"]
    assert answer.probability == pytest.approx(math.exp(best["log_prob"]))
    shown = predictor.attention_map(prediction, "target_to_source")
    assert (shown["rows"], shown["columns"], shown["weights"]) == (best["tokens"], [*"cate"], best["attention"])
    assert (shown["rowTitle"], shown["columnTitle"], shown["rightToLeft"]) == ("target", "source", False)


def test_tokens_out_of_the_vocabulary_are_named(predictor):
    prediction = predictor.predict("c ö t ü")
    assert (prediction["source_unknown"], prediction["source_same_as"]) == ([1, 3], [0, 1, 2, 1])
    prediction["predictions"][0].update(tokens=["k", "@@UNKNOWN@@"], attention=[[0.25] * 4, [0.5, 0.25, 0, 0.25]])
    shown = predictor.attention_map(prediction, "target_to_source")
    assert (shown["unknownRows"], shown["unknownColumns"]) == ([1], [1, 3])
    assert shown["groups"] == [[[(0, 4)]], []]


def test_a_line_without_a_source_is_named(predictor):
    with pytest.raises(ConfigurationError, match='"source" is missing'):
        predictor.load_line('{"target": "k"}')


PAIRS = [
    {"source": "c a t e", "target": "k a t e"},
    {"source": "s h i p", "target": " "},
    {"source": "b", "target": "b ö b"},
    {"source": "c a", "target": None},
    {"source": "c a n i"},
]


def assert_close(one, other):
    """Two predictions that were made in batches of different sizes."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_close(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_close(*pair)
    else:
        assert one == (pytest.approx(other, rel=1e-4, abs=1e-6) if isinstance(other, float) else other)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_given_target_has_its_likelihood_and_its_alignments(allennlp, variational, tmp_path, batch_size):
    outputs, error = predicted(allennlp, variational, tmp_path, json_lines(PAIRS), "--batch-size", str(batch_size))
    assert error is None
    without = [{"source": pair["source"]} for pair in PAIRS]
    plain, _ = predicted(allennlp, variational, tmp_path, json_lines(without))
    predictor = Predictor.from_path(str(variational))
    for pair, output, expected in zip(PAIRS, outputs, plain, strict=True):
        given = output.pop("given_target", None)
        assert_close(output, expected)
        if not (pair.get("target") or "").strip():
            assert given is None
            continue
        tokens = pair["target"].split()
        assert (given["text"], given["tokens"]) == (pair["target"], tokens)
        assert given["unknown"] == [position for position, token in enumerate(tokens) if token == "ö"]
        # Of evaluation, the mean over the tokens and the end.
        instance = predictor._dataset_reader.text_to_instance(**pair)
        predictor._dataset_reader.apply_token_indexers(instance)
        loss = predictor._model.forward_on_instance(instance)["loss"]
        assert given["log_prob"] == pytest.approx(-loss * (len(tokens) + 1), rel=1e-4)
        assert len(given["token_log_probs"]) == len(tokens) + 1 and max(given["token_log_probs"]) < 0
        assert math.fsum(given["token_log_probs"]) == pytest.approx(given["log_prob"])
        names = ("attention", "posterior", "approximate_posterior")
        for name in names:
            assert [len(row) for row in given[name]] == [len(pair["source"].split())] * len(tokens)
            assert [sum(row) for row in given[name]] == pytest.approx([1] * len(tokens), abs=1e-5)
        if len(given["attention"][0]) > 1:
            assert len({str(given[name]) for name in names}) == 3


def test_with_the_dataset_reader_pairs_have_what_lines_have(allennlp, variational, tmp_path):
    rows = "".join(f"{pair['source']}\t{pair.get('target') or ''}\n" for pair in PAIRS)
    read, error = predicted(
        allennlp, variational, tmp_path, f"source\ttarget\n{rows}", "--use-dataset-reader", name="words.tsv"
    )
    assert error is None and ["given_target" in output for output in read] == [True, False, True, False, False]
    lines, _ = predicted(allennlp, variational, tmp_path, json_lines(PAIRS))
    assert_close(read, lines)


@pytest.mark.parametrize(
    "target, message",
    [
        (3, '"target" must be a text, or not be there, but is 3'),
        (["k"], r"but is \['k'\]"),
        (False, "but is False"),
        ("\ud83d", '"target" has half of a surrogate pair'),
    ],
)
def test_a_target_that_is_no_text_is_named_and_the_lines_before_it_are_kept(
    allennlp, archive, tmp_path, target, message
):
    lines = [*PAIRS[:2], {"source": "c a", "target": target}, PAIRS[2]]
    outputs, error = predicted(allennlp, archive, tmp_path, json_lines(lines))
    assert error is not None and re.search(f"line 3: .*{message}", error), error
    assert len(outputs) == 2


def test_a_model_without_a_latent_alignment_tells_the_attention_alone(archive):
    predictor = Predictor.from_path(str(archive))
    given = predictor.predict_json(PAIRS[0])["given_target"]
    assert given.keys() == {"text", "tokens", "unknown", "log_prob", "token_log_probs", "attention"}
    assert any(weight == 0 for row in given["attention"] for weight in row)
    with pytest.raises(
        ConfigurationError, match=r'"fusedmax" has no posterior: it has no "latent_alignment" but "soft"'
    ):
        predictor.require_distribution("posterior", "fusedmax")


def test_what_is_shown_of_a_given_target_is_as_if_it_was_written(variational):
    predictor = Predictor.from_path(str(variational))
    prediction = predictor.predict_json(PAIRS[2])
    given = prediction["given_target"]
    for distribution, key in (
        ("prior", "attention"),
        *((name, name) for name in ("posterior", "approximate_posterior")),
    ):
        written = predictor.as_written(prediction, distribution)
        assert predictor.answer(written) == ("b ö b", pytest.approx(math.exp(given["log_prob"])))
        drawn = predictor.attention_map(written, "target_to_source")
        assert (drawn["rows"], drawn["columns"], drawn["weights"]) == (["b", "ö", "b"], ["b"], given[key])
        assert drawn["unknownRows"] == [1]
    with pytest.raises(ConfigurationError, match='it has no "target"'):
        predictor.as_written(predictor.predict("b"))


def test_predicts_with_the_dataset_reader(allennlp, archive, tmp_path):
    (tmp_path / "words.tsv").write_text("source\ttarget\nc a t\tk a t\nc a\t\n")
    allennlp(
        "predict", archive, tmp_path / "words.tsv", "--use-dataset-reader", "--silent",
        "--output-file", tmp_path / "out.jsonl", "--include-package", "regattn_allennlp",
    )  # fmt: skip
    predictions = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [prediction["source_tokens"] for prediction in predictions] == [[*"cat"], [*"ca"]]
    assert [len(prediction["predictions"]) for prediction in predictions] == [NUM_BEST] * 2
