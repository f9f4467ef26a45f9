"""The page's search among many items, in a real browser, against the same search written here in Python."""

import random
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest

from regattn_allennlp.visualization import attention_map
from regattn_allennlp.visualization.attention_page import attention_page

LABELS = ("entailment", "neutral", "contradiction")
NAMES = ["softmax", "fusedmax", "oscar, max"]
WORDS = ["A", "dog", "DOGS", "Straße", "runs", "</script>"]
DIRECTIONS = ("hypothesis_to_premise", "premise_to_hypothesis")


def weights(source: random.Random, rows: int, columns: int) -> list[list[float]]:
    """With some that are exactly 0."""
    drawn = np.array([[max(source.random() - 0.5, 0) for _ in range(columns)] for _ in range(rows)]) + 0.0
    drawn[:, 0] += 0.01
    return (drawn / drawn.sum(axis=1, keepdims=True)).tolist()


def items() -> list[dict]:
    source = random.Random(0)
    found = []
    for number in range(23):
        premise, hypothesis = (source.choices(WORDS, k=source.randint(2, 5)) for _ in range(2))
        predictions = []
        for _ in NAMES:
            prediction = {
                "premise_tokens": premise,
                "hypothesis_tokens": hypothesis,
                "hypothesis_to_premise_attention": weights(source, len(hypothesis), len(premise)),
                "premise_to_hypothesis_attention": weights(source, len(premise), len(hypothesis)),
            }
            maps = [{**attention_map(prediction, one), "unknownRows": [1], "unknownColumns": []} for one in DIRECTIONS]
            predictions.append(
                {"text": source.choice(LABELS), "probability": round(source.uniform(0.4, 1), 3), "maps": maps}
            )
        inputs = {"premise": " ".join(premise), "hypothesis": " ".join(hypothesis)}
        gold = None if number % 7 == 3 else source.choice(LABELS)
        found.append({"inputs": inputs, "gold": gold, "predictions": predictions})
    return found


ITEMS = items()
ITEMS[4]["inputs"]["premise"] += " zebra"


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "attention.html"
    path.write_text(attention_page(NAMES, ITEMS), encoding="utf-8")
    return path.as_uri()


def shown(page) -> list[int]:
    """The items on all pages, by their positions in the file."""
    found = []
    while True:
        found += [int(text.removeprefix("Item ")) - 1 for text in page.locator("article h2").all_inner_texts()]
        following = page.get_by_role("button", name="Next").first
        if following.is_disabled():
            return found
        following.click()


def zero_share(item: dict, which: int, direction: int = 0) -> float:
    return float((np.array(item["predictions"][which]["maps"][direction]["weights"]) == 0).mean())


def mean_of(value) -> float:
    return float(np.mean([value(which) for which in range(len(NAMES))]))


def says(item: dict, which: int) -> str:
    return item["predictions"][which]["text"]


def differing(item: dict) -> tuple[int, float]:
    texts, probabilities = zip(*((one["text"], one["probability"]) for one in item["predictions"]), strict=True)
    return sum(texts[i] != texts[j] for i in range(3) for j in range(i)), max(probabilities) - min(probabilities)


def confidence(item: dict) -> float:
    return mean_of(lambda which: item["predictions"][which]["probability"])


def is_in(word: str, item: dict) -> bool:
    texts = [*item["inputs"].values(), item["gold"] or "", *(one["text"] for one in item["predictions"])]
    return any(word.casefold() in text.casefold() for text in texts)


