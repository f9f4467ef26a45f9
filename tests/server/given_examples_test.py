"""What is found, and in which order: as the HTML files have it, whose own code is asked in a browser."""

import itertools
import random
from pathlib import Path

import pytest

from regattn_allennlp import visualization
from regattn_allennlp.data.example import Example
from regattn_allennlp.server.given_examples import GivenExamples
from regattn_allennlp.server.schema import ExamplePrediction, ExamplesQuery
from regattn_allennlp.server.tasks import RequestError

ARCHIVES = ["softmax", "fusedmax", "oscarmax"]
DIRECTIONS = ["b_to_a", "a_to_b"]
ITEMS_JS = Path(visualization.__file__).parent / "items.js"


def items(number):
    """As items.js takes them: few answers, probabilities and maps, so that many are equal."""
    draw = random.Random(0)
    return [
        {
            "inputs": {"a": draw.choice(["Ein Gruß", "a dog", "Cafe\u0301"]), "b": str(index)},
            "gold": draw.choice(["yes", "no", None]),
            "predictions": [
                {
                    "text": draw.choice(["yes", "no", "maybe"]),
                    "probability": draw.choice([0.25, 0.5, 0.75, None]),
                    "maps": [
                        {
                            "rowTitle": direction[0],
                            "columnTitle": direction[-1],
                            "weights": [draw.choice([[1, 0, 0], [0.5, 0.5, 0]]), [0.5, 0.25, 0.25]],
                        }
                        for direction in DIRECTIONS
                    ],
                }
                for _ in ARCHIVES
            ],
        }
        for index in range(number)
    ]


def predictions(item):
    return [
        ExamplePrediction(
            name=name,
            text=one["text"],
            probability=one["probability"],
            is_right=None if item["gold"] is None else one["text"] == item["gold"],
            zero_fractions={
                direction: sum(row.count(0) for row in each["weights"]) / 6
                for direction, each in zip(DIRECTIONS, one["maps"], strict=True)
            },
        )
        for name, one in zip(ARCHIVES, item["predictions"], strict=True)
    ]


def given(of):
    return GivenExamples([Example(item["inputs"], item["gold"]) for item in of], ARCHIVES)


def numbers(examples, **query):
    found = examples.find(ExamplesQuery(count=100, **query))
    assert found.found == len(found.examples)
    return [one.number for one in found.examples]


def test_finds_and_orders_as_the_html_files_do(page):
    all_items = items(60)
    examples = given(all_items)
    examples.add(map(predictions, all_items))
    choices = examples.choices()
    page.goto("about:blank")
    page.add_script_tag(path=ITEMS_JS)
    assert page.evaluate("Object.keys(ORDERS)") == choices.sort
    assert page.evaluate("(archives) => Object.keys(modelChoices(archives))", ARCHIVES) == choices.models
    filters = [
        {"gold": gold, "predicted": predicted, "correctness": correctness, "archive": archive}
        for gold, predicted, correctness, archive in itertools.product(
            ["", *choices.gold], ["", "maybe"], ["", *choices.correctness], ["", *choices.archive]
        )
    ] + [{"models": models} for models in choices.models]
    filters += [{"word": word} for word in ("GRUSS ", "caf\u00e9", "MAYBE", "7", "nowhere")]
    defaults = dict.fromkeys(("gold", "predicted", "correctness", "archive", "models", "word"), "")
    queries = [
        {**defaults, **one, "sort": sort, "direction": direction}
        for one in filters
        for sort in ("", *choices.sort)
        for direction in ("", DIRECTIONS[1])
    ]
    wanted = page.evaluate(
        "([items, archives, queries]) => queries.map((query) => findItems(items, archives, query))",
        [all_items, ARCHIVES, queries],
    )
    assert len({tuple(found) for found in wanted}) > 300, "too few differ to tell them apart"
    for query, found in zip(queries, wanted, strict=True):
        asked = {"search" if name == "word" else name: value for name, value in query.items()}
        assert numbers(examples, **asked) == [position + 1 for position in found], query


def test_what_is_not_predicted_is_in_no_filter_by_answers_and_last_in_order():
    all_items = items(20)
    examples = given(all_items)
    assert numbers(examples, sort="sparsest first") == list(range(1, 21))
    examples.add(map(predictions, all_items[:8]))
    examples.add([[]])  # one that cannot be predicted
    assert [one.number for one in examples.next(2)] == [10, 11]
    in_order = numbers(examples, sort="sparsest first")
    assert sorted(in_order[:8]) == list(range(1, 9)) != in_order[:8] and in_order[8:] == list(range(9, 21))
    assert set(numbers(examples, models="disagree")) <= set(range(1, 9))
    assert set(numbers(examples, predicted="maybe")) <= set(range(1, 9))
    assert examples.find(ExamplesQuery()).predicted == 9


def test_the_page_that_has_an_item():
    examples = given(items(20))
    found = examples.find(ExamplesQuery(item=19, count=8))
    assert (found.start, found.found, [one.number for one in found.examples]) == (16, 20, [17, 18, 19, 20])


def test_choices_are_those_that_can_be():
    alone = GivenExamples([Example({"a": "b"}, None)], ["softmax"]).choices()
    assert (alone.gold, alone.correctness, alone.archive, alone.models) == ([], [], [], [])
    assert len(alone.sort) == 4 and "most disagreement first" not in alone.sort
    without_gold = GivenExamples([Example({"a": "b"}, None)], ARCHIVES).choices()
    assert without_gold.models == ["disagree"] and without_gold.correctness == []
    many = GivenExamples([Example({"a": "b"}, str(number)) for number in range(31)], ARCHIVES).choices()
    assert many.gold == [] and many.correctness == ["correct", "wrong"]


@pytest.mark.parametrize("name", ["correctness", "archive", "models", "sort"])
def test_what_cannot_be_asked_for_is_told_what_can(name):
    with pytest.raises(RequestError, match=f'"{name}": there is no "x"; there is "') as raised:
        given(items(2)).find(ExamplesQuery(**{name: "x"}))
    assert raised.value.field == name
