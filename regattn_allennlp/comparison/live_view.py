"""What the terminal shows while a comparison is at work."""

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Optional

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from regattn_allennlp.comparison.trial_files import (
    FAILURE_NAME,
    LOG_NAME,
    MODEL_NAME,
    OUTCOME_NAME,
    RUNNING_NAME,
    TRAINED_NAME,
    read_json,
)
from regattn_allennlp.comparison.variants import Trial

# Of AllenNLP's trainer.
DEFAULT_NUM_EPOCHS = 20
DEFAULT_VALIDATION_METRIC = "-loss"


@dataclass(frozen=True)
class Progress:
    """How far a trial's training is: epochs that are over, the metric by its name, and seconds left, at most."""

    epoch: int
    num_epochs: int
    metric: Optional[tuple[str, float]]
    seconds_left: Optional[float]


def progress(trial: Trial) -> Progress:
    """Of a training that runs or ran, by the files that AllenNLP writes after each epoch."""
    trainer = trial.config.get("trainer", {})
    num_epochs = trainer.get("num_epochs", DEFAULT_NUM_EPOCHS)
    written: list[float] = []
    path: Optional[Path] = None
    while (epoch := trial.folder / MODEL_NAME / f"metrics_epoch_{len(written)}.json").exists():
        path = epoch
        written.append(epoch.stat().st_mtime)
    if path is None:
        return Progress(0, num_epochs, None, None)
    # The median: the first epoch may have to compile, and an interruption is no epoch.
    seconds = [after - before for before, after in itertools.pairwise(written)]
    left = median(seconds) * (num_epochs - len(written)) - (time.time() - written[-1]) if seconds else None
    name = trainer.get("validation_metric", DEFAULT_VALIDATION_METRIC)
    name = (name if isinstance(name, str) else name[0]).lstrip("+-")
    value = json.loads(path.read_text(encoding="utf-8")).get(f"validation_{name}")
    metric = None if value is None else (name, value)
    return Progress(len(written), num_epochs, metric, None if left is None else max(0, left))


class LiveView:
    """
    Shows, refreshed each second, a line for each trial that runs: the variant, the seed, the epoch, the metric so far,
    how long it takes at most, and the path of its log; and how many of all are over. Where standard output is no
    terminal, a line is written for each trial that is over.

    # Parameters

    trials : `Mapping[Path, Trial]`
        All of the comparison, by their folders.
    waiting : `Sequence[Path]`
        The folders of those that are to run.
    folder : `Path`
        Of the comparison; paths of logs are as seen from it.
    """

    def __init__(
        self, trials: Mapping[Path, Trial], waiting: Sequence[Path], folder: Path, console: Optional[Console] = None
    ) -> None:
        self._trials = trials
        self._waiting = list(waiting)
        self._folder = folder
        self._console = console or Console()
        self._live = Live(
            self, console=self._console, refresh_per_second=1, transient=True, redirect_stdout=False,
            redirect_stderr=False,
        )  # fmt: skip

    def __enter__(self) -> "LiveView":
        if self._console.is_terminal and self._waiting:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def over(self, path: Path) -> None:
        """Says what has come of a trial."""
        self._waiting.remove(path)
        trial = self._trials[path]
        failure = path / FAILURE_NAME
        if failure.exists():
            told = f"failed: {failure.read_text(encoding='utf-8')} (see {self._log(path)})"
        else:
            outcome = read_json(path / OUTCOME_NAME)
            name = outcome["compared_metrics"][0]
            told = f"{name} {outcome['metrics'][name]:.4f}"
        number = len(self._trials) - len(self._waiting)
        line = f"{number} of {len(self._trials)}: {_name(trial)}: {told}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __rich__(self) -> Group:
        table = Table("variant", "seed", "epoch", "metric", "left", "log", box=None, pad_edge=False)
        for column in table.columns[1:5]:
            column.no_wrap = True
        table.columns[-1].overflow = "fold"
        for path in self._waiting:
            if (path / RUNNING_NAME).exists():
                table.add_row(*map(Text, self._cells(self._trials[path])), Text(self._log(path)))
        total, number = len(self._trials), len(self._trials) - len(self._waiting)
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total, number, width=30), f"{number} of {total} runs")
        return Group(Text(f"Logs are in {self._folder}"), table, bar) if table.rows else Group(bar)

    def _cells(self, trial: Trial) -> list[str]:
        seed = str(trial.seed)
        if trial.archive is not None or (trial.folder / TRAINED_NAME).exists():
            return [trial.variant, seed, "", "", "evaluating"]
        now = progress(trial)
        metric = f"{now.metric[0]} {now.metric[1]:.4f}" if now.metric else ""
        left = "" if now.seconds_left is None else f"{now.seconds_left // 60:.0f}:{now.seconds_left % 60:02.0f}"
        return [trial.variant, seed, f"{now.epoch} of {now.num_epochs}", metric, left]

    def _log(self, path: Path) -> str:
        return str((path / LOG_NAME).relative_to(self._folder))


def print_table(rows: Sequence[Sequence[str]], console: Console) -> None:
    """A table, the first row its headings, as narrow as the terminal."""
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    console.print(table)


def what_is_kept(trials: Mapping[Path, Trial], is_over: Any) -> str:
    """What an interruption leaves, in words; `is_over` tells of a trial's folder whether it has its outcome."""
    over = [path for path in trials if is_over(path)]
    begun = []
    for path, trial in trials.items():
        if path not in over and trial.archive is None:
            now = progress(trial)
            if (path / TRAINED_NAME).exists():
                begun.append(f"{_name(trial)} (trained)")
            elif now.epoch:
                begun.append(f"{_name(trial)} (after epoch {now.epoch} of {now.num_epochs})")
    kept = f"{len(over)} of {len(trials)} runs are over and kept"
    return f"{kept}; these go on where they were: {', '.join(begun)}" if begun else kept


def _name(trial: Trial) -> str:
    return trial.variant if trial.seed is None else f"{trial.variant}, seed {trial.seed}"
