"""The figures of a comparison of attentions."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from statistics import fmean, stdev
from typing import Any, Optional

from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Ten colours that are told apart with any kind of colour vision (Petroff 2021, arXiv 2107.02270), and seven markers:
# a pair of both comes again after 70 variants. Lines differ also in their dashes, which change after ten.
PALETTE = "petroff10"
MARKERS = "osD^vPX"
DASHES = ("solid", "dashed", "dotted", "dashdot")

LEGEND: dict[str, Any] = {"loc": "outside right upper", "fontsize": "small"}
DOTS_PER_INCH = 150
# Of a line of a legend: half the width of a figure.
MOST_CHARACTERS = 40


@dataclass(frozen=True)
class VariantFigures:
    """
    What the figures show of one variant: its trained models, one a seed.

    name : `str`
        Of one line or several: see `wrapped`.
    scores : `List[float]`
        Of each seed: its accuracy, its BLEU.
    zeros : `List[float]`
        Of each seed, in the same order: the fraction of attention weights that are 0, the mean of all directions.
    curves : `List[List[Dict[str, Any]]]`
        Of each seed whose training was logged: AllenNLP's metrics by epoch, with "epoch", "training_loss" and
        of the metric that the scores are of, "validation_accuracy".
    """

    name: str
    scores: list[float]
    zeros: list[float]
    curves: list[list[dict[str, Any]]]


def wrapped(name: str) -> str:
    """A variant's name in lines that leave room for the panels."""
    return textwrap.fill(name, MOST_CHARACTERS, break_on_hyphens=False)


def draw_scores(variants: Sequence[VariantFigures], metric: str, path: str | PathLike) -> Figure:
    """
    Draws each variant's scores, of a metric of that name: a dot for each seed, and their mean with the standard
    deviation over the seeds, where there are two or more. All figures are written to `path`, in the format of its
    suffix.
    """
    # One line a variant, under each other: there the names may be long.
    most_lines = max(variant.name.count("\n") + 1 for variant in variants)
    figure = _figure(7, 1.2 + max(0.4, 0.2 * most_lines) * len(variants))
    axes = figure.subplots()
    for index, variant in enumerate(variants):
        style = _style(index)
        axes.errorbar(fmean(variant.scores), index, xerr=_deviation(variant.scores), capsize=4, markersize=8, **style)
        axes.plot(variant.scores, [index + 0.25] * len(variant.scores), ".", color=style["color"], alpha=0.6)
    axes.set_yticks(range(len(variants)), [variant.name for variant in variants])
    axes.set_ylim(len(variants) - 0.5, -0.5)
    # Of the figure: the axes are narrow beside long names.
    figure.supxlabel(f"{metric} (mean and standard deviation; dots: seeds)", fontsize="medium")
    axes.grid(axis="x", alpha=0.3)
    return _save(figure, path)


def draw_scores_against_sparsity(variants: Sequence[VariantFigures], metric: str, path: str | PathLike) -> Figure:
    """
    Draws the scores over the fraction of attention weights that are 0: means, with the standard deviations over the
    seeds in both directions.
    """
    figure, (axes,) = _with_legend([variant.name for variant in variants], panels=1)
    points = [
        axes.errorbar(
            fmean(variant.zeros),
            fmean(variant.scores),
            xerr=_deviation(variant.zeros),
            yerr=_deviation(variant.scores),
            capsize=3,
            markersize=8,
            **_style(index),
        )
        for index, variant in enumerate(variants)
    ]
    axes.set_xlabel("fraction of attention weights that are 0")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    # Of the points alone: crossed bars would hide the markers.
    figure.legend([point.lines[0] for point in points], [variant.name for variant in variants], **LEGEND)
    return _save(figure, path)


def draw_training_curves(variants: Sequence[VariantFigures], metric: str, path: str | PathLike) -> Optional[Figure]:
    """
    Draws the metric in validation and the training loss over the epochs: a thin line for each seed, and their mean, up
    to the last epoch that all of them reached. Variants without curves are left out.

    # Returns

    `Optional[Figure]`
        `None`, and nothing is written, if no variant has curves.
    """
    if not any(variant.curves for variant in variants):
        return None
    figure, panels = _with_legend([variant.name for variant in variants], panels=2)
    for axes, key, label in zip(
        panels, (f"validation_{metric}", "training_loss"), (f"validation {metric}", "training loss"), strict=True
    ):
        for index, variant in enumerate(variants):
            if variant.curves:
                _draw_curves(axes, variant, key, _style(index))
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("epoch")
    panels[-1].locator_params(axis="x", integer=True)
    figure.legend(*panels[0].get_legend_handles_labels(), **LEGEND)
    return _save(figure, path)


def draw_sweep(
    lines: Mapping[str, Sequence[tuple[float, VariantFigures]]], number: str, metric: str, path: str | PathLike
) -> Figure:
    """
    Draws the scores and the fraction of weights that are 0 over a number of the attention, such as lam: a line for the
    points of each name, means with the standard deviations over the seeds.
    """
    figure, panels = _with_legend([*lines], panels=2)
    values = sorted({value for points in lines.values() for value, _ in points})
    for index, (name, points) in enumerate(lines.items()):
        for axes, numbers in zip(
            panels, ([point.scores for _, point in points], [point.zeros for _, point in points]), strict=True
        ):
            axes.errorbar(
                [value for value, _ in points],
                [fmean(of_seeds) for of_seeds in numbers],
                yerr=[_deviation(of_seeds) or 0 for of_seeds in numbers],
                capsize=3,
                label=name,
                **_style(index),
            )
    for axes, label in zip(panels, (metric, "fraction of weights that are 0"), strict=True):
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    if values[0] > 0 and values[-1] >= 10 * values[0]:
        panels[-1].set_xscale("log")
        panels[-1].minorticks_off()
    panels[-1].set_xticks(values, [f"{value:g}" for value in values])
    panels[-1].set_xlabel(number)
    figure.legend(*panels[0].get_legend_handles_labels(), **LEGEND)
    return _save(figure, path)


def _draw_curves(axes: Axes, variant: VariantFigures, key: str, style: dict[str, Any]) -> None:
    for curve in variant.curves:
        axes.plot(
            [epoch["epoch"] for epoch in curve], [epoch[key] for epoch in curve],
            color=style["color"], linewidth=0.5, alpha=0.5,
        )  # fmt: skip
    common = list(zip(*variant.curves, strict=False))
    axes.plot(
        [epochs[0]["epoch"] for epochs in common], [fmean(epoch[key] for epoch in epochs) for epochs in common],
        markersize=4, label=variant.name, **style,
    )  # fmt: skip


def _with_legend(names: Sequence[str], panels: int) -> tuple[Figure, list[Axes]]:
    """A figure with panels under each other that is high enough for a legend of all names at its side."""
    num_lines = sum(name.count("\n") + 1 for name in names)
    figure = _figure(8.5, max(2.8 * panels + 1.2, 0.4 + 0.25 * num_lines))
    return figure, list(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])


def _figure(width: float, height: float) -> Figure:
    """Of so many inches."""
    return Figure(figsize=(width, height), layout="constrained")


def _style(index: int) -> dict[str, Any]:
    colors = color_sequences[PALETTE]
    return {
        "color": colors[index % len(colors)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index // len(colors) % len(DASHES)],
    }


def _deviation(values: Sequence[float]) -> Optional[float]:
    return stdev(values) if len(values) > 1 else None


def _save(figure: Figure, path: str | PathLike) -> Figure:
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return figure
