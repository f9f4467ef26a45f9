"""`allennlp show-attention`, by the real command line; its pages in a real browser."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor
from PIL import Image

from regattn_allennlp.commands import show_attention
from regattn_allennlp.visualization import attention_map
from regattn_allennlp.visualization.attention_figure import GROUP_COLOR, WORD_SIZE, attention_figure

PREMISE, HYPOTHESIS = "A small dog sleeps in the garden for $5 and $6.", "An animal is asleep."
ONE_PAIR = ("--premise", PREMISE, "--hypothesis", HYPOTHESIS)
EVIL = "A dog </script><script>alert(1)</script> <img src=x onerror=alert(2)> sleeps."
LABELS = ("entailment", "neutral", "contradiction")


@pytest.fixture(scope="module")
def archives(archive) -> list[Path]:
    """Two models under different names."""
    other = archive.parent.with_name("other")
    shutil.copytree(archive.parent, other, dirs_exist_ok=True)
    return [archive, other]


@pytest.fixture(scope="module")
def predictor(archive):
    return Predictor.from_archive(load_archive(archive), "entailment")


def write_lines(path: Path, pairs: list[dict]) -> Path:
    path.write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    return path


def data_of(page: Path) -> dict:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(data)


def texts_of(svg: Path) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("direction", [None, "premise_to_hypothesis"])
def test_an_svg_holds_words_weights_and_outlines(allennlp, archives, predictor, tmp_path, direction):
    out = tmp_path / "attention.svg"
    more = () if direction is None else ("--direction", direction)
    allennlp("show-attention", *archives, *ONE_PAIR, "--out", out, *more)
    prediction = predictor.predict(PREMISE, HYPOTHESIS)
    expected = attention_map(prediction, direction or "hypothesis_to_premise")
    texts = texts_of(out)
    weights = np.array(expected["weights"])
    numbers = [text for text in texts if re.fullmatch(r"\.\d\d|1", text)]
    assert len(numbers) == 2 * (weights > 0).sum() and (weights == 0).any()
    assert sorted(numbers) == sorted(2 * ["1" if w >= 0.995 else f"{w:.2f}"[1:] for w in weights[weights > 0]])
    # The rows' words are written once for both maps; those that are no number of a cell.
    for words, times in ((expected["columns"], 2), (expected["rows"], 1)):
        for word in set(words) - {"."}:
            other = expected["rows"] if times == 2 else 2 * expected["columns"]
            assert texts.count(word) == times * words.count(word) + other.count(word), word
    label = f"{prediction['label']} {prediction['probabilities'][prediction['label']]:.2f}"
    assert texts.count(label) == 2 and {"fusedmax", "other"} <= set(texts)
    runs = [runs for groups in expected["groups"] for runs in groups]
    outlines = out.read_text().count(f"stroke: {GROUP_COLOR}")
    assert outlines == 2 * sum(2 * len(runs) - 1 for runs in runs)  # boxes, and lines between them
    assert outlines or direction  # the hypothesis, as columns, is too short for groups


def test_a_model_without_self_attention_is_named(allennlp, archive, tmp_path):
    with pytest.raises(ConfigurationError, match='"fusedmax" has no self-attention premise_to_premise: in its config'):
        allennlp("show-attention", archive, *ONE_PAIR, "--head", "all", "--out", tmp_path / "a.png")


def test_a_png_is_drawn_and_overwritten(allennlp, archive, tmp_path):
    out = tmp_path / "attention.PNG"
    out.write_text("something else")
    allennlp("show-attention", archive, *ONE_PAIR, "--out", out)
    with Image.open(out) as image:
        assert image.format == "PNG" and image.width > image.height > 200
        assert len(image.convert("RGB").getcolors(100_000)) > 20
    assert [path.name for path in tmp_path.iterdir()] == ["attention.PNG"]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_pictures_of_several_pairs_are_numbered(allennlp, archive, tmp_path, suffix):
    allennlp("show-attention", archive, "--input", "sample:validation[:10]", "--out", tmp_path / f"a.{suffix}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a-{number:02}.{suffix}" for number in range(1, 11)]


def test_a_pdf_has_a_page_for_each_pair(allennlp, archive, tmp_path):
    allennlp("show-attention", archive, "--input", "sample:validation[:3]", "--out", tmp_path / "a.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    assert content.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", content)) == 3


def test_a_page_holds_the_predictions_of_all_models(allennlp, archives, predictor, tmp_path):
    out = tmp_path / "attention.html"
    allennlp("show-attention", *archives, "--input", "sample:validation[:5]", "--out", out, "--batch-size", "2")
    data = data_of(out)
    assert data["archives"] == ["fusedmax", "other"] and len(data["examples"]) == 5
    for pair in data["examples"]:
        assert pair["gold"] in LABELS
        expected = predictor.predict(**pair["inputs"])
        first, second = pair["predictions"]
        assert first == second
        assert first["text"] == expected["label"]
        assert first["probability"] == pytest.approx(expected["probabilities"][expected["label"]], rel=1e-3)
        weights, wanted = np.array(first["map"]["weights"]), np.array(expected["hypothesis_to_premise_attention"])
        assert weights == pytest.approx(wanted, rel=1e-3) and ((weights == 0) == (wanted == 0)).all()


@pytest.mark.parametrize(
    "name, content, labels",
    [
        ("a.jsonl", '{"premise": "A.", "hypothesis": "B."}\n{"premise": "C.", "hypothesis": "D."}\n', [None, None]),
        (
            "a.jsonl",
            '{"sentence1": "A.", "sentence2": "B."}\n{"sentence1": "C.", "sentence2": "D.", "gold_label": "neutral"}\n'
            '{"sentence1": "C.", "sentence2": "D.", "gold_label": "-"}\n'
            '{"sentence1": "C.", "sentence2": "D.", "gold_label": null}\n',
            [None, "neutral", None, None],
        ),
        ("a.tsv", "premise\thypothesis\nA.\tB.\n", [None]),
        ("a.csv", "premise,hypothesis,label\nA.,B.,\nC.,D.,Entailment\n", [None, "entailment"]),
    ],
)
def test_pairs_may_have_no_label(allennlp, archive, tmp_path, name, content, labels):
    (tmp_path / name).write_text(content)
    allennlp("show-attention", archive, "--input", tmp_path / name, "--out", tmp_path / "out.html")
    pairs = data_of(tmp_path / "out.html")["examples"]
    assert [pair["gold"] for pair in pairs] == labels
    assert pairs[0]["inputs"] == {"premise": "A.", "hypothesis": "B."}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((*ONE_PAIR, "--out", "a.jpg"), r'"a\.jpg" ends in "\.jpg", where one of \.html, \.pdf, \.png, \.svg'),
        ((*ONE_PAIR, "--out", "a"), r'ends in "", where one of \.html'),
        ((*ONE_PAIR, "--out", "no_such_folder/a.png"), 'folder of --out "no_such_folder/a.png" does not exist'),
        (
            (*ONE_PAIR, "--input", "pairs.jsonl", "--out", "a.png"),
            '--input and --premise and --hypothesis: for the task "entailment" wanted',
        ),
        (("--out", "a.png"), "Given is no item: .* wanted is --input, or both --premise and --hypothesis"),
        (("--premise", "A.", "--out", "a.png"), "Given is --premise: .* wanted"),
        (("--premise", " ", "--hypothesis", "A.", "--out", "a.png"), "--premise must be a text, but is ' '"),
        (
            ("--source", "A.", "--out", "a.png"),
            'Given is --source: for the task "entailment" wanted is --input, or both',
        ),
        ((*ONE_PAIR, "--image-id", "7", "--out", "a.png"), "--hypothesis and --image-id: for the task"),
        (
            (*ONE_PAIR, "--direction", "target_to_source", "--out", "a.png"),
            '"target_to_source", which is none of .*"entailment": hypothesis_to_premise, premise_to_hypothesis',
        ),
        (
            (*ONE_PAIR, "--direction", "premise_to_hypothesis", "--layer", "0", "--out", "a.png"),
            'none of self-attention in .*"entailment": premise_to_premise, hypothesis_to_hypothesis',
        ),
        (
            (*ONE_PAIR, "--head", "-1", "--out", "a.png"),
            '--head must be a number from 0 on, "all" or "mean", but is "-1"',
        ),
        ((*ONE_PAIR, "--out", "a.png", "--batch-size", "0"), "--batch-size must be at least 1, but is 0"),
        ((*ONE_PAIR, "--out", "a.png", "--cuda-device", "77"), "(?i)gpu"),
        (("--input", "no_such.jsonl", "--out", "a.png"), "no_such.jsonl"),
        (("--input", "bad.jsonl", "--out", "a.html"), r"bad\.jsonl, line 2: not JSON"),
        (("--input", "label.jsonl", "--out", "a.html"), r"label\.jsonl, line 2: .*'perhaps'.*entailment, neutral"),
        (("--input", "empty.jsonl", "--out", "a.html"), r"""empty\.jsonl, line 2: "hypothesis" is ''"""),
        (("--input", "sample:validation[7:3]", "--out", "a.html"), "selects none"),
    ],
)
def test_mistakes_are_named_before_a_model_is_loaded(allennlp, archive, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(show_attention, "load_predictors", lambda *_: pytest.fail("loaded a model"))
    pair = {"premise": "A.", "hypothesis": "B.", "label": "neutral"}
    write_lines(tmp_path / "label.jsonl", [pair, {**pair, "label": "perhaps"}])
    write_lines(tmp_path / "empty.jsonl", [pair, {**pair, "hypothesis": ""}])
    (tmp_path / "bad.jsonl").write_text(f"{json.dumps(pair)}\n{{\n")
    before = set(tmp_path.iterdir())
    with pytest.raises(ConfigurationError, match=message):
        allennlp("show-attention", archive, *arguments)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("wrong", ["no_such_archive", "empty_folder", "no_archive.tar.gz"])
def test_a_wrong_archive_is_named_before_another_is_loaded(allennlp, archive, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(show_attention, "load_predictors", lambda *_: pytest.fail("loaded a model"))
    (tmp_path / "empty_folder").mkdir()
    (tmp_path / "no_archive.tar.gz").write_text("text")
    with pytest.raises(ConfigurationError, match=rf'{wrong}" is no archive .*`allennlp train -s` wrote'):
        allennlp("show-attention", archive, tmp_path / wrong, *ONE_PAIR, "--out", tmp_path / "a.png")


def test_help_teaches(allennlp, capsys):
    with pytest.raises(SystemExit):
        allennlp("show-attention", "--help")
    text = capsys.readouterr().out
    assert "\n    allennlp show-attention output/softmax" in text and "attention-01.png" in text


@pytest.mark.parametrize("columns", [["MW"] * 5, ["dog", "睡觉"], ["睡觉睡"] * 5])
def test_only_words_that_fit_their_columns_stand_upright(columns):
    weights = [[1 / len(columns)] * len(columns)]
    prediction = {
        "hypothesis_tokens": ["word"], "premise_tokens": columns, "hypothesis_to_premise_attention": weights
    }  # fmt: skip
    figure = attention_figure(["one"], [attention_map(prediction)])
    labels = figure.axes[0].get_xticklabels()
    assert {label.get_rotation() for label in labels} == ({0} if max(map(len, columns)) == 2 else {60})
    if labels[0].get_rotation() == 0:
        boxes = [label.get_window_extent(figure.canvas.get_renderer()) for label in labels]
        assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize("columns", [["a"], ["extraordinarily"] * 70, ["ארוכותמאוד"] * 30])
def test_words_of_a_picture_do_not_overlap(columns):
    weight = 1 / len(columns)
    figure = attention_figure(
        ["one", "another"],
        [attention_map({
            "hypothesis_tokens": ["friendly"] * 3, "premise_tokens": columns,
            "hypothesis_to_premise_attention": [[weight] * len(columns)] * 3,
        })] * 2,
    )  # fmt: skip
    figure.canvas.draw()
    whole = figure.bbox
    for axes in figure.axes:
        box = axes.get_tightbbox(figure.canvas.get_renderer())
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1
        # Words turned by 60 degrees, at least the height of their letters apart.
        places = sorted(axes.transData.transform((tick, 0))[0] for tick in axes.get_xticks())
        letters = WORD_SIZE / 72 * figure.dpi
        assert all(right - left >= letters / np.sin(np.radians(60)) for left, right in pairwise(places))
    first, second = (axes.get_tightbbox(figure.canvas.get_renderer()) for axes in figure.axes)
    assert first.x1 <= second.x0 or first.y0 >= second.y1


@pytest.fixture(scope="module")
def html(allennlp, archives, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("html")
    pairs = [
        {"premise": f"The {number} dogs run.", "hypothesis": "An animal runs.", "label": LABELS[number % 3]}
        for number in range(12)
    ]
    pairs[1]["premise"] = EVIL
    del pairs[2]["label"]
    write_lines(folder / "pairs.jsonl", pairs)
    allennlp("show-attention", *archives, "--input", folder / "pairs.jsonl", "--out", folder / "attention.html")
    return folder / "attention.html"


@pytest.fixture
def opened(page, html):
    """The page in a browser, where nothing else may be fetched."""
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", lambda dialog: requests.append(f"a script ran: {dialog.message}"))
    page.goto(html.as_uri())
    yield page
    assert requests == [html.as_uri()]


def premises(page) -> list[str]:
    return page.locator("article h2 div:first-child bdi").all_inner_texts()


def test_page_shows_markup_in_a_sentence_as_text(opened):
    assert premises(opened)[1] == EVIL
    assert opened.locator("article script, article img").count() == 0
    assert any("script" in text for text in opened.locator("article").nth(1).locator("th").all_inner_texts())


def test_page_gives_weights_of_all_models(opened, html):
    pair = data_of(html)["examples"][0]
    assert opened.locator("article").nth(0).locator("h3").all_inner_texts() == [
        f"{name}: {prediction['text']} {prediction['probability']:.2f}"
        for name, prediction in zip(("fusedmax", "other"), pair["predictions"], strict=True)
    ]
    second = opened.locator("article").nth(0).locator(".heat-map").nth(1)
    second.locator("td").nth(1).hover()
    weight = float(f"{pair['predictions'][1]['map']['weights'][0][1]:.3g}")
    text = re.sub("[\u2068\u2069]", "", second.locator(".readout").inner_text())
    assert re.match(rf"hypothesis word “An” attends to premise word “0”: {weight:g}(,|$)", text)


def test_page_turns_its_pages(opened):
    position, previous, following = (opened.locator(f"#{name}") for name in ("position", "previous", "next"))
    assert position.inner_text() == "Items 1 to 5 of 12" and previous.is_disabled()
    assert opened.locator("article").count() == 5
    following.click()
    following.click()
    assert position.inner_text() == "Items 11 to 12 of 12" and following.is_disabled()
    assert premises(opened) == ["The 10 dogs run.", "The 11 dogs run."]
    previous.click()
    assert premises(opened)[0] == "The 5 dogs run."


def test_page_filters(opened, html):
    pairs = data_of(html)["examples"]

    def shown(**chosen) -> str:
        for name in ("gold", "predicted", "correctness", "archive"):
            opened.locator(f"#{name}").select_option(chosen.get(name, ""))
        return opened.locator("#position").inner_text()

    def expected(is_wanted) -> str:
        number = sum(map(is_wanted, pairs))
        return f"Items 1 to {min(number, 5)} of {number}" if number else "There is no such item."

    def predicted(pair) -> str:
        return pair["predictions"][0]["text"]

    for label in LABELS:
        assert shown(gold=label) == expected(lambda pair, label=label: pair["gold"] == label)
    assert shown(gold="none") == "Items 1 to 1 of 1"
    for label in {predicted(pair) for pair in pairs}:
        assert shown(predicted=label) == expected(lambda pair, label=label: predicted(pair) == label)
    right = expected(lambda pair: pair["gold"] == predicted(pair))
    wrong = expected(lambda pair: pair["gold"] not in (None, predicted(pair)))
    assert right != wrong
    for archive in ("", "fusedmax", "other"):
        assert shown(correctness="correct", archive=archive) == right
        assert shown(correctness="wrong", archive=archive) == wrong
    some = predicted(pairs[0])
    assert shown(gold=some, correctness="wrong", predicted=some) == "There is no such item."
    assert opened.locator("article").count() == 0


def test_page_without_labels_has_nothing_to_filter_them_by(allennlp, archive, page, tmp_path):
    lines = write_lines(tmp_path / "a.jsonl", [{"premise": "A dog.", "hypothesis": "A cat."}] * 2)
    allennlp("show-attention", archive, "--input", lines, "--out", tmp_path / "a.html")
    page.goto((tmp_path / "a.html").as_uri())
    visible = [label.inner_text().split("\n")[0] for label in page.locator("label").all() if label.is_visible()]
    assert [text.strip() for text in visible] == ["Predicted answer"]
