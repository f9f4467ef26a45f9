"""Attention in notebooks: the example in docs/, and what a notebook does with what its cells return."""

import json
import re

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.predictors import Predictor

from regattn_allennlp.visualization import AttentionHtml, attention_html
from tests.conftest import PROJECT_ROOT, SMALL

NOTEBOOK = PROJECT_ROOT / "docs" / "attention.ipynb"
PAIR = {"premise": 'A dog\'s "bone" & </iframe><b>more</b>', "hypothesis": "A 'cat' &amp; &#39;"}


@pytest.fixture(scope="module")
def predictor(archive) -> Predictor:
    return Predictor.from_path(archive)


def test_the_example_runs_and_holds_what_it_showed(archive, tmp_path, monkeypatch):
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 150_000
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert sum("text/html" in output["data"] for cell in cells for output in cell["outputs"]) == 2
    (tmp_path / "output").mkdir()
    for name in ("softmax", "fusedmax"):
        (tmp_path / "output" / name).symlink_to(archive.parent)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for cell in cells:
        exec("".join(cell["source"]), names)
    assert isinstance(names["shown"], AttentionHtml)
    assert (tmp_path / "attention.html").read_text(encoding="utf-8") == names["shown"].page


def test_a_frame_shows_the_page_whatever_the_notebooks_style(page, predictor):
    shown = attention_html({"it's": predictor, "other": predictor}, [PAIR] * 7, ["neutral"] * 7)
    assert repr(shown) == "<attention of it's, other; items: 7>"
    page.set_content(
        "<style>table, th, td { display: none } * { color: red !important }</style><main></main>"
        "<script>var drawnMaps, address = 'the notebook has names of its own'</script>"
    )
    page.evaluate("html => { document.querySelector('main').innerHTML = html }", shown._repr_html_())
    frame = page.frame_locator('iframe[title="attention of it\'s, other; items: 7"]')
    assert frame.locator("article").first.locator("dd").all_inner_texts() == [*PAIR.values(), "neutral"]
    assert frame.locator("td").first.is_visible()
    assert frame.locator("td").first.evaluate("cell => getComputedStyle(cell).color") != "rgb(255, 0, 0)"
    # The frame is as high as its page.
    assert page.locator("iframe").bounding_box()["height"] > 1000
    frame.get_by_role("button", name="Next").first.click()
    assert frame.locator("h2").all_inner_texts() == ["Item 6", "Item 7"]
    frame.locator("h2 a").nth(1).click()
    assert frame.locator("h2").all_inner_texts() == ["Item 6", "Item 7"]


def test_prior_and_posterior_of_given_targets_stand_side_by_side(allennlp, tmp_path):
    config = PROJECT_ROOT / "training_configs" / "g2p" / "exact.jsonnet"
    allennlp(
        "train", config, "-s", tmp_path / "exact", "--overrides", json.dumps(SMALL),
        "--include-package", "regattn_allennlp",
    )  # fmt: skip
    exact = Predictor.from_path(tmp_path / "exact" / "model.tar.gz")
    pair = {"source": "c a t", "target": "k a t"}
    shown = attention_html({"one": exact, "other": exact}, pair, alignment="posterior")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', shown.page, re.DOTALL)
    data = json.loads(data)
    assert data["archives"] == ["one, prior", "one, posterior", "other, prior", "other, posterior"]
    given = exact.predict_json(pair)["given_target"]
    ((prior, posterior, *others),) = (example["predictions"] for example in data["examples"])
    assert others == [prior, posterior] != [posterior, prior]
    for told, key in ((prior, "attention"), (posterior, "posterior")):
        for row, expected in zip(told["maps"][0]["weights"], given[key], strict=True):
            assert row == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ConfigurationError, match='"model" has no approximate posterior: its "latent_alignment"'):
        attention_html(exact, pair, alignment="approximate_posterior")
    with pytest.raises(ConfigurationError, match='"target", whose weights are to be shown'):
        attention_html(exact, {"source": "c a t"}, alignment="posterior")
    with pytest.raises(ConfigurationError, match='one of prior, posterior, approximate_posterior, but is "q"'):
        attention_html(exact, pair, alignment="q")


def test_mistakes_are_named(predictor):
    with pytest.raises(ConfigurationError, match="There are 2 golds for 1 items"):
        attention_html(predictor, PAIR, ["neutral", None])
    with pytest.raises(ConfigurationError, match=r'"model" is a str, which shows no attention; wanted .*from_path'):
        attention_html("output/softmax", PAIR)
    with pytest.raises(ConfigurationError, match='"hypothesis" is missing'):
        attention_html(predictor, {"premise": "A dog."})
