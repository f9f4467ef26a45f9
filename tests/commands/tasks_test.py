"""The commands that show, compare and serve attention, with models of other tasks than textual entailment."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

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


@pytest.fixture(scope="module")
def variational(allennlp, tmp_path_factory) -> Path:
    return trained(allennlp, tmp_path_factory.mktemp("tasks") / "variational", "g2p/variational_enumeration.jsonnet")


@pytest.fixture(scope="module")
def exact(allennlp, tmp_path_factory) -> Path:
    return trained(allennlp, tmp_path_factory.mktemp("tasks") / "exact", "vqa/exact.jsonnet")


def examples_of(page: Path) -> list[dict]:
    return data_of(page)["examples"]


def texts_of(svg: Path) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]


def data_of(page: Path) -> dict:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(data)


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


PANELS = {
    "posterior": ["prior", "posterior"],
    "approximate_posterior": ["prior", "posterior", "approximate posterior"],
}


@pytest.mark.parametrize("alignment", PANELS)
def test_prior_and_posterior_of_a_pair_stand_side_by_side(allennlp, variational, tmp_path, alignment):
    pair = ("--source", "c a t", "--target", "k a t", "--alignment", alignment)
    for suffix in ("html", "svg"):
        allennlp("show-attention", variational, *pair, "--out", tmp_path / f"a.{suffix}")
    data = data_of(tmp_path / "a.html")
    titles = [f"variational, {panel}" for panel in PANELS[alignment]]
    assert data["archives"] == titles
    (example,) = data["examples"]
    assert example["inputs"] == {"source": "c a t", "target": "k a t"} and example["gold"] is None
    predictor = Predictor.from_archive(load_archive(variational))
    given = predictor.predict_json({"source": "c a t", "target": "k a t"})["given_target"]
    keys = ["attention", "posterior", "approximate_posterior"][: len(titles)]
    for prediction, key in zip(example["predictions"], keys, strict=True):
        assert prediction["text"] == "k a t"
        assert prediction["probability"] == pytest.approx(np.exp(given["log_prob"]), rel=1e-3)
        (one,) = prediction["maps"]
        assert (one["rows"], one["columns"]) == (["k", "a", "t"], ["c", "a", "t"])
        assert np.array(one["weights"]) == pytest.approx(np.array(given[key]), rel=1e-3)
    texts = texts_of(tmp_path / "a.svg")
    # Titles that are wider than their maps have several lines.
    assert re.findall("variational, (?:approximate )?(?:prior|posterior)", " ".join(texts)) == titles
    assert {"source: c a t", "target: k a t"} <= set(texts) and texts.count("attends to source →") == len(titles)
    weights = [weight for key in keys for row in given[key] for weight in row]
    shown = ["1" if w >= 0.995 else "·" if w < 0.005 else f"{w:.2f}"[1:] for w in weights if w > 0]
    assert sorted(text for text in texts if re.fullmatch(r"\.\d\d|1|·", text)) == sorted(shown)


def test_items_are_aligned_with_their_own_targets(allennlp, variational, page, assert_accessible, tmp_path):
    out = tmp_path / "a.html"
    allennlp(
        "show-attention", variational, "--input", "sample:validation[:7]", "--alignment", "posterior",
        "--batch-size", 3, "--out", out,
    )  # fmt: skip
    examples = examples_of(out)
    allennlp("show-attention", variational, "--input", "sample:validation[:7]", "--out", tmp_path / "as_before.html")
    targets = [example["gold"] for example in examples_of(tmp_path / "as_before.html")]
    assert [example["inputs"]["target"] for example in examples] == targets
    for example, target in zip(examples, targets, strict=True):
        for prediction in example["predictions"]:
            assert prediction["text"] == target and prediction["maps"][0]["rows"] == target.split()
    page.goto(out.as_uri())
    headings = page.locator("article").nth(0).locator("h3").all_inner_texts()
    assert [heading.partition(": ")[0] for heading in headings] == ["variational, prior", "variational, posterior"]
    assert all(targets[0] in heading and "wrong" not in heading for heading in headings)
    assert page.locator("article").nth(0).locator("dt").all_inner_texts() == ["Source", "Target"]
    visible = [
        label.inner_text().split("\n")[0].strip() for label in page.locator("label").all() if label.is_visible()
    ]
    assert visible == ["of", "Word", "Order"]
    # Each of the panels has its own weights to point at.
    readouts = []
    for which in range(2):
        heat_map = page.locator("article").nth(0).locator(".heat-map").nth(which)
        heat_map.locator("td").nth(0).hover()
        weight = float(f"{examples[0]['predictions'][which]['maps'][0]['weights'][0][0]:.3g}")
        readouts.append(re.sub("[\u2068\u2069]", "", heat_map.locator(".readout").inner_text()))
        assert f": {weight:g}" in readouts[-1]
    assert readouts[0] != readouts[1]
    page.mouse.move(0, 0)
    assert_accessible(page)


def test_prior_and_posterior_of_an_answer_are_pictures_of_regions(allennlp, exact, page, tmp_path):
    predictor = Predictor.from_archive(load_archive(exact))
    item = {"question": "what color is the leftmost thing?", "image_id": "validation-3"}
    answer = predictor.predict_json(item)["answer"]
    arguments = ("--question", item["question"], "--image-id", item["image_id"], "--answer", answer.upper())
    for suffix in ("html", "svg"):
        allennlp("show-attention", exact, *arguments, "--alignment", "posterior", "--out", tmp_path / f"a.{suffix}")
    (example,) = examples_of(tmp_path / "a.html")
    given = predictor.predict_json({**item, "answer": answer})["given_answer"]
    for prediction, key in zip(example["predictions"], ("attention", "posterior"), strict=True):
        assert prediction["text"] == answer
        assert np.array(prediction["maps"][0]["weights"]) == pytest.approx(np.array(given[key]), rel=1e-3)
    titles = ["exact, prior", "exact, posterior"]
    assert [text for text in texts_of(tmp_path / "a.svg") if text in titles] == titles
    page.goto((tmp_path / "a.html").as_uri())
    assert page.locator("article .region").count() == 2 * len(given["posterior"][0])


def test_without_an_alignment_what_a_model_writes_is_shown_as_before(allennlp, variational, tmp_path):
    for name, more in ("one", ()), ("other", ("--alignment", "prior")):
        allennlp("show-attention", variational, "--source", "c a t", *more, "--out", tmp_path / f"{name}.html")
    assert (tmp_path / "one.html").read_text() == (tmp_path / "other.html").read_text()
    assert data_of(tmp_path / "one.html")["archives"] == ["variational"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("--source", "a"),
            'Given is --source: .* with --alignment "posterior" wanted is --input, or both --source and',
        ),
        (("--source", "a", "--target", " "), "--target must be a text, but is ' '"),
        (("--input", "items.jsonl"), 'item 2 of "items.jsonl" has no target to be aligned: .*b'),
        (
            ("--source", "a", "--target", "b", "--direction", "source_to_source"),
            'is "posterior", which is of target_to_source, not of self-attention source_to_source',
        ),
    ],
)
def test_what_an_alignment_lacks_is_told_before_a_model_is_loaded(
    allennlp, variational, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setattr(show_attention, "load_predictors", lambda *_: pytest.fail("loaded a model"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.jsonl").write_text('{"source": "a", "target": "b"}\n{"source": "b"}\n')
    with pytest.raises(ConfigurationError, match=message) as raised:
        allennlp("show-attention", variational, *arguments, "--alignment", "posterior", "--out", "a.html")
    assert "\n" not in raised.value.message
    with pytest.raises(
        ConfigurationError, match=r"Given is --source and --target: .* wanted is --input, or --source\."
    ):
        allennlp("show-attention", variational, "--source", "a", "--target", "b", "--out", "a.html")
    assert [path.name for path in tmp_path.iterdir()] == ["items.jsonl"]


def test_a_model_without_what_is_to_be_aligned_is_named(allennlp, archive, pronouncing, variational, exact, tmp_path):
    def told(*arguments: object, alignment: str = "posterior") -> str:
        with pytest.raises(ConfigurationError) as raised:
            allennlp("show-attention", *arguments, "--alignment", alignment, "--out", tmp_path / "a.svg")
        assert "\n" not in raised.value.message and not list(tmp_path.iterdir())
        return raised.value.message

    pair = ("--source", "c a t", "--target", "k a t")
    assert told(variational, pronouncing, *pair) == (
        'The model "sparsemax" has no posterior: it has no "latent_alignment" but "soft".'
    )
    answered = ("--question", "what color is it?", "--image-id", "validation-3", "--answer")
    assert told(exact, *answered, "red", alignment="approximate_posterior") == (
        'The model "exact" has no approximate posterior: its "latent_alignment" has no inference network, as '
        '"variational" and "dirichlet" have.'
    )
    assert re.match(
        r"Item 1, .* cannot be shown: the model does not know the answer .zebra.", told(exact, *answered, "zebra")
    )
    no_alignment = told(archive, "--premise", "A.", "--hypothesis", "B.")
    assert no_alignment == '--alignment is "posterior", but models for the task "entailment" have no latent alignment.'


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
    assert of_two["metrics"].keys() == of_nine["metrics"].keys()
    for name, value in of_two["metrics"].items():
        # By rounding, a weight at the edge of a sparse attention's support may be in it in the one batch alone.
        counts_support = name.endswith(("zeros", "support_size", "segments", "distinct_weights"))
        assert value == pytest.approx(of_nine["metrics"][name], rel=0.02 if counts_support else 1e-4), name
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
