import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Optional

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from filelock import FileLock, Timeout
from tqdm import tqdm

from regattn_allennlp.commands.help_formatter import HelpFormatter
from regattn_allennlp.comparison.engine import run_trials
from regattn_allennlp.comparison.report import Failure, Run, VariantResults, write_report
from regattn_allennlp.comparison.robustness import check_attack
from regattn_allennlp.comparison.trial_files import (
    FAILURE_NAME,
    FORMAT,
    LOG_NAME,
    MODEL_NAME,
    REQUEST_NAME,
    read_outcome,
    write_atomically,
)
from regattn_allennlp.comparison.variants import Variant, make_variants, parse_block
from regattn_allennlp.predictors.archives import ARCHIVE_NAME, build_dataset_reader, common_task
from regattn_allennlp.predictors.entailment import EntailmentPredictor

DESCRIPTION = """\
Train models that differ in their attention alone, in their latent alignment, or in the regularizer of their
self-attention, with several seeds each, and say how they differ: in what their task is measured by (accuracy, BLEU,
perplexity), with a test of significance for each pair, in how sparse and structured their attention is, in how far
their probabilities can be believed, on data of another kind and under attack if wanted, in time. For models of any
task, those of one task together.

Four attentions, three seeds each, in the surroundings of one config:

    allennlp compare-attention training_configs/sample/softmax.jsonnet \\
        --attention softmax --attention sparsemax \\
        --attention '{"type": "fusedmax", "lam": 0.1}' \\
        --attention '{"type": "oscarmax", "lam": 0.2}' -s output/compare

A sweep is one argument; a list stands for a variant of each of its numbers:

    --attention '{"type": "fusedmax", "lam": [0.01, 0.03, 0.1, 0.3]}'

Each latent alignment with each attention, of a model that has both:

    --attention softmax --latent-alignment soft --latent-alignment exact \\
        --latent-alignment '{"type": "variational", "estimator": "enumeration"}'

Each alignment regularizer, and none, in the place of each block "alignment_regularizer" in the config's model:

    --alignment-regularizer none \\
        --alignment-regularizer '{"type": "mmd", "weight": [0.01, 0.1]}'

Models that are trained already; those whose configs are alike but for the seeds count as one variant:

    allennlp compare-attention output/softmax output/fusedmax/model.tar.gz \\
        --test-data test.jsonl -s output/compare

The results are comparison.md, to read; comparison.csv, a row for each variant; comparison.json, everything; figures.
Each training has its own folder in DIR/trials, with its log and its archive. A comparison that was interrupted goes on
where it stopped if the same command is given again; variants may be added, and those that are there are not repeated.
A training that fails is reported, and the others go on; the command then ends with exit status 1.
"""


