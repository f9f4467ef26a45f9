"""Which words of a row of attention weights share one weight: what fusedmax and oscarmax are there for."""

from collections.abc import Sequence
from itertools import groupby

# A run of neighbouring positions, from the first to before the last.
Run = tuple[int, int]


def equal_runs(weights: Sequence[float]) -> list[Run]:
    """The longest runs of neighbours whose weights are equal and not 0, from left to right; also those of one word."""
    runs, start = [], 0
    for weight, neighbours in groupby(weights):
        stop = start + len(list(neighbours))
        if weight != 0:
            runs.append((start, stop))
        start = stop
    return runs


def equal_groups(weights: Sequence[float]) -> list[list[Run]]:
    """
    The groups of two words or more that share one weight that is not 0, each as its runs from left to right; the
    groups with the larger weight first. A segment that fusedmax makes is a group of one run, in general; the words of
    a group of oscarmax need not be neighbours.
    """
    groups: dict[float, list[Run]] = {}
    for run in equal_runs(weights):
        groups.setdefault(weights[run[0]], []).append(run)
    return [runs for _, runs in sorted(groups.items(), reverse=True) if sum(stop - start for start, stop in runs) >= 2]
