"""The heat map in a real browser."""

import json
import re

import pytest

from regattn_allennlp.visualization import attention_map
from regattn_allennlp.visualization.attention_page import FOLDER

ENGLISH = {
    "hypothesis_tokens": ["An", "animal"],
    "premise_tokens": ["Two", "dogs", "ran", "</td><b>home</b>"],
    "hypothesis_to_premise_attention": [[0.25, 0.5, 0.0, 0.25], [1 / 3, 1 / 3, 1 / 3, 0.0]],
}
HEBREW = {**ENGLISH, "premise_tokens": ["כלב", "קטן", "ישן", "."]}


@pytest.fixture
def draw(page):
    def draw(prediction, **more) -> None:
        page.set_content(f"<meta name=color-scheme content='light dark'><style>{style}</style><div></div>")
        page.add_script_tag(content=script)
        given = {**attention_map(prediction), **more}
        page.evaluate("map => renderHeatMap(document.querySelector('div'), map)", given)

    style, script = ((FOLDER / f"heat_map.{suffix}").read_text() for suffix in ("css", "js"))
    return draw


def said(page) -> str:
    """The line below the table, without what isolates words of another direction."""
    return re.sub("[\u2068\u2069]", "", page.locator(".readout").inner_text())


def test_is_a_table_with_headers_and_blank_zeros(page, draw):
    draw(ENGLISH)
    assert page.locator("tbody th").all_inner_texts() == ENGLISH["hypothesis_tokens"]
    assert page.locator("thead tr:nth-child(2) th").all_inner_texts() == ENGLISH["premise_tokens"]
    assert page.locator("td").all_inner_texts() == [".25", ".50", "", ".25", ".33", ".33", ".33", ""]
    assert page.locator("td b").count() == page.locator("th b").count() == 0


def test_pointing_says_the_weight_and_who_shares_it(page, draw):
    draw(ENGLISH)
    page.locator("td").nth(0).hover()
    assert said(page) == "hypothesis word “An” attends to premise word “Two”: 0.25, shared with “</td><b>home</b>”"
    page.locator("td").nth(1).hover()
    assert said(page) == "hypothesis word “An” attends to premise word “dogs”: 0.5"
    page.locator("td").nth(4).hover()
    assert said(page).endswith("“Two”: 0.333, shared with “dogs”, “ran”")
    assert page.locator("th.current").all_inner_texts() == ["Two", "animal"]
    assert page.locator("td.in-group").count() == 3
    page.mouse.move(0, 600)
    assert said(page) == "" and page.locator(".current").count() == 0


@pytest.mark.parametrize("prediction, forward", [(ENGLISH, "ArrowRight"), (HEBREW, "ArrowLeft")], ids=["ltr", "rtl"])
def test_arrow_keys_walk_through_the_table(page, draw, prediction, forward):
    draw(prediction)
    page.keyboard.press("Tab")
    columns = prediction["premise_tokens"]
    for key, row, column in [
        ("", 0, 0), (forward, 0, 1), (forward, 0, 2), ("ArrowDown", 1, 2), ("ArrowDown", 1, 2), ("End", 1, 3),
        (forward, 1, 3), ("Control+Home", 0, 0), ("ArrowUp", 0, 0), ("Control+End", 1, 3), ("Home", 1, 0),
    ]:  # fmt: skip
        if key:
            page.keyboard.press(key)
        assert f"“{ENGLISH['hypothesis_tokens'][row]}” attends to premise word “{columns[column]}”:" in said(page), key
        assert page.locator("td[tabindex='0']").count() == 1


def test_columns_of_a_right_to_left_sentence_run_from_right_to_left(page, draw):
    for prediction, descending in (ENGLISH, False), (HEBREW, True):
        draw(prediction)
        places = [cell.bounding_box()["x"] for cell in page.locator("tbody tr").nth(0).locator("td").all()]
        assert places == sorted(places, reverse=descending)