@Subcommand.register("compare-attention")
class CompareAttention(Subcommand):
    """`allennlp compare-attention`: its `--help` says it all."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = parser.add_parser(
            self.name,
            description=DESCRIPTION,
            formatter_class=HelpFormatter,
            help="Compare attentions: train each with several seeds, evaluate, and test the differences.",
        )
        subparser.add_argument(
            "sources",
            nargs="+",
            metavar="CONFIG_OR_ARCHIVE",
            help="configs to train, and archives (the folder that `allennlp train -s` wrote, or the model.tar.gz "
            "in it)",
        )
        subparser.add_argument(
            "--attention",
            action="append",
            default=[],
            metavar="A",
            help="a name, or the block of an attention in JSON, to stand in the place of the configs' own; may be "
            "given several times",
        )
        subparser.add_argument(
            "--latent-alignment",
            action="append",
            default=[],
            metavar="L",
            help="the same for the configs' latent alignment; each is combined with each attention",
        )
        subparser.add_argument(
            "--alignment-regularizer",
            action="append",
            default=[],
            metavar="R",
            help='the same for every "alignment_regularizer" in the configs\' models; "none" stands for having none',
        )
        subparser.add_argument(
            "--seeds", type=int, default=3, metavar="N", help="train each variant with the seeds 1 to N"
        )
        subparser.add_argument(
            "--test-data",
            metavar="PATH",
            help="anything that the config's dataset reader reads; by default the test_data_path of the first source, "
            "or else its validation_data_path",
        )
        subparser.add_argument(
            "--out-of-domain",
            metavar="PATH",
            help="evaluate on these data as well, of another kind: anything that the config's dataset reader reads",
        )
        engine = subparser.add_mutually_exclusive_group()
        engine.add_argument(
            "--workers",
            type=int,
            metavar="N",
            help="how many trainings run at a time, sharing the cores (default = 1)",
        )
        engine.add_argument(
            "--ray",
            metavar="ADDRESS",
            help="run on a Ray cluster, as many trainings at a time as it has cores; its machines must see DIR and "
            'the data under the same paths. "auto" is the cluster that this machine belongs to, "local" one that is '
            "started here",
        )
        subparser.add_argument(
            "--faithfulness",
            type=int,
            nargs="?",
            const=1000,
            default=0,
            metavar="N",
            help="measure comprehensiveness and sufficiency (DeYoung et al. 2020) of the most-attended words, on the "
            "first N test items (1000 if N is left out); of textual entailment",
        )
        subparser.add_argument(
            "--attack",
            action="append",
            default=[],
            metavar="NAME",
            help="replace words of the hypothesis to change the label, and see how often that succeeds: synonym-swap, "
            'hotflip, or a block in JSON such as {"type": "hotflip", "max_swaps": 1}; may be given several times; of '
            "textual entailment",
        )
        subparser.add_argument(
            "--attacked-items",
            type=int,
            default=200,
            metavar="N",
            help="attack the first N test items, those of them that are right",
        )
        subparser.add_argument("--batch-size", type=int, default=64, metavar="N", help="items to predict at a time")
        subparser.add_argument(
            "-o", "--overrides", default="", help="change all configs, as in `allennlp train`: a JSON object"
        )
        subparser.add_argument(
            "-s", "--serialization-dir", required=True, metavar="DIR", help="where everything is kept"
        )
        subparser.set_defaults(func=compare_attention)
        return subparser


def compare_attention(arguments: argparse.Namespace) -> None:
    least_values = {"seeds": 1, "workers": 1, "batch_size": 1, "faithfulness": 0, "attacked_items": 1}
    for name, least in least_values.items():
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise ConfigurationError(f"--{name.replace('_', '-')} must be {least} or more, but is {value}")
    folder = Path(arguments.serialization_dir).absolute()
    variants = make_variants(
        arguments.sources,
        arguments.attention,
        arguments.latent_alignment,
        range(1, arguments.seeds + 1),
        arguments.overrides,
        folder,
        arguments.alignment_regularizer,
    )
    task = common_task({variant.source: variant.config for variant in variants})
    if arguments.faithfulness and not issubclass(task.predictor, EntailmentPredictor):
        raise ConfigurationError(
            "--faithfulness removes words of a premise and a hypothesis: it is not for the task "
            f'"{task.predictor_name}".'
        )
    attacks = parse_attacks(arguments.attack)
    if attacks and not issubclass(task.predictor, EntailmentPredictor):
        raise ConfigurationError(
            f'--attack replaces words of a hypothesis: it is not for the task "{task.predictor_name}".'
        )
    test_data = arguments.test_data or default_test_data(variants)
    check_test_data(variants[0].config, test_data)
    if arguments.out_of_domain:
        check_test_data(variants[0].config, arguments.out_of_domain)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            failures = _compare(arguments, variants, test_data, attacks, folder)
    except Timeout as error:
        raise ConfigurationError(
            f"Another comparison is at work in {folder}: wait for it, or choose another -s."
        ) from error
    if failures:
        raise SystemExit(1)


def _compare(
    arguments: argparse.Namespace,
    variants: Sequence[Variant],
    test_data: str,
    attacks: Sequence[dict[str, Any]],
    folder: Path,
) -> list[Failure]:
    evaluation = {
        "test_data": identify(test_data),
        "out_of_domain": identify(arguments.out_of_domain) if arguments.out_of_domain else None,
        "batch_size": arguments.batch_size,
        "num_faithfulness_items": arguments.faithfulness,
        "attacks": attacks,
        "num_attacked_items": arguments.attacked_items if attacks else 0,
        # A table that was changed is another attack.
        "synonyms": [identify(attack["synonyms"]) for attack in attacks if attack.get("synonyms")],
    }
    requests: dict[Path, dict[str, Any]] = {}
    # Seed by seed: all variants meet the same conditions on the machine, and a mistake in one shows early.
    for trial in sorted(
        (trial for variant in variants for trial in variant.trials), key=lambda trial: trial.seed or 0
    ):
        requests[trial.folder] = {
            "format": FORMAT,
            "config": trial.config,
            "archive": trial.archive and identify(trial.archive),
            **evaluation,
            "include_package": arguments.include_package,
        }
    waiting = []
    for trial_folder, request in requests.items():
        if read_outcome(trial_folder, request) is None:
            trial_folder.mkdir(parents=True, exist_ok=True)
            write_atomically(trial_folder / REQUEST_NAME, json.dumps(request, indent=2))
            waiting.append(trial_folder)

    def report() -> list[Failure]:
        results, failures = collect(variants, requests, folder)
        write_report(
            folder, test_data, results, failures, arguments.out_of_domain, attacks, evaluation["num_attacked_items"]
        )
        return failures

    failures = report()
    with tqdm(total=len(requests), initial=len(requests) - len(waiting), desc="runs", smoothing=0) as progress:
        for trial_folder in run_trials(waiting, arguments.workers, arguments.ray):
            failure = trial_folder / FAILURE_NAME
            if failure.exists():
                progress.write(f"{trial_folder.relative_to(folder)} failed: {failure.read_text(encoding='utf-8')}")
            progress.update()
            failures = report()
    print((folder / "comparison.md").read_text(encoding="utf-8"))
    print(f"Written to {folder}: comparison.md, comparison.csv, comparison.json")
    return failures


def parse_attacks(arguments: Sequence[str]) -> list[dict[str, Any]]:
    """
    The blocks of `--attack`. Each is checked: a mistake must not show after the training alone. An attack may be there
    once, for its metrics are named by its type.
    """
    attacks = [block for argument in arguments for block in parse_block("--attack", argument)]
    for attack in attacks:
        check_attack(attack)
        if [other["type"] for other in attacks].count(attack["type"]) > 1:
            raise ConfigurationError(f"--attack {attack['type']} is given twice; give one block of it.")
    return attacks


def default_test_data(variants: Sequence[Variant]) -> str:
    """What the first variant's config names."""
    config = variants[0].config
    path = config.get("test_data_path") or config.get("validation_data_path")
    if not isinstance(path, str):
        raise ConfigurationError(
            f"{variants[0].source} names no test_data_path and no validation_data_path: give --test-data"
        )
    return path


