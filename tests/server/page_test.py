"""The page of `allennlp serve-attention` in a real browser."""

import json
import re
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from playwright.sync_api import expect

PREMISE = "A small dog is sleeping in the garden."
HYPOTHESIS = "An animal is outside."
SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)</script> dog"


def link(address, **parameters):
    return f"{address}/#{urlencode({'premise': PREMISE, 'hypothesis': HYPOTHESIS, **parameters})}"


def fragment_of(url):
    return {key: values[0] for key, values in parse_qs(urlsplit(url).fragment).items()}


def expect_fragment(page, is_wanted):
    """The page writes its address a little after a change, on a busy machine not so little."""
    page.wait_for_url(lambda url: is_wanted(fragment_of(url)), wait_until="commit")


def settle(page):
    """Waits until the page has been answered; for what happens after a pause, the pause is waited for too."""
    page.wait_for_timeout(300)
    expect(page.locator("#archives")).to_have_attribute("aria-busy", "false")
    page.wait_for_function("document.querySelectorAll('article td').length > 0")


def card(page, name):
    return page.get_by_role("article", name=name)


def numbers(page, name):
    """The cells of a map as they are shown; a dot stands for a weight that would round to .00."""
    return (
        card(page, name)
        .locator("tbody tr")
        .evaluate_all(
            "lines => lines.map(line => [...line.querySelectorAll('td')].map("
            "cell => cell.textContent.replace('\u00b7', '.00')))"
        )
    )


def answer(address, **request):
    response = httpx.post(f"{address}/api/attention", json={"premise": PREMISE, "hypothesis": HYPOTHESIS, **request})
    return {archive["name"]: archive for archive in response.json()["archives"]}


def shown(weights):
    def number(weight):
        return "" if weight == 0 else "1" if weight >= 0.995 else f"{weight:.2f}"[1:]

    return [[number(weight) for weight in row] for row in weights]


def test_types_sentences_and_sees_what_the_json_says(page, address):
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    # What is typed as soon as the page lets one type is kept, however late the server says what is loaded.
    page.route("**/api/archives", lambda route: (page.wait_for_timeout(500), route.continue_()))
    page.goto(address)
    page.get_by_label("Premise", exact=True).fill(PREMISE)
    page.get_by_label("Hypothesis", exact=True).fill(HYPOTHESIS)
    settle(page)
    for name, archive in answer(address).items():
        assert numbers(page, name) == shown(archive["hypothesis_to_premise"]["weights"])
        bars = card(page, name).get_by_role("listitem").all_inner_texts()
        assert [text.split() for text in bars] == [
            [label, f"{probability:.3f}"] for label, probability in sorted(archive["probabilities"].items())
        ]
        most_probable = card(page, name).locator(".most-probable").inner_text()
        assert most_probable.split()[0] == archive["label"]
    assert any("" in row for row in numbers(page, "fusedmax")), "no weight of 0 to be blank"

    page.get_by_label("premise to hypothesis").check()
    for name, archive in answer(address).items():
        assert numbers(page, name) == shown(archive["premise_to_hypothesis"]["weights"])
    wanted = {"premise": PREMISE, "hypothesis": HYPOTHESIS, "direction": "premise_to_hypothesis"}
    expect_fragment(page, lambda link: link == wanted)
    assert {urlsplit(url).netloc for url in requested} == {urlsplit(address).netloc}


