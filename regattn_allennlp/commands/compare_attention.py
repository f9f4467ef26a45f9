import argparse
import contextlib
import json
import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError, check_for_gpu
from allennlp.common.util import SigTermReceived
from filelock import FileLock, Timeout
from rich.console import Console

from regattn_allennlp.commands.help_formatter import HelpFormatter
from regattn_allennlp.comparison.check import check_trainings
from regattn_allennlp.comparison.collection import Collection, collect
from regattn_allennlp.comparison.disagreements import write_disagreements
from regattn_allennlp.comparison.engine import run_trials
from regattn_allennlp.comparison.identities import Identities, why_anew
from regattn_allennlp.comparison.live_view import LiveView, print_table, what_is_kept
from regattn_allennlp.comparison.report import main_rows, notes, write_report
from regattn_allennlp.comparison.robustness import check_attack
from regattn_allennlp.comparison.trial_files import (
    FORMAT,
    MODEL_NAME,
    REQUEST_NAME,
    TRAINING_NAME,
    read_json,
    read_outcome,
    write_atomically,
)
from regattn_allennlp.comparison.variants import Trial, Variant, make_variants, parse_block
from regattn_allennlp.predictors.archives import build_dataset_reader, common_task
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

The results are comparison.md, to read; comparison.csv, a row for each variant; comparison.json, everything; figures;
attention.html, the items on which the variants differ most. They hold all runs in DIR of the same data, also those of
earlier commands; what the command names comes first. Each training has its own folder in DIR/trials, with its log and
its archive. A comparison that was interrupted goes on where it stopped if the same command is given again; variants
may be added, and those that are there are not repeated, unless a file that they are trained on has changed. A mistake
in a variant is told before the first training; one that fails later is reported, and the others go on; the command
then ends with exit status 1.
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
            help="how many trainings run at a time, sharing the cores; each has a GPU of its own, as far as there are "
            "GPUs (default = 1, which sees all GPUs)",
        )
        engine.add_argument(
            "--ray",
            metavar="ADDRESS",
            help="run on a Ray cluster, as many trainings at a time as it has cores or, if it has GPUs, GPUs; its "
            'machines must see DIR and the data under the same paths. "auto" is the cluster that this machine belongs '
            'to, "local" one that is started here',
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
            "--cuda-device",
            type=int,
            metavar="ID",
            help="the GPU to use, -1 for the CPU, in the evaluation; by default the run's first GPU, if there is one",
        )
        subparser.add_argument(
            "-o", "--overrides", default="", help="change all configs, as in `allennlp train`: a JSON object"
        )
        subparser.add_argument(
            "-s", "--serialization-dir", required=True, metavar="DIR", help="where everything is kept"
        )
        subparser.set_defaults(func=compare_attention)
        return subparser


def compare_attention(arguments: argparse.Namespace) -> None:
    try:
        with _without_steps():
            _prepare_and_compare(arguments)
    except (KeyboardInterrupt, SigTermReceived) as error:
        print("Stopped before the first run.")
        raise SystemExit(_status(error)) from None


def _status(error: BaseException) -> int:
    """The exit status of what a signal has ended: Ctrl-C, or SIGTERM."""
    return 128 + (signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)


@contextlib.contextmanager
def _without_steps() -> Iterator[None]:
    """AllenNLP tells of each parameter that it reads: the trials' logs have it."""
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(disabled)


def _prepare_and_compare(arguments: argparse.Namespace) -> None:
    least_values = {
        "seeds": 1,
        "workers": 1,
        "batch_size": 1,
        "faithfulness": 0,
        "attacked_items": 1,
        "cuda_device": -1,
    }
    for name, least in least_values.items():
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise ConfigurationError(f"--{name.replace('_', '-')} must be {least} or more, but is {value}")
    _check_devices(arguments)
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
    identities = Identities(folder)
    evaluation = {
        "test_data": identities.of_data(test_data),
        "out_of_domain": identities.of_data(arguments.out_of_domain) if arguments.out_of_domain else None,
        "batch_size": arguments.batch_size,
        "num_faithfulness_items": arguments.faithfulness,
        "attacks": attacks,
        "num_attacked_items": arguments.attacked_items if attacks else 0,
        # A table that was changed is another attack.
        "synonyms": [identities.of_data(attack["synonyms"]) for attack in attacks if attack.get("synonyms")],
    }
    comparison = _Comparison(arguments, variants, evaluation, folder, identities)
    comparison.check()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            is_whole = comparison.run()
    except Timeout as error:
        raise ConfigurationError(
            f"Another comparison is at work in {folder}: wait for it, or choose another -s."
        ) from error
    except (KeyboardInterrupt, SigTermReceived) as error:
        print(f"Stopped: {comparison.kept()}. The same command goes on.")
        raise SystemExit(_status(error)) from None
    if not is_whole:
        raise SystemExit(1)