@pytest.mark.parametrize(
    "chosen, is_wanted",
    [
        ({"models": "disagree"}, lambda item: len({one["text"] for one in item["predictions"]}) > 1),
        (
            {"models": "oscar, max right, softmax wrong"},
            lambda item: item["gold"] not in (None, says(item, 0)) and item["gold"] == says(item, 2),
        ),
        ({"word": "STRASSE"}, lambda item: is_in("straße", item)),
        ({"word": "neutral"}, lambda item: is_in("neutral", item)),
        (
            {"correctness": "wrong", "archive": "fusedmax", "word": "dogs"},
            lambda item: item["gold"] not in (None, says(item, 1)) and is_in("dogs", item),
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_finds_what_is_asked_for(page, address, chosen, is_wanted):
    page.goto(address)
    for name, value in chosen.items():
        field = page.locator(f"#{name}")
        field.fill(value) if name == "word" else field.select_option(value)
    expected = [position for position, item in enumerate(ITEMS) if is_wanted(item)]
    assert 0 < len(expected) < len(ITEMS)
    assert shown(page) == expected


@pytest.mark.parametrize(
    "chosen, key",
    [
        ({"sort": "most confident first"}, lambda item: -confidence(item)),
        (
            {"sort": "least confident first", "archive": "fusedmax"},
            lambda item: item["predictions"][1]["probability"],
        ),
        ({"sort": "most disagreement first"}, lambda item: tuple(-value for value in differing(item))),
        ({"sort": "sparsest first"}, lambda item: -mean_of(lambda which: zero_share(item, which))),
        (
            {"sort": "densest first", "archive": "softmax", "direction": DIRECTIONS[1]},
            lambda item: zero_share(item, 0, 1),
        ),
    ],
    ids=lambda value: value["sort"] if isinstance(value, dict) else "",
)
def test_orders_items_and_the_address_says_how(page, address, chosen, key):
    page.goto(address)
    for name, value in chosen.items():
        page.locator(f"#{name}").select_option(value)
    keys = [key(ITEMS[position]) for position in shown(page)]
    assert len(keys) == len(ITEMS) and keys != [key(item) for item in ITEMS]
    rounded = [np.round(value, 6).tolist() for value in keys]
    assert rounded == sorted(rounded)
    link = {name: values[0] for name, values in parse_qs(urlsplit(page.url).fragment).items()}
    assert {name: link[name] for name in chosen} == chosen


def test_an_address_opens_to_the_same_view_and_says_what_it_passes_over(page, browser, address):
    page.goto(address)
    page.locator("#direction").select_option(DIRECTIONS[1])
    page.locator("#sort").select_option("sparsest first")
    page.get_by_role("button", name="Next").first.click()
    page.locator("article h2 a").nth(3).click()
    wanted = page.locator("article").nth(3).inner_text()
    heads = page.locator("article").nth(3).locator("thead th:first-child").all_inner_texts()
    assert "premise ↓" in heads and "hypothesis ↓" not in heads
    with browser.new_context() as context:
        other = context.new_page()
        other.set_viewport_size({"width": 1000, "height": 600})
        other.goto(page.url)
        assert other.locator("article").nth(3).inner_text() == wanted
        assert other.locator("#position").inner_text() == "Items 6 to 10 of 23"
        assert other.locator("#sort").input_value() == "sparsest first"
        # The item is in sight, although it is not the first of its page.
        assert abs(other.locator("article").nth(3).bounding_box()["y"]) < 5
        other.goto(f"{address}#gold={quote('perhaps')}&item=77")
        other.reload()
        assert "gold=perhaps, item=77" in other.locator("#notice").inner_text()
        assert other.locator("#position").inner_text() == "Items 1 to 5 of 23"


def test_keys_turn_the_pages_but_not_within_a_field_or_a_map(page, address):
    page.goto(address)
    first = page.locator("article h2").first
    page.keyboard.press("ArrowRight")
    assert first.inner_text() == "Item 6"
    page.locator("td").first.focus()
    page.keyboard.press("ArrowRight")
    page.locator("#word").focus()
    page.keyboard.press("ArrowRight")
    assert first.inner_text() == "Item 6"
    page.get_by_role("button", name="Next").first.focus()
    for _ in range(5):
        page.keyboard.press("Enter")
    assert first.inner_text() == "Item 21"
    assert page.evaluate("document.activeElement.id") == "next", "a button that does nothing more keeps the focus"
    page.keyboard.press("ArrowLeft")
    assert first.inner_text() == "Item 16"


def test_is_accessible(page, address, assert_accessible):
    page.goto(f"{address}#word=zebra")  # one item, in a sixth of the time
    assert page.get_by_role("grid", name="softmax: hypothesis attends to premise").count() == 1
    page.locator("td").nth(1).focus()
    assert_accessible(page)


# WCAG 2.2, 1.4.12: what a reader may set without losing anything.
SPACING = """* { line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important; }
p { margin-bottom: 2em !important; }"""
CLIPPED = """[...document.querySelectorAll("body *")].filter((element) => {
    const style = getComputedStyle(element);
    const isCut = style.overflowX === "hidden" || style.overflowY === "hidden";
    return isCut && (element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1);
}).map((element) => element.outerHTML)"""


@pytest.mark.parametrize("width", [360, 1280])
def test_wider_spacing_of_text_clips_nothing(page, address, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(address)
    page.add_style_tag(content=SPACING)
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # Numbers stay within their cells.
    overflowing = "[...document.querySelectorAll('td')].filter((cell) => cell.scrollWidth > cell.clientWidth).length"
    assert page.evaluate(overflowing) == 0
