"""The commands that show, compare and serve attention, with models of other tasks than textual entailment."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor

from regattn_allennlp.commands import show_attention
from regattn_allennlp.comparison.evaluation import evaluate
from tests.conftest import PROJECT_ROOT, SMALL

CONFIGS = PROJECT_ROOT / "training_configs"
INCLUDE = ("--include-package", "regattn_allennlp")


def trained(allennlp, folder: Path, config: str) -> Path:
    allennlp("train", CONFIGS / config, "-s", folder, "--overrides", json.dumps(SMALL), *INCLUDE)
    return folder


@pytest.fixture(scope="module")
def pronouncing(allennlp, tmp_path_factory) -> Path:
    return trained(allennlp, tmp_path_factory.mktemp("tasks") / "sparsemax", "g2p/sparsemax.jsonnet")


@pytest.fixture(scope="module")
def seeing(allennlp, tmp_path_factory) -> Path:
    return trained(allennlp, tmp_path_factory.mktemp("tasks") / "softmax", "vqa/softmax.jsonnet")


def examples_of(page: Path) -> list[dict]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(data)["examples"]


def test_a_text_is_shown_with_what_was_written_for_it(allennlp, pronouncing, tmp_path):
    allennlp("show-attention", pronouncing, "--source", "c a t", "--out", tmp_path / "a.html")
    allennlp("show-attention", pronouncing, "--source", "c a t", "--out", tmp_path / "a.svg")
    (example,) = examples_of(tmp_path / "a.html")
    expected = Predictor.from_archive(load_archive(pronouncing)).predict(source="c a t")
    (prediction,) = example["predictions"]
    assert example["inputs"] == {"source": "c a t"} and example["gold"] is None
    assert prediction["text"] == expected["predictions"][0]["text"]
    assert prediction["maps"][0]["columns"] == ["c", "a", "t"]
    assert prediction["maps"][0]["rows"] == expected["predictions"][0]["tokens"]
    weights = np.array(expected["predictions"][0]["attention"])
    assert np.array(prediction["maps"][0]["weights"]) == pytest.approx(weights, rel=1e-3)


def test_filters_by_answer_are_hidden_where_answers_are_many(allennlp, pronouncing, page, tmp_path):
    allennlp("show-attention", pronouncing, "--input", "sample:validation[:40]", "--out", tmp_path / "a.html")
    examples = examples_of(tmp_path / "a.html")
    assert len({example["gold"] for example in examples}) > 30
    page.goto((tmp_path / "a.html").as_uri())
    assert not page.locator("#gold").is_visible() and page.locator("#correctness").is_visible()
    page.locator("#correctness").select_option("wrong")
    wrong = [example for example in examples if example["predictions"][0]["text"] != example["gold"]]
    assert page.locator("#position").inner_text() == f"Items 1 to 5 of {len(wrong)}"
    assert page.locator("article dt").all_inner_texts()[:2] == ["Source", "Gold answer"]


def test_a_question_is_shown_as_a_picture_of_regions(allennlp, seeing, page, tmp_path):
    allennlp("show-attention", seeing, "--input", "sample:validation[:3]", "--out", tmp_path / "a.html")
    inputs = examples_of(tmp_path / "a.html")[0]["inputs"]
    allennlp(
        "show-attention", seeing, "--question", inputs["question"], "--image-id", inputs["image_id"],
        "--out", tmp_path / "a.png",
    )  # fmt: skip
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    page.goto((tmp_path / "a.html").as_uri())
    article = page.locator("article").nth(0)
    assert article.locator("dt").all_inner_texts() == ["Question", "Image id", "Gold answer"]
    one = examples_of(tmp_path / "a.html")[0]["predictions"][0]["maps"][0]
    assert article.locator(".region").count() == len(one["boxes"]) == len(one["weights"][0])
    article.locator(".region").nth(0).hover()
    assert re.match("region 1 .*: 0", article.locator(".readout").inner_text())
    assert page.locator("[data-needs=regions]").is_visible() and not page.locator("[data-needs=cells]").is_visible()


@pytest.mark.parametrize(
    "task, arguments, message",
    [
        ("text", ("--premise", "A.", "--hypothesis", "B."), '"sequence_pairs" wanted is --input, or --source'),
        ("text", ("--source", "a", "--direction", "hypothesis_to_premise"), "none of .*: target_to_source"),
        (
            "image",
            ("--question", "What?"),
            r"Given is --question: .*, or both --question and --image-id",
        ),
        ("image", ("--source", "a"), '"vqa" wanted'),
    ],
)
def test_what_a_task_does_not_take_is_named(
    allennlp, pronouncing, seeing, tmp_path, monkeypatch, task, arguments, message
):
    monkeypatch.setattr(show_attention, "load_predictors", lambda *_: pytest.fail("loaded a model"))
    archive = {"text": pronouncing, "image": seeing}[task]
    with pytest.raises(ConfigurationError, match=message):
        allennlp("show-attention", archive, *arguments, "--out", tmp_path / "a.html")


def test_models_of_several_tasks_do_not_stand_side_by_side(allennlp, archive, pronouncing, tmp_path):
    message = 'for the task "entailment" and .* for "sequence_pairs": they cannot stand side by side'
    pair = ("--premise", "A.", "--hypothesis", "B.")
    with pytest.raises(ConfigurationError, match=message):
        allennlp("show-attention", archive, pronouncing, *pair, "--out", tmp_path / "a.html")
    with pytest.raises(ConfigurationError, match=message):
        allennlp("compare-attention", archive, pronouncing, "-s", tmp_path / "out", *INCLUDE)
    with pytest.raises(ConfigurationError, match=message):
        allennlp("serve-attention", archive, pronouncing, "--port", 0)


def test_what_the_page_does_not_take_is_named(allennlp, tmp_path):
    (tmp_path / "config.json").write_text('{"model": {"type": "graph_node_classifier"}}')
    with pytest.raises(ConfigurationError, match='task "graphs"; the page takes those for entailment, sequence_pairs'):
        allennlp("serve-attention", tmp_path, "--port", 0)


def test_a_model_without_attention_is_named(allennlp, archive, tmp_path):
    config = json.loads((archive.parent / "config.json").read_text())
    config["model"] = {"type": "basic_classifier"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match=r"type basic_classifier, .* attentional_seq2seq"):
        allennlp("show-attention", tmp_path, "--source", "a", "--out", tmp_path / "a.html")


def test_faithfulness_is_for_entailment(allennlp, pronouncing, tmp_path):
    with pytest.raises(ConfigurationError, match=r'--faithfulness .* not for the task "sequence_pairs"'):
        allennlp("compare-attention", pronouncing, "--faithfulness", 5, "-s", tmp_path / "out", *INCLUDE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", ["text", "image"])
def test_scores_of_items_are_of_the_first_metric(pronouncing, seeing, task):
    loaded = load_archive({"text": pronouncing, "image": seeing}[task])
    test_data = "sample:validation[:24]"
    of_two, of_nine = (evaluate(loaded.model, loaded.validation_dataset_reader, test_data, n) for n in (2, 9))
    for evaluation in (of_two, of_nine):
        first = evaluation["compared_metrics"][0]
        assert len(evaluation["item_scores"]) == 24
        # Of both, exact matches and accuracies, the metric is the mean over the items.
        assert np.mean(evaluation["item_scores"]) == pytest.approx(evaluation["metrics"][first], abs=1e-6)
        assert evaluation["metrics"]["loss"] == pytest.approx(np.log(evaluation["metrics"]["perplexity"]))
        assert "expected_calibration_error" not in evaluation["metrics"]
    assert of_two["metrics"] == pytest.approx(of_nine["metrics"], rel=1e-4)
    others = evaluate(loaded.model, loaded.validation_dataset_reader, "sample:validation[24:48]")
    assert of_two["items"] == of_nine["items"] != others["items"]


def test_alignments_are_compared(allennlp, tmp_path):
    data = {"train_data_path": "sample:train[:64]", "validation_data_path": "sample:validation[:8]"}
    overrides = json.dumps({**SMALL, **data})
    allennlp(
        "compare-attention", CONFIGS / "vqa" / "softmax.jsonnet", "--latent-alignment", "soft",
        "--latent-alignment", '{"type": "variational", "estimator": "enumeration"}', "--seeds", 1, "--workers", 2,
        "-s", tmp_path, "-o", overrides, *INCLUDE,
    )  # fmt: skip
    report = json.loads((tmp_path / "comparison.json").read_text())
    assert report["compared_metrics"] == ["accuracy", "perplexity"]
    assert report["attention_directions"] == ["question_to_regions"]
    soft, variational = report["variants"]
    assert soft["name"].endswith(", soft") and variational["name"].endswith(", variational estimator=enumeration")
    assert variational["latent_alignment"] == {"type": "variational", "estimator": "enumeration"}
    times = [variant["summary"]["seconds_per_epoch"]["mean"] for variant in (soft, variational)]
    assert variational["summary"]["seconds_per_epoch_ratio"]["mean"] == pytest.approx(times[1] / times[0])
    assert report["differences"][0]["exact"]
    assert (tmp_path / "accuracy.png").exists()
