import io
import json
import os
import time

import pytest
from rich.console import Console

from regattn_allennlp.comparison.live_view import LiveView, print_table, progress, what_is_kept
from regattn_allennlp.comparison.variants import Trial

CONFIG = {"trainer": {"num_epochs": 10, "validation_metric": "+accuracy"}}


@pytest.fixture
def trials(tmp_path) -> list[Trial]:
    """One that runs, for three of ten epochs of 60 seconds, the last of them 20 seconds ago; and one that waits."""
    trials = [Trial(name, 1, tmp_path / name, CONFIG) for name in ("softmax [b]", "a very long name of an attention")]
    for trial in trials:
        trial.folder.mkdir()
    model = trials[0].folder / "model"
    model.mkdir()
    for epoch in range(3):
        path = model / f"metrics_epoch_{epoch}.json"
        path.write_text(json.dumps({"validation_accuracy": 0.5 + epoch / 10}))
        ended = time.time() - 20 - 60 * (2 - epoch)
        os.utime(path, (ended, ended))
    (trials[0].folder / ".running").touch()
    return trials


def test_progress_is_read_from_the_files_of_a_training(trials):
    now = progress(trials[0])
    assert (now.epoch, now.num_epochs, now.metric) == (3, 10, ("accuracy", 0.7))
    assert now.seconds_left == pytest.approx(7 * 60 - 20, abs=5)
    assert progress(trials[1]).epoch == 0 and progress(trials[1]).seconds_left is None


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_shows_what_runs(trials, tmp_path, width):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=width, color_system=None)
    by_folder = {trial.folder: trial for trial in trials}
    with LiveView(by_folder, list(by_folder), tmp_path, console) as view:
        pass
    shown = output.getvalue()
    for text in ("softmax [b]", "3 of 10", "accuracy 0.7000", "6:", "0 of 2 runs"):
        assert text in shown
    assert "very" not in shown  # it waits
    console.print(view)
    assert max(map(len, output.getvalue().splitlines()[-5:])) <= width
    assert "softmax [b]/log.txt" in shown


def test_elsewhere_a_line_tells_what_is_over(trials, tmp_path):
    output = io.StringIO()
    by_folder = {trial.folder: trial for trial in trials}
    (trials[0].folder / "outcome.json").write_text(
        json.dumps({"compared_metrics": ["accuracy"], "metrics": {"accuracy": 0.75}})
    )
    (trials[1].folder / "failure.txt").write_text("ValueError: [no] luck")
    with LiveView(by_folder, list(by_folder), tmp_path, Console(file=output)) as view:
        for path in by_folder:
            view.over(path)
    assert output.getvalue().splitlines() == [
        "1 of 2: softmax [b], seed 1: accuracy 0.7500",
        "2 of 2: a very long name of an attention, seed 1: failed: ValueError: [no] luck "
        "(see a very long name of an attention/log.txt)",
    ]


def test_what_an_interruption_leaves_is_told(trials):
    by_folder = {trial.folder: trial for trial in trials}
    assert what_is_kept(by_folder, lambda path: path == trials[1].folder) == (
        "1 of 2 runs are over and kept; these go on where they were: softmax [b], seed 1 (after epoch 3 of 10)"
    )


def test_a_table_fits_the_terminal():
    output = io.StringIO()
    rows = [
        ["variant", "runs", *["a long heading"] * 6],
        ["fusedmax gamma=1 lam=0.1", "3 †", *["0.1234 ± 0.0010"] * 6],
    ]
    print_table(rows, Console(file=output, width=80))
    assert max(map(len, output.getvalue().splitlines())) <= 80 and "3 †" in output.getvalue()