def test_a_slider_moved_by_keyboard_changes_weights_and_link(page, address):
    page.goto(link(address))
    settle(page)
    trained = numbers(page, "fusedmax")
    slider = page.get_by_label("gamma of fusedmax")
    assert slider.get_attribute("aria-valuetext") == "1, as trained"
    expect(card(page, "fusedmax")).to_contain_text("trained 1")
    slider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    settle(page)
    assert slider.get_attribute("aria-valuetext") == "0.1, trained 1"
    expect_fragment(page, lambda link: link.get("fusedmax.gamma") == "0.1")
    expected = answer(address, regularization={"fusedmax": {"gamma": 0.1}})
    assert numbers(page, "fusedmax") == shown(expected["fusedmax"]["hypothesis_to_premise"]["weights"]) != trained
    assert numbers(page, "entmax") == shown(expected["entmax"]["hypothesis_to_premise"]["weights"])

    page.get_by_label("lam of fusedmax").press("Home")
    settle(page)
    expect_fragment(page, lambda link: link.get("fusedmax.lam") == "0")

    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert numbers(page, "fusedmax") == trained
    assert slider.get_attribute("aria-valuetext") == "1, as trained"
    expect_fragment(page, lambda link: set(link) == {"premise", "hypothesis", "direction"})


def test_sliders_move_together_to_the_same_multiple(page, address):
    page.goto(link(address))
    settle(page)
    page.get_by_label("together").check()
    page.get_by_label("gamma of fusedmax").press("PageUp")
    settle(page)
    expect_fragment(page, lambda link: {"fusedmax.gamma", "entmax.gamma"} <= set(link))
    moved = fragment_of(page.url)
    assert float(moved["fusedmax.gamma"]) > 1
    assert float(moved["entmax.gamma"]) == pytest.approx(float(moved["fusedmax.gamma"]) / 2, rel=0.01)
    assert "entmax.alpha" not in moved


def test_a_link_shows_the_same_in_a_new_page(page, browser, address):
    values = {"fusedmax.lam": "2.5", "entmax.alpha": "1", "direction": "premise_to_hypothesis"}
    page.goto(link(address, **values))
    settle(page)
    expected = answer(address, regularization={"fusedmax": {"lam": 2.5}, "entmax": {"alpha": 1}})
    page.get_by_label("gamma of entmax").press("ArrowRight")
    settle(page)
    with browser.new_context() as context:
        other = context.new_page()
        other.goto(page.url)
        settle(other)
        assert other.get_by_label("Premise", exact=True).input_value() == PREMISE
        assert other.get_by_label("premise to hypothesis").is_checked()
        assert other.get_by_label("lam of fusedmax").get_attribute("aria-valuetext") == "2.5, trained 0.1"
        assert other.get_by_label("alpha of entmax").get_attribute("aria-valuetext") == "1, trained 1.5"
        assert numbers(other, "fusedmax") == shown(expected["fusedmax"]["premise_to_hypothesis"]["weights"])
        for name in "fusedmax", "entmax":
            assert numbers(other, name) == numbers(page, name)
        assert other.locator("#status").inner_text() == page.locator("#status").inner_text()


def test_back_and_forward_go_through_what_was_shown(page, address):
    page.goto(link(address))
    settle(page)
    at_first = numbers(page, "fusedmax")
    page.get_by_role("button", name="in the library").click()
    settle(page)
    example = page.get_by_label("Premise", exact=True).input_value()
    assert "library" in example
    for _ in range(3):
        page.get_by_label("lam of fusedmax").press("ArrowRight")
        settle(page)
    page.go_back()
    settle(page)
    expect_fragment(page, lambda link: "fusedmax.lam" not in link)  # moves of one slider are one step
    assert page.get_by_label("Premise", exact=True).input_value() == example
    page.go_back()
    settle(page)
    assert page.get_by_label("Premise", exact=True).input_value() == PREMISE
    assert numbers(page, "fusedmax") == at_first
    page.go_forward()
    settle(page)
    assert page.get_by_label("Premise", exact=True).input_value() == example