def _check_devices(arguments: argparse.Namespace) -> None:
    if arguments.cuda_device is None:
        return
    if arguments.cuda_device > 0 and (arguments.ray or (arguments.workers or 1) > 1):
        raise ConfigurationError(
            f"--cuda-device is {arguments.cuda_device}, but with several --workers, or on Ray, each run sees one GPU, "
            "its own: write 0 for that, or -1 for the CPU."
        )
    if not arguments.ray:  # whose machines are others
        check_for_gpu(arguments.cuda_device)


class _Comparison:
    """What a command compares, and what there is of it in the folder."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        variants: Sequence[Variant],
        evaluation: dict[str, Any],
        folder: Path,
        identities: Identities,
    ) -> None:
        self._arguments = arguments
        self._variants = variants
        self._evaluation = evaluation
        self._folder = folder
        self._identities = identities
        # Seed by seed: all variants meet the same conditions on the machine, and a mistake in one shows early.
        trials = sorted((trial for variant in variants for trial in variant.trials), key=lambda trial: trial.seed or 0)
        self._trials: Mapping[Path, Trial] = {trial.folder: trial for trial in trials}
        sources = {trial.folder: variant.source for variant in variants for trial in variant.trials}
        self._requests = {path: self._request(trial, sources[path]) for path, trial in self._trials.items()}

    def _request(self, trial: Trial, source: str) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "source": source,
            "config": trial.config,
            "archive": trial.archive and self._identities.of_archive(trial.archive),
            # What is trained already does not care what it was trained on.
            "training": None if trial.archive else self._identities.of_training(trial.config),
            "training_data": [] if trial.archive else self._identities.of_training_data(trial.config),
            **self._evaluation,
            "gold_links": self._identities.of_gold_links(trial.config, self._evaluation["test_data"]["path"]),
            "include_package": self._arguments.include_package,
            "cuda_device": self._arguments.cuda_device,
            "folder": str(self._folder),
        }

    def _is_over(self, path: Path) -> bool:
        return read_outcome(path, self._requests[path]) is not None

    def check(self) -> None:
        """Finds mistakes in those variants of which something is to be trained."""
        check_trainings(
            [
                variant
                for variant in self._variants
                if not variant.trials[0].archive and not all(self._is_over(trial.folder) for trial in variant.trials)
            ]
        )

    def run(self) -> bool:
        """Runs what is not over, writes the results, and returns whether nothing failed."""
        waiting = [path for path in self._trials if not self._is_over(path)]
        self._say_what_is_trained_anew(waiting)
        for path in waiting:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / REQUEST_NAME, json.dumps(self._requests[path], indent=2))
        self._report()
        self._identities.save()
        with (
            LiveView(self._trials, waiting, self._folder) as view,
            contextlib.closing(run_trials(waiting, self._arguments.workers, self._arguments.ray)) as ended,
        ):
            for path in ended:
                view.over(path)
                self._report()
        collection, report = self._report()
        why_no_page = write_disagreements(self._folder, self._evaluation["test_data"]["path"], collection.results)
        console = Console()
        if console.is_terminal and report["variants"]:
            print_table(main_rows(report), console)
            print(*notes(report["variants"]), sep="\n")
        else:
            print((self._folder / "comparison.md").read_text(encoding="utf-8"))
        page = f"; no attention.html: {why_no_page}" if why_no_page else ", attention.html"
        print(f"Written to {self._folder}: comparison.md, comparison.csv, comparison.json{page}")
        return not collection.failures

    def kept(self) -> str:
        """What an interruption leaves, in words."""
        return f"{what_is_kept(self._trials, self._is_over)}, in {self._folder}"

    def _report(self) -> tuple[Collection, dict[str, Any]]:
        collection = collect(self._variants, self._requests, self._evaluation, self._folder, self._identities)
        report = write_report(
            self._folder,
            self._evaluation["test_data"]["path"],
            collection.results,
            collection.failures,
            self._arguments.out_of_domain,
            self._evaluation["attacks"],
            self._evaluation["num_attacked_items"],
            collection.left_out,
        )
        return collection, report

    def _say_what_is_trained_anew(self, waiting: Sequence[Path]) -> None:
        names: dict[str, list[str]] = {}
        for path in waiting:
            known, training = read_json(path / TRAINING_NAME), self._requests[path]["training"]
            if (path / MODEL_NAME).exists() and (known is None or known["identity"] != training):
                names.setdefault(why_anew(known, training), []).append(path.relative_to(self._folder).as_posix())
        for why, paths in names.items():
            print(f"{len(paths)} {'run is' if len(paths) == 1 else 'runs are'} {why}")


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
