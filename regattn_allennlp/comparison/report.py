"""What a comparison says: comparison.json, .csv and .md, and its figures."""

import csv
import io
import itertools
import json
import math
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch

from regattn_allennlp.comparison.evaluation import OUT_OF_DOMAIN
from regattn_allennlp.comparison.figures import (
    VariantFigures,
    draw_scores,
    draw_scores_against_sparsity,
    draw_training_curves,
)
from regattn_allennlp.comparison.robustness import metric_prefix
from regattn_allennlp.comparison.significance import NUM_DRAWS, holm_correction, paired_sign_flip_test
from regattn_allennlp.comparison.trial_files import write_atomically
from regattn_allennlp.comparison.variants import Variant
from regattn_allennlp.training.metrics import AttentionStatistics
from regattn_allennlp.version import VERSION

FAITHFULNESS = ("comprehensiveness", "random_comprehensiveness", "sufficiency", "random_sufficiency")

# The columns of the table on the labels' probabilities: the metric, its heading, its decimals.
PROBABILITY_COLUMNS = [
    ("negative_log_likelihood", "NLL (nats)", 4),
    ("expected_calibration_error", "ECE", 4),
    ("pavpu", "PAvPU", 4),
]

# The same for each attack.
ATTACK_COLUMNS = [("accuracy", "accuracy", 4), ("success", "success", 4), ("changed_words", "words changed", 2)]

TIME_RATIO = "seconds_per_epoch_ratio"

# The columns of the first table after the metrics that the models are compared by, as far as there are such numbers.
MAIN_COLUMNS = [
    ("loss", "loss (nats)", 4),
    ("zeros", "weights that are 0", 3),
    ("seconds_per_epoch", "seconds per epoch", 1),
    (TIME_RATIO, "time ratio", 2),
]


@dataclass(frozen=True)
class Run:
    """
    One trial's results: the `model`'s path, its `metrics` by name, the `curve` of its training, and what `evaluate`
    gives.
    """

    seed: Optional[int]
    model: str
    metrics: dict[str, float]
    curve: list[dict[str, Any]]
    compared_metrics: list[str]
    attention_directions: list[str]
    item_scores: list[float]
    items: str


@dataclass(frozen=True)
class Failure:
    variant: str
    seed: Optional[int]
    error: str
    log: str


@dataclass(frozen=True)
class VariantResults:
    """A variant and those of its trials that have ended well."""

    variant: Variant
    runs: list[Run]

    def summary(self) -> dict[str, dict[str, Any]]:
        """Of each metric the mean and the standard deviation (n - 1; none for a single run) over the runs."""
        names = dict.fromkeys(name for run in self.runs for name in run.metrics)
        summary = {}
        for name in names:
            values = [run.metrics[name] for run in self.runs if name in run.metrics]
            deviation = statistics.stdev(values) if len(values) > 1 else None
            summary[name] = {"mean": statistics.fmean(values), "standard_deviation": deviation, "runs": len(values)}
        return summary


def write_report(
    folder: Path,
    test_data: str,
    results: Sequence[VariantResults],
    failures: Sequence[Failure],
    out_of_domain: Optional[str] = None,
    attacks: Sequence[dict[str, Any]] = (),
    num_attacked_items: int = 0,
) -> dict[str, Any]:
    """
    Writes all files of the report, from what trials have ended so far, and returns what comparison.json holds. The
    last three are what the models were evaluated by besides: see `evaluate`.
    """
    present = [result for result in results if result.runs]
    runs = [run for result in present for run in result.runs]
    summaries = [result.summary() for result in present]
    _add_time_ratios(summaries)
    report = {
        "versions": {"regattn_allennlp": VERSION, "torch": torch.__version__, "python": platform.python_version()},
        "test_data": test_data,
        "out_of_domain": out_of_domain,
        "attacks": list(attacks),
        "num_attacked_items": num_attacked_items,
        "num_items": len(runs[0].item_scores) if runs else 0,
        "compared_metrics": list(dict.fromkeys(name for run in runs for name in run.compared_metrics)),
        "attention_directions": list(dict.fromkeys(way for run in runs for way in run.attention_directions)),
        "variants": [
            {
                "name": result.variant.name,
                "source": result.variant.source,
                "attention": result.variant.attention,
                "latent_alignment": result.variant.latent_alignment,
                "alignment_regularizer": result.variant.alignment_regularizer,
                "summary": summary,
                "runs": [{"seed": run.seed, "model": run.model, "metrics": run.metrics} for run in result.runs],
            }
            for result, summary in zip(present, summaries, strict=True)
        ],
        "differences": _differences(present),
        "failures": [asdict(failure) for failure in failures],
    }
    write_atomically(folder / "comparison.json", json.dumps(report, indent=2, ensure_ascii=False))
    write_atomically(folder / "comparison.csv", _csv(report))
    figures = _draw_figures(folder, present)
    write_atomically(folder / "comparison.md", _markdown(report, figures))
    return report


