"""What a comparison says: comparison.json, .csv and .md, and its figures."""

import csv
import io
import itertools
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

import matplotlib
import numpy as np
import torch

from regattn_allennlp.comparison.evaluation import OUT_OF_DOMAIN
from regattn_allennlp.comparison.figures import (
    VariantFigures,
    draw_scores,
    draw_scores_against_sparsity,
    draw_sweep,
    draw_training_curves,
    wrapped,
)
from regattn_allennlp.comparison.kinds_of_items import mean_and_deviation, scores_by_kind
from regattn_allennlp.comparison.robustness import metric_prefix
from regattn_allennlp.comparison.significance import NUM_DRAWS, holm_correction, paired_sign_flip_test
from regattn_allennlp.comparison.trial_files import write_atomically
from regattn_allennlp.comparison.variants import SEED_KEYS, Variant, flattened
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

# The same of the attention's alignments, by gold links, and their headings.
ALIGNMENT_METRICS = {
    "alignment_error_rate": "error rate",
    "alignment_precision": "precision",
    "alignment_recall": "recall",
}

TIME = "seconds_per_epoch"
TIME_RATIO = f"{TIME}_ratio"

# The columns of the first table after the metrics that the models are compared by, as far as there are such numbers.
MAIN_COLUMNS = [
    ("loss", "loss (nats)", 4),
    ("zeros", "weights that are 0", 3),
    (TIME, "seconds per epoch", 1),
    (TIME_RATIO, "time ratio", 2),
]


# Marks in the tables; notes under them say what is meant.
UNBALANCED = " †"
ROUGH = " ‡"

# Pictures to see in comparison.md, and for papers.
PICTURE_SUFFIXES = (".png", ".svg", ".pdf")

# The numbers of a config that make a sweep are those that name a variant.
SWEPT = re.compile(r"model\.(attention|latent_alignment|(.+\.)?alignment_regularizer)\.(.+\.)?(?P<key>[^.]+)")


@dataclass(frozen=True)
class Run:
    """
    One trial's results: the `model`'s path, its `metrics` by name, the `curve` of its training, whether that had other
    trainings beside it on its machine (`None`: not known), and what `evaluate` gives.
    """

    seed: Optional[int]
    model: str
    metrics: dict[str, float]
    curve: list[dict[str, Any]]
    compared_metrics: list[str]
    attention_directions: list[str]
    item_scores: list[float]
    items: str
    beside_others: Optional[bool] = None
    item_facts: dict[str, list[Any]] = field(default_factory=dict)
    item_probabilities: dict[str, list[float]] = field(default_factory=dict)


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
        """See `mean_and_deviation`, of each metric."""
        names = dict.fromkeys(name for run in self.runs for name in run.metrics)
        return {
            name: mean_and_deviation([run.metrics[name] for run in self.runs if name in run.metrics]) for name in names
        }

    @property
    def beside_others(self) -> bool:
        return any(run.beside_others for run in self.runs)


def write_report(
    folder: Path,
    test_data: str,
    results: Sequence[VariantResults],
    failures: Sequence[Failure],
    out_of_domain: Optional[str] = None,
    attacks: Sequence[dict[str, Any]] = (),
    num_attacked_items: int = 0,
    left_out: Optional[Mapping[str, int]] = None,
) -> dict[str, Any]:
    """
    Writes all files of the report, from what trials have ended so far, and returns what comparison.json holds.
    `out_of_domain`, `attacks` and `num_attacked_items` are what the models were evaluated by besides: see `evaluate`;
    `left_out` says how many runs are not in the report, by the reason.
    """
    present = [result for result in results if result.runs]
    runs = [run for result in present for run in result.runs]
    summaries = [result.summary() for result in present]
    _add_time_ratios(summaries)
    seeds = {run.seed for run in runs}
    report = {
        "versions": {"regattn_allennlp": VERSION, "torch": torch.__version__, "python": platform.python_version()},
        "test_data": test_data,
        "out_of_domain": out_of_domain,
        "attacks": list(attacks),
        "num_attacked_items": num_attacked_items,
        "left_out": dict(left_out or {}),
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
                "missing_seeds": sorted(seeds - {run.seed for run in result.runs}, key=str),
                "beside_others": result.beside_others,
                "runs": [
                    {
                        "seed": run.seed,
                        "model": run.model,
                        "beside_others": run.beside_others,
                        "metrics": run.metrics,
                    }
                    for run in result.runs
                ],
            }
            for result, summary in zip(present, summaries, strict=True)
        ],
        "differences": _differences(present),
        "kinds_of_items": scores_by_kind(present),
        "failures": [asdict(failure) for failure in failures],
    }
    write_atomically(folder / "comparison.json", json.dumps(report, indent=2, ensure_ascii=False))
    write_atomically(folder / "comparison.csv", _csv(report))
    figures = _draw_figures(folder, present)
    write_atomically(folder / "comparison.md", _markdown(report, figures))
    return report