def check_test_data(config: dict[str, Any], test_data: str) -> None:
    """Reads the first item: a mistake must not show after the training alone."""
    if next(iter(build_dataset_reader(config).read(test_data)), None) is None:
        raise ConfigurationError(f"{test_data} has no items to evaluate on")


def identify(path: str) -> dict[str, Any]:
    """The path of an archive or of data, and what tells that the file there has changed."""
    file = Path(re.sub(r"\[[^\[\]]*\]$", "", path))  # without a slice
    if file.is_dir():
        file /= ARCHIVE_NAME
    if not file.is_file():
        return {"path": path}
    status = file.stat()
    return {"path": path, "size": status.st_size, "modified": status.st_mtime_ns}


def collect(
    variants: Sequence[Variant], requests: dict[Path, dict[str, Any]], folder: Path
) -> tuple[list[VariantResults], list[Failure]]:
    """What has come of the trials so far; their folders are given as seen from the comparison's `folder`."""
    results, failures = [], []
    for variant in variants:
        runs = []
        for trial in variant.trials:
            outcome = read_outcome(trial.folder, requests[trial.folder])
            failure = trial.folder / FAILURE_NAME
            if outcome is not None:
                model = trial.archive or str((trial.folder / MODEL_NAME).relative_to(folder))
                runs.append(_run(trial.seed, model, outcome))
            elif failure.exists():
                error = failure.read_text(encoding="utf-8")
                failures.append(
                    Failure(variant.name, trial.seed, error, str((trial.folder / LOG_NAME).relative_to(folder)))
                )
        results.append(VariantResults(variant, runs))
    return results, failures


def _run(seed: Optional[int], model: str, outcome: dict[str, Any]) -> Run:
    metrics = dict(outcome["metrics"])
    if outcome["curve"]:
        # The median: the first epoch may have to compile.
        metrics["seconds_per_epoch"] = median(epoch["seconds"] for epoch in outcome["curve"])
    names = ("curve", "compared_metrics", "attention_directions", "item_scores", "items")
    return Run(seed, model, metrics, **{name: outcome[name] for name in names})
