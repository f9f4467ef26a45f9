import json
import math

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.predictors import Predictor

from tests.conftest import PROJECT_ROOT

NUM_BEST = 3
LINES = [{"source": "c a t e"}, {"source": "s h i p", "target": "left alone"}, {"source": "b"}]


@pytest.fixture(scope="module")
def archive(allennlp, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive") / "fusedmax"
    overrides = {
        "train_data_path": "sample:train[:256]",
        "validation_data_path": "sample:validation[:16]",
        "trainer.num_epochs": 1,
        "model.num_best": NUM_BEST,
        "model.beam_search.beam_size": 4,
        "model.beam_search.max_steps": 6,
    }
    config = PROJECT_ROOT / "training_configs" / "g2p" / "fusedmax.jsonnet"
    allennlp(
        "train", config, "-s", folder, "--include-package", "regattn_allennlp", "--overrides", json.dumps(overrides)
    )  # fmt: skip
    return folder / "model.tar.gz"


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
        assert output.keys() == {"source_tokens", "source_same_as", "source_unknown", "predictions"}
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


def test_predicts_with_the_dataset_reader(allennlp, archive, tmp_path):
    (tmp_path / "words.tsv").write_text("source\ttarget\nc a t\tk a t\nc a\t\n")
    allennlp(
        "predict", archive, tmp_path / "words.tsv", "--use-dataset-reader", "--silent",
        "--output-file", tmp_path / "out.jsonl", "--include-package", "regattn_allennlp",
    )  # fmt: skip
    predictions = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [prediction["source_tokens"] for prediction in predictions] == [[*"cat"], [*"ca"]]
    assert [len(prediction["predictions"]) for prediction in predictions] == [NUM_BEST] * 2