def _add_time_ratios(summaries: Sequence[dict[str, dict[str, Any]]]) -> None:
    """How long an epoch of each variant takes, as a multiple of the first variant's that was timed."""
    timed = [summary for summary in summaries if "seconds_per_epoch" in summary]
    for summary in timed:
        ratio = summary["seconds_per_epoch"]["mean"] / timed[0]["seconds_per_epoch"]["mean"]
        summary[TIME_RATIO] = {
            "mean": ratio, "standard_deviation": None, "runs": summary["seconds_per_epoch"]["runs"]
        }  # fmt: skip


def _differences(results: Sequence[VariantResults]) -> list[dict[str, Any]]:
    """Every pair of variants, with a paired test on the test items; none for a pair with other items."""
    differences = []
    for first, second in itertools.combinations(results, 2):
        difference: dict[str, Any] = {"first": first.variant.name, "second": second.variant.name}
        if len({run.items for run in (*first.runs, *second.runs)}) == 1:
            test = paired_sign_flip_test(
                np.array([run.item_scores for run in first.runs]), np.array([run.item_scores for run in second.runs])
            )
            difference.update(asdict(test))
        differences.append(difference)
    tested = [difference for difference in differences if "p_value" in difference]
    for difference, corrected in zip(
        tested, holm_correction([difference["p_value"] for difference in tested]), strict=True
    ):
        difference["p_value_holm"] = corrected
    return differences