def test_copies_the_link(page, address):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(link(address))
    settle(page)
    page.get_by_label("lam of fusedmax").press("ArrowRight")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_text("The link is copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    expect_fragment(page, lambda link: "fusedmax.lam" in link)


def test_markup_in_a_sentence_is_text(page, address):
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.goto(link(address, premise=SCRIPT, hypothesis=SCRIPT))
    settle(page)
    assert page.get_by_label("Premise", exact=True).input_value() == SCRIPT
    words = card(page, "fusedmax").locator("tbody th").all_inner_texts()
    assert "".join(words) == SCRIPT.replace(" ", "")
    assert page.locator("main img, main script").count() == 0


def test_answers_that_come_out_of_order_are_not_shown(page, address):
    page.goto(link(address))
    settle(page)
    delayed = []

    def delay_the_first(route):
        if not delayed:
            delayed.append(json.loads(route.request.post_data))
            page.wait_for_timeout(1000)
        try:
            route.continue_()
        except Exception:  # the page has given the request up
            delayed.append("given up")

    page.route("**/api/attention", delay_the_first)
    page.get_by_label("Hypothesis", exact=True).fill("A cat.")
    page.wait_for_timeout(250)
    page.get_by_label("Hypothesis", exact=True).fill("Nobody is sleeping.")
    page.wait_for_timeout(1500)
    settle(page)
    assert delayed[0]["hypothesis"] == "A cat."
    assert card(page, "fusedmax").locator("tbody th").all_inner_texts() == ["Nobody", "is", "sleeping", "."]


def test_errors_are_said_and_nothing_stale_is_shown(browser, address):
    with browser.new_context() as context:  # the browser writes a refused request to the console: not a defect here
        page = context.new_page()
        page.goto(link(address))
        settle(page)
        page.get_by_label("Premise", exact=True).fill("a " * 101)
        expect(page.get_by_role("alert")).to_contain_text("101 words and punctuation marks; no more than 100")
        assert page.locator("article td").count() == 0
        premise = page.get_by_label("Premise", exact=True)
        assert premise.get_attribute("aria-invalid") == "true"
        assert premise.get_attribute("aria-describedby") == "error"
        assert page.get_by_label("Hypothesis", exact=True).get_attribute("aria-invalid") == "false"
        page.get_by_label("Premise", exact=True).fill("")
        expect(page.locator("#status")).to_have_text("Type a premise and a hypothesis.")
        expect(page.get_by_role("alert")).to_have_text("")
        page.get_by_label("Premise", exact=True).fill(PREMISE)
        settle(page)
        assert page.locator("article td").count() > 0

        page.goto(link(address, **{"sparsemax.gamma": "2", "fusedmax.lam": "much", "direction": "sideways"}))
        page.reload()
        settle(page)
        expect(page.locator("#notice")).to_contain_text("sparsemax.gamma=2, fusedmax.lam=much")
        for impossible in {"fusedmax.gamma": "0"}, {"entmax.alpha": "0.9"}, {"fusedmax.lam": "-7", "text": "one"}:
            page.goto(link(address, **impossible))
            passed_over = ", ".join(f"{key}={value}" for key, value in impossible.items())
            expect(page.locator("#notice")).to_contain_text(f"passed over: {passed_over}")
            settle(page)

        page.goto(link(address))
        settle(page)
        page.route("**/api/attention", lambda route: route.abort())
        page.get_by_label("lam of fusedmax").press("ArrowRight")
        expect(page.get_by_role("alert")).to_contain_text("The server does not answer")


@pytest.mark.parametrize("premise", [PREMISE, "a wonderfully " * 45 + "Donaudampfschifffahrtsgesellschaftskapitän"])
def test_a_phone_scrolls_the_page_in_one_direction(page, address, premise):
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(link(address, premise=premise))
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.get_by_label("premise to hypothesis").check()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_everything_is_reached_by_the_tab_key_and_seen_there(page, address):
    page.goto(link(address))
    settle(page)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
                const element = document.activeElement;
                const style = getComputedStyle(element);
                return [element.labels?.[0]?.textContent || element.getAttribute("aria-label") || element.textContent,
                        style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2, element.tagName];
            }"""
        )
        if focused[2] == "BODY":
            break
        reached.append(focused)
    names = [re.sub(r"\s+", " ", name).strip() for name, _, _ in reached]
    wanted = [
        "Premise", "Hypothesis", "Gold answer.*", "Predicted answer.*", "Prediction.*", "of.*", "Models.*", "Word",
        "Order.*", "Next", "1 A brown dog is .*gold: entailment fusedmax: .*", *[r"\d .*"] * 7,
        "hypothesis to premise", "move all models. together", "gradient . input", "Reset to trained values.*",
        "Copy link to this view", "SVG", "PNG", "A", "An",
        "gamma of fusedmax", "lam of fusedmax", "What gamma and lam do", ".*", "gamma of entmax", "alpha of entmax",
        "What gamma and alpha do", ".*", "what is loaded", "the schema",
    ]  # fmt: skip
    # A map that is wider than its card is a stop of its own, so that the arrow keys scroll it.
    assert len(names) == len(wanted) and all(map(re.fullmatch, wanted, names)), names
    assert all(seen for _, seen, _ in reached), reached


# WCAG's relative luminance and contrast, of every element that has text of its own.
CONTRASTS = """() => {
    const channels = (color) => {
        const canvas = new OffscreenCanvas(1, 1).getContext("2d");
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = ([red, green, blue]) => {
        const linear = (value) => value <= 10.31 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4;
        return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
    };
    const background = (element) => {
        const own = channels(getComputedStyle(element).backgroundColor);
        return own[3] === 255 ? own : background(element.parentElement);
    };
    return [...document.querySelectorAll("body *")]
        .filter((element) => element.checkVisibility() && element.getClientRects().length &&
            [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
        .map((element) => {
            const colors = [channels(getComputedStyle(element).color), background(element)];
            const [darker, lighter] = colors.map(luminance).sort((one, other) => one - other);
            return [(lighter + 0.05) / (darker + 0.05), element.outerHTML.slice(0, 100)];
        });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(page, address, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(link(address))
    settle(page)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 60
    assert min(contrasts)[0] >= 4.5, sorted(contrasts)[:5]


@pytest.fixture
def slow_answers(page):
    """The requests, each of which is answered after 300 milliseconds; and how many are under way at most."""
    seen = {"requests": [], "under_way": 0, "most": 0}

    def answer(route):
        seen["requests"].append(json.loads(route.request.post_data))
        seen["under_way"] += 1
        seen["most"] = max(seen["most"], seen["under_way"])
        response = route.fetch()
        page.wait_for_timeout(300)
        seen["under_way"] -= 1
        route.fulfill(response=response)

    page.route("**/api/attention", answer)
    return seen


def test_maps_follow_a_slider_while_it_moves_and_are_never_of_another_value(page, address, slow_answers):
    page.goto(link(address))
    settle(page)
    del slow_answers["requests"][:]
    page.evaluate(
        """() => {
            const slider = document.querySelector("input[type=range]");
            window.seen = [];
            new MutationObserver(() => {
                const card = slider.closest("article");
                const cells = [...card.querySelectorAll("td")].map((cell) => cell.textContent).join(" ");
                window.seen.push([card.querySelector("output").textContent, cells]);
            }).observe(slider.closest("article"), {childList: true, subtree: true});
            let position = 0;
            window.timer = setInterval(() => {
                slider.value = --position;
                slider.dispatchEvent(new Event("input", {bubbles: true}));
                if (position === -30) clearInterval(window.timer);
            }, 50);
        }"""
    )
    page.wait_for_timeout(2500)
    settle(page)
    requests = [one["regularization"] for one in slow_answers["requests"]]
    assert 4 <= len(requests) < 30, "each step was asked for, or only the last"
    assert slow_answers["most"] == 1
    assert requests[-1] == {"fusedmax": {"gamma": pytest.approx(10**-1.5, rel=0.01)}}
    cells_of = {}
    for value, cells in page.evaluate("window.seen"):
        assert cells_of.setdefault(value, cells) == cells, f"two maps stood beside gamma {value}"
    assert len(cells_of) == len(requests) + (page.evaluate("window.seen")[0][0] == "1")


def test_a_word_is_taken_out_and_put_back_in_the_map_and_by_key(page, address):
    page.goto(link(address))
    settle(page)
    before = numbers(page, "entmax")
    card(page, "fusedmax").get_by_role("columnheader", name="sleeping").click()
    settle(page)
    out = page.get_by_role("toolbar", name="premise").get_by_role("button", name="sleeping")
    assert out.get_attribute("aria-pressed") == "true"
    expect_fragment(page, lambda link: link.get("without.premise") == "4")
    expected = answer(address, without={"premise": [4]})
    assert numbers(page, "entmax") == shown(expected["entmax"]["hypothesis_to_premise"]["weights"]) != before
    assert all(row[4] == "" for name in expected for row in numbers(page, name))
    trained = answer(address)
    for name, now in expected.items():
        label = now["label"]
        change = f"{trained[name]['probabilities'][label]:.3f} \u2192 {now['probabilities'][label]:.3f}"
        expect(card(page, name).locator(".most-probable")).to_contain_text(change)
        expect(page.locator("#status")).to_contain_text(f"{name}: {label} {change}")

    page.get_by_role("toolbar", name="premise").get_by_role("button").first.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    settle(page)
    assert numbers(page, "entmax") == before
    expect_fragment(page, lambda link: "without.premise" not in link)
    expect(out).to_be_focused()


def test_influence_stands_beside_the_attention_that_words_get(page, address):
    page.goto(link(address, influence="1"))
    settle(page)
    told = answer(address, influence=True)["fusedmax"]
    items = card(page, "fusedmax").locator(".influence").first.get_by_role("listitem").all_inner_texts()
    weights = told["hypothesis_to_premise"]["weights"]
    for column, text in enumerate(items):
        word, _, attention, *_, influence = text.split()
        assert word == told["words"]["premise"][column]
        assert float(attention) == pytest.approx(sum(row[column] for row in weights) / len(weights), abs=0.006)
        assert float(influence.replace("\u2212", "-")) == pytest.approx(
            told["influence"]["premise"][column], abs=0.006
        )


def test_the_focus_stays_in_the_map_that_is_drawn_anew(page, address):
    page.goto(link(address))
    settle(page)
    cell = card(page, "fusedmax").locator("tbody tr").nth(1).locator("td").nth(2)
    cell.focus()
    page.evaluate(
        """() => {
            const slider = document.querySelector("input[type=range]");
            slider.value = -20;
            slider.dispatchEvent(new Event("input", {bubbles: true}));
        }"""
    )
    settle(page)
    expect_fragment(page, lambda link: "fusedmax.gamma" in link)
    expect(cell).to_be_focused()


@pytest.mark.parametrize("suffix, start", [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_the_present_maps_are_saved_as_a_picture(page, address, suffix, start):
    page.goto(link(address, direction="premise_to_hypothesis"))
    settle(page)
    with page.expect_download() as download:
        page.get_by_role("button", name=suffix.upper()).click()
    assert download.value.suggested_filename == f"attention.{suffix}"
    content = download.value.path().read_bytes()
    assert content.startswith(start)
    if suffix == "svg":
        assert b"fusedmax" in content and b"garden" in content


def test_axe_finds_nothing(page, address, assert_accessible):
    page.goto(link(address, **{"influence": "1", "without.premise": "2", "fusedmax.lam": "1"}))
    settle(page)
    page.get_by_text("What gamma and lam do").click()
    assert_accessible(page)


def test_nothing_is_cut_off_where_text_is_spaced_as_wcag_wants(page, address):
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(link(address, **{"influence": "1", "fusedmax.lam": "1"}))
    settle(page)
    page.evaluate(
        """() => {
            // Through the object model: the page lets no style element in.
            const sheet = new CSSStyleSheet();
            sheet.replaceSync("* { line-height: 1.5 !important; letter-spacing: .12em !important; "
                + "word-spacing: .16em !important } p { margin-bottom: 2em !important }");
            document.adoptedStyleSheets = [sheet];
        }"""
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    cut = page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter((element) =>
            element.checkVisibility() && getComputedStyle(element).overflowX === "hidden" &&
            !element.closest(".for-screen-readers, thead, textarea") &&
            (element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1)
        ).map((element) => element.outerHTML.slice(0, 100))"""
    )
    assert cut == []


def test_the_users_items_are_offered_and_found(page, address):
    page.goto(address)
    settle(page)
    offered = page.locator("#offered").get_by_role("button")
    assert page.get_by_label("Premise", exact=True).input_value() == "A brown dog is sleeping in the garden."
    expect(page.locator("#status")).to_contain_text("gold: entailment")
    expect(offered).to_have_count(8)
    page.get_by_role("button", name="Next").click()
    expect(offered).to_have_count(2)
    expect(offered.first).to_contain_text("9 6 dogs run.")
    page.get_by_label("Word").fill("LIBRARY")
    expect(offered).to_have_count(1)
    offered.click()
    settle(page)
    expect_fragment(page, lambda link: link.get("hypothesis") == "She swims.")
    expect(card(page, "entmax").get_by_text("contradiction gold")).to_be_visible()


def test_items_are_filtered_ordered_and_turned_by_key_and_the_address_keeps_it(page, browser, address):
    def listed(page):
        return page.locator("#offered button").evaluate_all("all => all.map(({dataset}) => Number(dataset.number))")

    def asked(**query):
        return [one["number"] for one in httpx.get(f"{address}/api/examples", params=query).json()["examples"]]

    page.goto(address)
    settle(page)
    page.get_by_label("Order").select_option("least confident first")
    page.get_by_role("combobox", name="of", exact=True).select_option("entmax")
    expect(page.locator("#place")).to_have_text("Items 1 to 8 of 10")
    page.get_by_label("Word", exact=True).press("ArrowRight")  # of the field that has the focus
    settle(page)
    expect(page.locator("#place")).to_have_text("Items 1 to 8 of 10")
    page.evaluate("document.activeElement.blur()")
    page.evaluate(  # the second counts, though the first one's page has not come yet
        "for (const key of ['ArrowRight', 'ArrowLeft'])"
        " document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))"
    )
    settle(page)
    expect(page.locator("#place")).to_have_text("Items 1 to 8 of 10")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#place")).to_have_text("Items 9 to 10 of 10")
    query = {"sort": "least confident first", "archive": "entmax"}
    assert listed(page) == asked(start=8, **query) != [9, 10]
    settle(page)
    wanted = {**query, "item": str(listed(page)[0])}
    expect_fragment(page, lambda link: link.items() >= wanted.items())
    page.locator("#offered button").last.click()
    settle(page)

    with browser.new_context() as context:
        other = context.new_page()
        other.goto(page.url)
        settle(other)
        expect(other.locator("#place")).to_have_text("Items 9 to 10 of 10")
        assert listed(other) == listed(page) and other.get_by_label("Order").input_value() == query["sort"]
        expect(other.locator("[aria-current]")).to_have_attribute("data-number", str(listed(page)[1]))
        other.goto(f"{address}/#item=2")
        other.reload()
        settle(other)
        assert other.get_by_label("Hypothesis", exact=True).input_value() == "She swims."
        expect(other.locator("#status")).to_contain_text("gold: contradiction")
        other.goto(f"{address}/#models=disagreed&predicted=perhaps&item=99&correctness=wrong")
        other.reload()
        expect(other.locator("#notice")).to_contain_text("models=disagreed, predicted=perhaps, item=99")
        assert listed(other) == asked(correctness="wrong")
        expect(other.locator("#offered button").first).to_contain_text(", wrong")

    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#place")).to_have_text("Items 1 to 8 of 10")
    page.go_back()
    expect(page.locator("#place")).to_have_text("Items 9 to 10 of 10")


def test_the_browser_was_opened_at_the_page(address, opened):
    assert opened.read_text() == f"{address}/"