def _add_time_ratios(summaries: Sequence[dict[str, dict[str, Any]]]) -> None:
    """How long an epoch of each variant takes, as a multiple of the first variant's that was timed."""
    timed = [summary for summary in summaries if TIME in summary]
    for summary in timed:
        ratio = summary[TIME]["mean"] / timed[0][TIME]["mean"]
        summary[TIME_RATIO] = {"mean": ratio, "standard_deviation": None, "runs": summary[TIME]["runs"]}


def _differences(results: Sequence[VariantResults]) -> list[dict[str, Any]]:
    """
    Every pair of variants, with a paired test on the test items, of the seeds that both have ("seeds"), or of all if
    there are none; no test for a pair with other items.
    """
    differences = []
    for first, second in itertools.combinations(results, 2):
        difference: dict[str, Any] = {"first": first.variant.name, "second": second.variant.name}
        if len({run.items for run in (*first.runs, *second.runs)}) == 1:
            common = {run.seed for run in first.runs} & {run.seed for run in second.runs}
            scores = [
                np.array([run.item_scores for run in result.runs if run.seed in common or not common])
                for result in (first, second)
            ]
            difference.update(asdict(paired_sign_flip_test(*scores)), seeds=sorted(common, key=str))
            difference["leaves_out_runs"] = sum(map(len, scores)) < len(first.runs) + len(second.runs)
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
    drawn = [result for result in results if metric in result.runs[0].metrics]
    variants = [
        VariantFigures(
            name=wrapped(result.variant.name),
            scores=[run.metrics[metric] for run in result.runs],
            zeros=[run.metrics["zeros"] for run in result.runs],
            # A training without validation has no curve to show.
            curves=[run.curve for run in result.runs if run.curve and f"validation_{metric}" in run.curve[0]],
        )
        for result in drawn
    ]
    figures = {
        metric: draw_scores(variants, metric, folder / f"{metric}.png"),
        f"{metric}_against_sparsity": draw_scores_against_sparsity(
            variants, metric, folder / f"{metric}_against_sparsity.png"
        ),
        "training_curves": draw_training_curves(variants, metric, folder / "training_curves.png"),
    }
    for key, lines in sweeps([result.variant for result in drawn]).items():
        points = {wrapped(name): [(number, variants[index]) for number, index in line] for name, line in lines.items()}
        figures[f"sweep_{key}"] = draw_sweep(points, key, metric, folder / f"sweep_{key}.png")
    # Text that stays text, to select and to search.
    with matplotlib.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
        for name, figure in figures.items():
            if figure is not None:
                for suffix in PICTURE_SUFFIXES[1:]:
                    figure.savefig(folder / f"{name}{suffix}")
    return [f"{name}{PICTURE_SUFFIXES[0]}" for name, figure in figures.items() if figure is not None]