def _csv(report: dict[str, Any]) -> str:
    """A row for each variant; the mean and the standard deviation of each metric are columns."""
    metrics = dict.fromkeys(name for variant in report["variants"] for name in variant["summary"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["variant", "source", "attention", "latent_alignment", "alignment_regularizer", "runs", "seeds"]
        + [heading for name in metrics for heading in (name, f"{name}_standard_deviation")]
    )
    for variant in report["variants"]:
        row: list[Any] = [
            variant["name"],
            variant["source"],
            json.dumps(variant["attention"]),
            variant["latent_alignment"] and json.dumps(variant["latent_alignment"]),
            variant["alignment_regularizer"] and json.dumps(variant["alignment_regularizer"]),
            len(variant["runs"]),
            " ".join(str(run["seed"]) for run in variant["runs"]),
        ]
        for name in metrics:
            values = variant["summary"].get(name, {})
            row += [values.get("mean"), values.get("standard_deviation")]
        writer.writerow(row)
    return text.getvalue()


def _draw_figures(folder: Path, results: Sequence[VariantResults]) -> list[str]:
    """Returns the names of the files that were drawn."""
    if not results:
        return []
    metric = results[0].runs[0].compared_metrics[0]
    variants = [
        VariantFigures(
            name=result.variant.name,
            scores=[run.metrics[metric] for run in result.runs],
            zeros=[run.metrics["zeros"] for run in result.runs],
            # A training without validation has no curve to show.
            curves=[run.curve for run in result.runs if run.curve and f"validation_{metric}" in run.curve[0]],
        )
        for result in results
        if metric in result.runs[0].metrics
    ]
    names = {
        f"{metric}.png": draw_scores,
        f"{metric}_against_sparsity.png": draw_scores_against_sparsity,
        "training_curves.png": draw_training_curves,
    }
    return [name for name, draw in names.items() if draw(variants, metric, folder / name)]


def _markdown(report: dict[str, Any], figures: Sequence[str]) -> str:
    parts = ["# Comparison of attentions"]
    parts += _results(report) if report["variants"] else ["No run has results."]
    if report["failures"]:
        parts += [
            "## Failures",
            _table(
                ["variant", "seed", "error", "log"],
                [
                    [failure["variant"], str(failure["seed"]), failure["error"], failure["log"]]
                    for failure in report["failures"]
                ],
            ),
        ]
    parts += [f"![{name}]({name})" for name in figures]
    return "\n\n".join(parts) + "\n"


def _results(report: dict[str, Any]) -> list[str]:
    variants = report["variants"]
    summaries = [variant["summary"] for variant in variants]
    metric = report["compared_metrics"][0]
    compared = [(name, name, _decimals(summaries, name)) for name in report["compared_metrics"]]
    parts = [
        f"Test data: `{report['test_data']}`, {report['num_items']} items. Mean ± standard deviation over the runs, "
        "which differ in their seeds; the seconds are the median epoch's, with its validation, and the time ratio is "
        "to the first variant's.",
        _variant_table(variants, compared + MAIN_COLUMNS, with_runs=True),
    ]
    if report["differences"]:
        parts += [
            "## Differences",
            f"Each test item's {metric}, from 0 to 1, of the first less that of the second: the mean over the items, "
            f"with a 95 % confidence interval, and the p-value of the paired sign-flip test, {_kind_of_test(report)}; "
            "p corrected for the number of pairs by Holm's method. They speak of the models that were trained, not of "
            "other seeds: see the standard deviations.",
            _table(
                ["first", "second", "difference", "95 % interval", "p", "p, corrected"],
                [_difference_row(difference) for difference in report["differences"]],
            ),
        ]
    parts += [
        "## Attention",
        "Means over what attends, which a direction names first.",
        _table(
            ["variant", "direction", *(name.replace("_", " ") for name in AttentionStatistics.METRICS)],
            [
                [variant["name"], way.replace("_", " ")]
                + [
                    _mean_and_deviation(variant["summary"].get(f"{way}_{name}"), 3)
                    for name in AttentionStatistics.METRICS
                ]
                for variant in variants
                for way in report["attention_directions"]
            ],
        ),
    ]
    if any(name in summary for summary in summaries for name, _, _ in PROBABILITY_COLUMNS):
        parts += [
            "## Calibration and uncertainty",
            "NLL: the mean of -log p(the right label), in nats. ECE: the expected calibration error, 15 bins (Guo et "
            "al. 2017). PAvPU: the fraction of the items for which the model is right and certain or wrong and "
            "uncertain (Mukhoti & Gal 2018), where it is certain if the entropy of its probabilities is at most half "
            "of that of all labels alike. Low is good, of PAvPU high.",
            _variant_table(variants, PROBABILITY_COLUMNS),
        ]
    if report["out_of_domain"] is not None:
        columns = [*compared, ("loss", "loss (nats)", 4), *PROBABILITY_COLUMNS]
        parts += [
            "## Out of domain",
            f"The same models, measured on `{report['out_of_domain']}`.",
            _variant_table(
                variants, [(f"{OUT_OF_DOMAIN}{name}", heading, decimals) for name, heading, decimals in columns]
            ),
        ]
    if report["attacks"]:
        prefixes = [metric_prefix(attack) for attack in report["attacks"]]
        parts += [
            "## Robustness",
            f"Words of the hypothesis are replaced to change the label, in the first {report['num_attacked_items']} "
            "items at most. Accuracy: of all of these, under attack. Success: the fraction of those right before "
            "whose label changes; a robust model's is low. Words changed: where it succeeds, on average.",
            _variant_table(
                variants,
                [
                    (f"{prefix}_{name}", f"{prefix.replace('_', ' ')}: {heading}", decimals)
                    for prefix in prefixes
                    for name, heading, decimals in ATTACK_COLUMNS
                ],
            ),
        ]
    if any(name in summary for summary in summaries for name in FAITHFULNESS):
        parts += [
            "## Faithfulness",
            "How much less probable the predicted label is without the most-attended words (comprehensiveness: high "
            "is faithful), and with them alone (sufficiency: low is faithful); beside each, the same for words drawn "
            "at random (DeYoung et al. 2020).",
            _variant_table(variants, [(name, name.replace("_", " "), 4) for name in FAITHFULNESS]),
        ]
    return parts


def _variant_table(
    variants: Sequence[dict[str, Any]], columns: Sequence[tuple[str, str, int]], with_runs: bool = False
) -> str:
    """A row for each variant; of the columns, a metric, its heading and its decimals, those there are numbers for."""
    columns = [column for column in columns if any(column[0] in variant["summary"] for variant in variants)]
    return _table(
        ["variant", *(["runs"] if with_runs else []), *(heading for _, heading, _ in columns)],
        [
            [variant["name"], *([str(len(variant["runs"]))] if with_runs else [])]
            + [_mean_and_deviation(variant["summary"].get(name), decimals) for name, _, decimals in columns]
            for variant in variants
        ],
    )


def _decimals(summaries: Sequence[dict[str, dict[str, Any]]], name: str) -> int:
    """More for what goes from 0 to 1 than for what goes to 100."""
    return 2 if any(name in summary and abs(summary[name]["mean"]) >= 10 for summary in summaries) else 4


def _kind_of_test(report: dict[str, Any]) -> str:
    if all(difference.get("exact", True) for difference in report["differences"]):
        return "exact"
    return f"exact, or, marked by *, of {NUM_DRAWS} draws of the signs, so never below {2 / (NUM_DRAWS + 1)}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _mean_and_deviation(values: Optional[dict[str, Any]], decimals: int) -> str:
    if values is None or not math.isfinite(values["mean"]):
        return "-"
    mean = f"{values['mean']:.{decimals}f}"
    return mean if values["standard_deviation"] is None else f"{mean} ± {values['standard_deviation']:.{decimals}f}"


def _difference_row(difference: dict[str, Any]) -> list[str]:
    names = [difference["first"], difference["second"]]
    if "p_value" not in difference:
        return [*names, "their test items differ", "-", "-", "-"]
    low, high = difference["confidence_interval"]
    return [
        *names,
        f"{difference['difference']:+.4f}",
        f"{low:+.4f} to {high:+.4f}",
        _p_value(difference["p_value"]) + ("" if difference["exact"] else " *"),
        _p_value(difference["p_value_holm"]),
    ]


def _p_value(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