def test_boxes_and_lines_are_where_the_groups_are(page, draw):
    draw(ENGLISH)
    shapes = page.evaluate(
        "[...document.querySelectorAll('td')].map(td => [...td.children].map(c => c.className).join('|'))"
    )
    alone = "number|box first last"
    assert shapes == [
        alone, "number|line", "line", alone, "number|box first", "number|box", "number|box last", ""
    ]  # fmt: skip


def luminance(color: str) -> float:
    # "rgb(255, 0, 0)", or "color(srgb 1 0 0)"
    parts = [float(part) / (255 if color.startswith("rgb") else 1) for part in re.findall(r"[\d.]+(?:e-\d+)?", color)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme, darker", [("light", True), ("dark", False)])
def test_numbers_are_legible_on_every_colour(page, draw, scheme, darker):
    page.emulate_media(color_scheme=scheme)
    weights = [step / 500 for step in range(1, 501)]
    draw({
        "hypothesis_tokens": ["word"], "premise_tokens": ["word"] * 500, "hypothesis_to_premise_attention": [weights]
    })  # fmt: skip
    colors = page.evaluate(
        "[...document.querySelectorAll('td')].map(getComputedStyle).map(style => [style.backgroundColor, style.color])"
    )
    grounds = [luminance(ground) for ground, _ in colors]
    assert grounds == sorted(grounds, reverse=darker) and len(set(grounds)) > 400
    for ground, (_, text) in zip(grounds, colors, strict=True):
        low, high = sorted((ground, luminance(text)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_a_wide_map_scrolls_within_a_phone(page, draw):
    page.set_viewport_size({"width": 390, "height": 800})
    draw({
        "hypothesis_tokens": ["word"], "premise_tokens": ["word"] * 70,
        "hypothesis_to_premise_attention": [[1 / 70] * 70],
    })  # fmt: skip
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("td").nth(0).focus()
    page.keyboard.press("End")
    assert page.evaluate("document.querySelector('.scroller').scrollLeft > 300")
    assert page.locator("tbody th").bounding_box()["x"] >= 0  # the row's word stays in sight


@pytest.mark.parametrize("direction", ["hypothesis_to_premise", "premise_to_hypothesis"])
def test_attention_map_has_the_weights_of_its_direction(direction):
    prediction = {**ENGLISH, "premise_to_hypothesis_attention": [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.25, 0.75]]}
    given = attention_map(prediction, direction)
    rows, columns = direction.split("_to_")
    assert (given["rowTitle"], given["columnTitle"]) == (rows, columns)
    assert given["rows"] == prediction[f"{rows}_tokens"] and given["columns"] == prediction[f"{columns}_tokens"]
    assert given["weights"] == prediction[f"{direction}_attention"]
    assert [len(groups) for groups in given["groups"]] == ([1, 1] if rows == "hypothesis" else [0, 1, 0, 0])
    json.dumps(given)


def test_a_word_that_occurs_twice_is_no_group():
    given = attention_map({
        "hypothesis_tokens": ["it"], "premise_tokens": ["A", "dog", "a", "cat"],
        "hypothesis_to_premise_attention": [[0.25, 0.3, 0.25, 0.2]],
    })  # fmt: skip
    assert given["groups"] == [[]]
    given = attention_map({
        "hypothesis_tokens": ["it"], "premise_tokens": ["A", "dog", "a", "cat"],
        "hypothesis_to_premise_attention": [[0.25, 0.25, 0.25, 0.25]],
    })  # fmt: skip
    assert given["groups"] == [[[(0, 4)]]]
    assert given["unknownRows"] == given["unknownColumns"] == []


def test_words_that_are_one_to_the_model_are_no_group():
    given = attention_map({
        "hypothesis_tokens": ["it"], "premise_tokens": ["A", "blorp", "a", "frob", "cat"], "premise_unknown": [1, 3],
        "premise_same_as": [0, 1, 2, 1, 4], "hypothesis_to_premise_attention": [[0.2, 0.3, 0.2, 0.3, 0.0]],
    })  # fmt: skip
    assert given["groups"] == [[[(0, 1), (2, 3)]]]  # "A" and "a" are two words to this model
    assert (given["unknownRows"], given["unknownColumns"]) == ([], [1, 3])


@pytest.mark.parametrize(
    "tokens, expected",
    [(["12", "-", "dogs"], False), (["12", "כלב", "dog"], True), (["كلب"], True), (["狗"], False), (["."], False)],
)
def test_the_first_letter_tells_the_direction(tokens, expected):
    assert attention_map({**ENGLISH, "premise_tokens": tokens})["rightToLeft"] is expected


REGIONS = {
    "rows": ["What is it?"], "columns": ["red circle", "", "3", "</div><b>blue</b> square with a long name"],
    "weights": [[0.25, 0.0, 0.5, 0.25]], "groups": [[[[0, 1], [3, 4]]]],
    "boxes": [[0.1, 0.1, 0.9, 0.9], [0.6, 0.6, 0.7, 0.7], [0.2, 0.2, 0.4, 0.4], [0.5, 0.1, 0.8, 0.3]],
    "rowTitle": "question", "columnTitle": "regions",
}  # fmt: skip


@pytest.fixture
def draw_regions(page):
    style, script = ((FOLDER / f"heat_map.{suffix}").read_text() for suffix in ("css", "js"))
    page.set_content(f"<meta name=color-scheme content='light dark'><style>{style}</style><div></div>")
    page.add_script_tag(content=script)
    return lambda map: page.evaluate("map => renderRegions(document.querySelector('div'), map)", map)


def test_regions_lie_where_their_boxes_are_and_can_be_pointed_at(page, draw_regions):
    draw_regions(REGIONS)
    picture = page.locator(".picture").bounding_box()
    assert picture["width"] == pytest.approx(picture["height"])
    for region, (left, top, right, bottom) in zip(page.locator(".region").all(), REGIONS["boxes"], strict=True):
        box = region.bounding_box()
        assert (box["x"] - picture["x"]) / picture["width"] == pytest.approx(left, abs=0.01)
        assert (box["y"] - picture["y"]) / picture["height"] == pytest.approx(top, abs=0.01)
        assert box["width"] / picture["width"] == pytest.approx(right - left, abs=0.01)
        assert box["height"] / picture["height"] == pytest.approx(bottom - top, abs=0.01)
        region.hover()  # also the small ones in the large one
    page.locator(".region").nth(3).hover()
    name = "</div><b>blue</b> square with a long name"
    assert said(page) == f"region 4 “{name}”: 0.25, shared with region 1 “red circle”"
    assert page.locator(".region.in-group").count() == 2
    page.locator(".region").nth(2).hover()
    assert said(page) == "region 3: 0.5"
    page.mouse.move(0, 700)
    assert said(page) == "" and page.locator(".current").count() == 0


def test_labels_of_regions_say_the_weights_that_are_not_zero(page, draw_regions):
    draw_regions(REGIONS)
    # Without a picture, what has no weight is named, too.
    assert sorted(page.locator(".label").all_inner_texts()) == [
        ".25 </div><b>blue</b> squ…",
        ".25 red circle",
        ".50 3",
        "2",
    ]
    boxes = [label.bounding_box() for label in page.locator(".label").all()]
    for index, one in enumerate(boxes):
        for other in boxes[:index]:
            beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            assert beside or one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
    shades = page.evaluate(
        "[...document.querySelectorAll('.region')].map(region => getComputedStyle(region).backgroundColor)"
    )
    assert len(set(shades)) == 3 and shades[0] == shades[3]
    opacity = [float(shade.rstrip(")").split("/")[-1]) for shade in shades]
    assert opacity == pytest.approx([0.2, 0, 0.4, 0.2], abs=0.01)


def test_keys_walk_through_the_regions(page, draw_regions):
    draw_regions(REGIONS)
    page.keyboard.press("Tab")
    for key, number in [
        ("", 1), ("ArrowRight", 2), ("ArrowDown", 3), ("End", 4), ("ArrowRight", 4), ("ArrowLeft", 3), ("ArrowUp", 2),
        ("Home", 1), ("ArrowLeft", 1),
    ]:  # fmt: skip
        if key:
            page.keyboard.press(key)
        assert said(page).startswith(f"region {number}"), key
        assert page.locator(".region[tabindex='0']").count() == 1
        assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(f"region {number}")