def sweeps(variants: Sequence[Variant]) -> dict[str, dict[str, list[tuple[float, int]]]]:
    """
    Of each number of an attention, an alignment or a regularizer in which two variants or more differ, and in nothing
    else, by its key, the lines to draw: {"lam": {"fusedmax": [(0.1, 0), (1.0, 2)]}}, each point its number and its
    variant's place among the variants.
    """
    found: dict[str, dict[str, list[tuple[float, int]]]] = {}
    flat = [flattened({**variant.config, **dict.fromkeys(SEED_KEYS)}) for variant in variants]
    for path in dict.fromkeys(itertools.chain(*flat)):
        match = SWEPT.fullmatch(path)
        lines: dict[str, list[tuple[float, int]]] = {}
        for index, values in enumerate(flat):
            number = json.loads(values.get(path, "null"))
            if match and isinstance(number, int | float) and not isinstance(number, bool):
                others = json.dumps({**values, path: None}, sort_keys=True)
                lines.setdefault(others, []).append((number, index))
        for points in lines.values():
            if match and len({number for number, _ in points}) > 1:
                name = re.sub(rf" {re.escape(match['key'])}=[^ ,)]+", "", variants[points[0][1]].name)
                of_key = found.setdefault(match["key"], {})
                # Where names are the same, as with several sources, each point names its own.
                of_key[name if name not in of_key else variants[points[0][1]].name] = sorted(points)
    return found


