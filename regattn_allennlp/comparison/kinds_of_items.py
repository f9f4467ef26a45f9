"""How good the variants are on the items of one kind: of one label, short or long, with unknown words or without."""

import itertools
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

# Labels are kinds of items if they are this many at most.
MOST_LABELS = 20


def mean_and_deviation(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation (n - 1; `None` for a single run) over runs."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "standard_deviation": deviation, "runs": len(values)}


def scores_by_kind(results: Sequence[Any]) -> list[dict[str, Any]]:
    """
    # Parameters

    results : `Sequence[VariantResults]`
        Each with a run or more.

    # Returns

    `List[Dict[str, Any]]`
        For each kind {"by": "label", "kind": "entailment", "items": 330, "scores": {"softmax": {"mean": 0.7,
        "standard_deviation": 0.1, "runs": 3}}}: of the variants whose items are the first one's the mean of the
        items' scores. Empty where items are not right or wrong, as translations are.
    """
    if not results:
        return []
    first = results[0].runs[0]
    runs = {
        result.variant.name: [run for run in result.runs if run.items == first.items and run.item_facts]
        for result in results
    }
    if not first.item_facts or not set(first.item_scores) <= {0, 1}:
        return []
    found = []
    for by, kind, chosen in _kinds(first.item_facts):
        scores = {
            name: mean_and_deviation([float(np.array(run.item_scores)[chosen].mean()) for run in of_variant])
            for name, of_variant in runs.items()
            if of_variant
        }
        found.append({"by": by, "kind": kind, "items": int(chosen.sum()), "scores": scores})
    return found


def _kinds(facts: dict[str, list[Any]]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Of each kind what it is by, its name, and of each item whether it belongs to it."""
    labels = facts["label"]
    if None not in labels and len(set(labels)) <= MOST_LABELS:
        for label in sorted(set(labels)):
            yield "label", label, np.array([other == label for other in labels])
    lengths = np.array(facts["length"])
    thirds = [-1, *np.quantile(lengths, [1 / 3, 2 / 3], method="inverted_cdf").tolist(), lengths.max()]
    for low, high in itertools.pairwise(thirds):
        chosen = (low < lengths) & (lengths <= high)
        if lengths.max() > 0 and chosen.any() and not chosen.all():
            shortest = lengths[chosen].min()
            yield "length", f"{shortest} to {high} words" if shortest < high else f"{high} words", chosen
    unknown = facts["has_unknown"]
    if len(set(unknown)) > 1:
        yield "unknown words", "none", ~np.array(unknown)
        yield "unknown words", "some", np.array(unknown)
