"""attention.html: the items on which the variants of a comparison differ most, with what each attends to."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict

from regattn_allennlp.comparison.check import quiet
from regattn_allennlp.comparison.report import Run, VariantResults
from regattn_allennlp.comparison.trial_files import write_atomically
from regattn_allennlp.data.example import Example
from regattn_allennlp.predictors.archives import load_predictors, read_examples
from regattn_allennlp.visualization.attention_page import attention_page, page_example, page_predictions

PAGE_NAME = "attention.html"
# Of the page: what it was made of.
KEY_NAME = ".attention_page"
MOST_ITEMS = 200


def write_disagreements(folder: Path, test_data: str, results: Sequence[VariantResults]) -> Optional[str]:
    """
    Writes the page of those variants whose test items are the first one's, each with the model of its first seed. If
    it is there already, nothing is done.

    # Returns

    `Optional[str]`
        Why there is no page, in words; `None` if there is one.
    """
    present = [result for result in results if result.runs]
    shown = [result for result in present if result.runs[0].items == present[0].runs[0].items]
    if len(shown) < 2:
        (folder / PAGE_NAME).unlink(missing_ok=True)
        return "it is of two variants or more"
    runs = [result.runs[0] for result in shown]
    made_of = [[result.variant.name, run.model, run.item_scores] for result, run in zip(shown, runs, strict=True)]
    key = hashlib.sha256(json.dumps([test_data, made_of]).encode()).hexdigest()
    if (folder / PAGE_NAME).exists() and (folder / KEY_NAME).exists() and (folder / KEY_NAME).read_text() == key:
        return None
    archives = [str(folder / run.model) for run in runs]  # one that is elsewhere has an absolute path
    try:
        with quiet():
            examples = _examples(archives[0], test_data, len(runs[0].item_scores))
            chosen = [examples[index] for index in most_different(runs)[:MOST_ITEMS]]
            predictions = [_predictions(archive, chosen) for archive in archives]
    except ConfigurationError as error:
        (folder / PAGE_NAME).unlink(missing_ok=True)
        return str(error)
    page = attention_page(
        [result.variant.name for result in shown],
        [
            page_example(example.inputs, example.gold, of_example)
            for example, *of_example in zip(chosen, *predictions, strict=True)
        ],
    )
    write_atomically(folder / PAGE_NAME, page)
    write_atomically(folder / KEY_NAME, key)
    return None


def most_different(runs: Sequence[Run]) -> list[int]:
    """
    The numbers of the items, those first of which the runs say what differs most: the probabilities of the labels, by
    half the sum of their distances, for the two runs that are farthest apart; or the scores, where there are no few
    labels.
    """
    labels = [sorted(run.item_probabilities) for run in runs]
    if labels[0] and all(other == labels[0] for other in labels):
        # Shape (num_runs, num_labels, num_items)
        given = np.array([[run.item_probabilities[label] for label in labels[0]] for run in runs])
    else:
        given = 2 * np.array([[run.item_scores] for run in runs])
    distances = [abs(one - other).sum(axis=0) / 2 for one, other in itertools.combinations(given, 2)]
    return np.argsort(-np.max(distances, axis=0), kind="stable").tolist()


def _examples(archive: str, test_data: str, num_items: int) -> list[Example]:
    """The items that were evaluated, as they stand in the data."""
    examples = [example for example in read_examples(archive, test_data) if example.gold is not None]
    if len(examples) != num_items:
        raise ConfigurationError(f"of {len(examples)} items with a gold answer {num_items} were evaluated")
    return examples


def _predictions(archive: str, examples: Sequence[Example]) -> list[JsonDict]:
    """What `attention_page` takes of one model."""
    predictor = load_predictors([archive])[0].predictor
    inputs = [dict(example.inputs) for example in examples]
    return page_predictions(predictor, inputs, predictor._model.attention_directions)