def _markdown(report: dict[str, Any], figures: Sequence[str]) -> str:
    parts = ["# Comparison of attentions"]
    parts += _results(report) if report["variants"] else ["No run has results."]
    if report["left_out"]:
        reasons = [f"{number} {'run' if number == 1 else 'runs'} {why}" for why, number in report["left_out"].items()]
        parts.insert(2 if report["variants"] else 1, f"Left out, of earlier commands: {', '.join(reasons)}.")
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
    headings, *rows = main_rows(report)
    parts = [
        f"Test data: `{report['test_data']}`, {report['num_items']} items. Mean ± standard deviation over the runs, "
        "which differ in their seeds; the seconds are the median epoch's, with its validation, and the time ratio is "
        "to the first variant's.",
        _table(headings, rows),
        *notes(variants),
    ]
    if report["differences"]:
        parts += [
            "## Differences",
            f"Each test item's {_of_items(metric)}, from 0 to 1, of the first less that of the second: the mean over "
            "the items, with a 95 % confidence interval, and the p-value of the paired sign-flip test, "
            f"{_kind_of_test(report)}; p corrected for the number of pairs by Holm's method. A pair is compared by "
            f"the seeds that both have{_left_out_of_tests(report)}. They speak of the models that were trained, not "
            "of other seeds: see the standard deviations.",
            _table(
                ["first", "second", "difference", "95 % interval", "p", "p, corrected"],
                [_difference_row(difference) for difference in report["differences"]],
            ),
        ]
    if report["kinds_of_items"]:
        parts += [
            "## Kinds of items",
            "The same metric for the items of one kind; in brackets their number. The length is the longest text's"
            + (
                "; unknown are words that the first variant's first model does not know."
                if any(kind["by"] == "unknown words" for kind in report["kinds_of_items"])
                else "."
            ),
            *_kinds_of_items(report),
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
    aligned = _aligned(summaries)
    if aligned:
        parts += [
            "## Alignment",
            "The links that the attention makes between words, against gold links: the alignment error rate, of which "
            "low is good, precision and recall (Och & Ney 2003). The posterior is the alignment once the target is "
            "known.",
            _table(
                ["variant", "of", *ALIGNMENT_METRICS.values()],
                [
                    [variant["name"], of.strip("_").replace("_", " ") or "attention"]
                    + [_mean_and_deviation(variant["summary"].get(f"{of}{name}"), 4) for name in ALIGNMENT_METRICS]
                    for variant in variants
                    for of in aligned
                    if f"{of}alignment_error_rate" in variant["summary"]
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


def _aligned(summaries: Sequence[dict[str, dict[str, Any]]]) -> list[str]:
    """What the names of the alignments' metrics begin with: "", "posterior_", "premise_to_hypothesis_"."""
    of = "alignment_error_rate"
    names = (name for summary in summaries for name in summary if name.endswith(of))
    return list(dict.fromkeys(name.removesuffix(of) for name in names))


def _of_items(metric: str) -> str:
    """What the items' scores are, of which high is good: of an error rate what it lacks to 1."""
    return f"1 - {metric}" if metric.endswith("_error_rate") else metric


def main_rows(report: dict[str, Any]) -> list[list[str]]:
    """The first table of comparison.md: its headings, and a row for each variant."""
    summaries = [variant["summary"] for variant in report["variants"]]
    compared = [(name, name, _decimals(summaries, name)) for name in report["compared_metrics"]]
    columns = _with_numbers(report["variants"], [*compared, *MAIN_COLUMNS])
    timed = [variant for variant in report["variants"] if TIME in variant["summary"]]

    def mark(variant: dict[str, Any], column: str) -> str:
        if column in report["compared_metrics"]:
            return UNBALANCED if variant["missing_seeds"] else ""
        # A ratio is of two times.
        beside_others = {TIME: [variant], TIME_RATIO: [variant, *timed[:1]]}.get(column, [])
        is_timed = TIME in variant["summary"]
        return ROUGH if is_timed and any(one["beside_others"] for one in beside_others) else ""

    rows = [["variant", "runs", *(heading for _, heading, _ in columns)]]
    for variant in report["variants"]:
        means = [
            _mean_and_deviation(variant["summary"].get(name), decimals) + mark(variant, name)
            for name, _, decimals in columns
        ]
        runs = f"{len(variant['runs'])}{UNBALANCED if variant['missing_seeds'] else ''}"
        rows.append([variant["name"], runs, *means])
    return rows


def notes(variants: Sequence[dict[str, Any]]) -> list[str]:
    """What the marks in the first table mean."""
    told = []
    unbalanced = [
        f"{variant['name']} lacks {_seeds(variant['missing_seeds'])}"
        for variant in variants
        if variant["missing_seeds"]
    ]
    if unbalanced:
        told.append(f"†: the means are not over the same seeds: {'; '.join(unbalanced)}.")
    if any(variant["beside_others"] for variant in variants):
        told.append("‡: other trainings ran on the machine at the same time: the seconds are rough.")
    return told


def _seeds(seeds: Sequence[Optional[int]]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def _left_out_of_tests(report: dict[str, Any]) -> str:
    pairs = [difference for difference in report["differences"] if difference.get("leaves_out_runs")]
    if not pairs:
        return ""
    named = "; ".join(f"{pair['first']} and {pair['second']} by {_seeds(pair['seeds'])}" for pair in pairs)
    return f" ({named})" if len(pairs) < 4 else f", in {len(pairs)} pairs not all"


def _with_numbers(
    variants: Sequence[dict[str, Any]], columns: Sequence[tuple[str, str, int]]
) -> list[tuple[str, str, int]]:
    return [column for column in columns if any(column[0] in variant["summary"] for variant in variants)]


def _variant_table(variants: Sequence[dict[str, Any]], columns: Sequence[tuple[str, str, int]]) -> str:
    """A row for each variant; of the columns, a metric, its heading and its decimals, those there are numbers for."""
    columns = _with_numbers(variants, columns)
    return _table(
        ["variant", *(heading for _, heading, _ in columns)],
        [
            [variant["name"]]
            + [_mean_and_deviation(variant["summary"].get(name), decimals) for name, _, decimals in columns]
            for variant in variants
        ],
    )


def _kinds_of_items(report: dict[str, Any]) -> list[str]:
    """A table for each thing that makes kinds of items."""
    tables = []
    metric = _of_items(report["compared_metrics"][0])
    for by, group in itertools.groupby(report["kinds_of_items"], key=lambda kind: kind["by"]):
        kinds = list(group)
        names = [variant["name"] for variant in report["variants"] if variant["name"] in kinds[0]["scores"]]
        tables.append(
            _table(
                [
                    f"{metric} by {by}",
                    *(f"{kind['kind']} ({kind['items']})" for kind in kinds),
                ],
                [[name, *(_mean_and_deviation(kind["scores"][name], 4) for kind in kinds)] for name in names],
            )
        )
    return tables


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
