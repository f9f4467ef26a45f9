"""Gathers what has come of the trials in a comparison's folder: of those that were named, and of earlier ones."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Optional

from regattn_allennlp.comparison.evaluation import OUT_OF_DOMAIN
from regattn_allennlp.comparison.identities import Identities, same_data
from regattn_allennlp.comparison.report import ALIGNMENT_METRICS, FAITHFULNESS, Failure, Run, VariantResults
from regattn_allennlp.comparison.robustness import metric_prefix
from regattn_allennlp.comparison.trial_files import (
    FAILURE_NAME,
    FORMAT,
    LOG_NAME,
    MODEL_NAME,
    OUTCOME_NAME,
    read_json,
    read_outcome,
)
from regattn_allennlp.comparison.variants import SEED_KEYS, Trial, Variant, distinct_names, without_seeds


@dataclass(frozen=True)
class Collection:
    """
    results : `List[VariantResults]`
        First of the variants that were named, then of those that were not, whose test data are the same.
    failures : `List[Failure]`
        Of the variants that were named.
    left_out : `Dict[str, int]`
        How many runs in the folder are not among the results, by the reason.
    """

    results: list[VariantResults]
    failures: list[Failure]
    left_out: dict[str, int]


def collect(
    variants: Sequence[Variant],
    requests: dict[Path, dict[str, Any]],
    evaluation: dict[str, Any],
    folder: Path,
    identities: Identities,
) -> Collection:
    """
    # Parameters

    requests : `Dict[Path, Dict[str, Any]]`
        Of each of the variants' trials, by its folder.
    evaluation : `Dict[str, Any]`
        What all the requests have in common of the evaluation.
    folder : `Path`
        Of the comparison; the models and logs are named as seen from it.
    """
    runs: dict[str, list[Run]] = {_key(variant.trials[0]): [] for variant in variants}
    unnamed: dict[str, Variant] = {}
    left_out: Counter[str] = Counter()
    for path, request in requests.items():
        outcome = read_outcome(path, request)
        if outcome is not None:
            runs[_key(_trial(path, request))].append(_run(path, outcome, folder))
    training_data = [request["training_data"] for request in requests.values() if request["archive"] is None]
    for path, outcome in _others(folder, requests):
        reason = _reason_to_leave_out(outcome["request"], evaluation, training_data, identities)
        if reason is not None:
            left_out[reason] += 1
            continue
        trial = _trial(path, outcome["request"])
        if _key(trial) not in runs:
            unnamed[_key(trial)] = Variant(trial.variant, outcome["request"]["source"], trial.config, [trial])
        run = _run(path, _comparable(outcome, evaluation, identities), folder)
        runs.setdefault(_key(trial), []).append(run)
    everything = [*variants, *unnamed.values()]
    names = distinct_names([(variant.source, variant.config) for variant in everything])
    renamed = [dataclasses.replace(variant, name=name) for variant, name in zip(everything, names, strict=True)]
    results = [
        VariantResults(variant, sorted(runs[_key(variant.trials[0])], key=lambda run: (run.seed or 0, run.model)))
        for variant in renamed
    ]
    return Collection(results, [*_failures(renamed[: len(variants)], requests, folder)], dict(left_out))


def _key(trial: Trial) -> str:
    """The same for the trials of one variant."""
    return f"{trial.archive is not None} {without_seeds(trial.config)}"


def _trial(path: Path, request: dict[str, Any]) -> Trial:
    archive = request["archive"] and request["archive"]["path"]
    return Trial("", request["config"].get(SEED_KEYS[0]), path, request["config"], archive)


def _others(folder: Path, requests: dict[Path, dict[str, Any]]) -> Iterator[tuple[Path, dict[str, Any]]]:
    # A training's folder is one of its variant's, by the seed; an archive has one alone.
    for path in sorted([*folder.glob(f"trials/*/{OUTCOME_NAME}"), *folder.glob(f"trials/*/*/{OUTCOME_NAME}")]):
        if path.parent not in requests:
            yield path.parent, read_json(path)


def _reason_to_leave_out(
    request: dict[str, Any],
    evaluation: dict[str, Any],
    training_data: Sequence[list[dict[str, Any]]],
    identities: Identities,
) -> Optional[str]:
    """Why the run of an earlier command cannot stand beside those of this one."""
    if request["format"] != FORMAT:
        return "of another version of regattn_allennlp"
    if not same_data(request["test_data"], evaluation["test_data"]):
        return "of other test data"
    if request["archive"] is not None:
        is_changed = identities.of_archive(request["archive"]["path"]) != request["archive"]
        return "whose archive has changed since" if is_changed else None
    if identities.of_training(request["config"]) != request["training"]:
        return "whose training data or other files have changed since"
    if training_data and not any(
        len(data) == len(request["training_data"]) and all(map(same_data, data, request["training_data"]))
        for data in training_data
    ):
        return "of other training data"
    return None


def _comparable(outcome: dict[str, Any], evaluation: dict[str, Any], identities: Identities) -> dict[str, Any]:
    """
    The outcome without what was measured on other data, by other attacks, or by other gold links than those of the
    present evaluation.
    """
    request = outcome["request"]
    dropped: list[str] = []
    if not same_data(request["out_of_domain"], evaluation["out_of_domain"]):
        dropped.append(OUT_OF_DOMAIN)
    if request["num_faithfulness_items"] != evaluation["num_faithfulness_items"]:
        dropped += FAITHFULNESS
    if any(request[key] != evaluation[key] for key in ("attacks", "num_attacked_items", "synonyms")):
        dropped += [f"{metric_prefix(attack)}_" for attack in request["attacks"]]
    metrics = {name: value for name, value in outcome["metrics"].items() if not name.startswith(tuple(dropped))}
    gold_links = identities.of_gold_links(request["config"], evaluation["test_data"]["path"])
    if not same_data(request["gold_links"], gold_links):
        metrics = {name: value for name, value in metrics.items() if not name.endswith(tuple(ALIGNMENT_METRICS))}
    return {**outcome, "metrics": metrics}


def _run(path: Path, outcome: dict[str, Any], folder: Path) -> Run:
    metrics = dict(outcome["metrics"])
    if outcome["curve"]:
        # The median: the first epoch may have to compile.
        metrics["seconds_per_epoch"] = median(epoch["seconds"] for epoch in outcome["curve"])
    request = outcome["request"]
    names = [field.name for field in dataclasses.fields(Run) if field.name in outcome and field.name != "metrics"]
    return Run(
        seed=request["config"].get(SEED_KEYS[0]),
        model=request["archive"]["path"] if request["archive"] else str((path / MODEL_NAME).relative_to(folder)),
        metrics=metrics,
        **{name: outcome[name] for name in names},
    )


def _failures(variants: Sequence[Variant], requests: dict[Path, dict[str, Any]], folder: Path) -> Iterator[Failure]:
    for variant in variants:
        for trial in variant.trials:
            failure = trial.folder / FAILURE_NAME
            if failure.exists() and read_outcome(trial.folder, requests[trial.folder]) is None:
                log = str((trial.folder / LOG_NAME).relative_to(folder))
                yield Failure(variant.name, trial.seed, failure.read_text(encoding="utf-8"), log)
