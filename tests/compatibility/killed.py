"""Trainings that are killed, and what they leave."""

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# By their nature different each time.
MEASURED = ("duration", "memory")


def kill_in(run: Callable[[], Any], kill_when: Callable[[], Any]) -> None:
    """
    Runs in a process of its own, which is killed. It begins as a copy of this one, since importing AllenNLP anew takes
    much longer than the trainings of these tests. `kill_when` is called in it at first.
    """
    process = os.fork()
    if process == 0:
        try:
            kill_when()
            run()
        finally:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status), "it was over before it was killed"
    assert os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGXFSZ)


def while_writing() -> None:
    """Kills when a file gets more than a thousand bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the system's own, which Python ignores
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def after_checkpoint(epochs: int, batches: int = 0) -> Callable[[], None]:
    """Kills when the checkpoint of so many epochs and batches has been written."""

    def kill_when() -> None:
        from allennlp.training.checkpointer import Checkpointer

        save_checkpoint = Checkpointer.save_checkpoint

        def save_checkpoint_and_be_killed(self: Checkpointer, trainer: Any) -> None:
            save_checkpoint(self, trainer)
            if (trainer._epochs_completed, trainer._batches_in_epoch_completed) == (epochs, batches):
                os.kill(os.getpid(), signal.SIGKILL)

        Checkpointer.save_checkpoint = save_checkpoint_and_be_killed  # type: ignore[method-assign]

    return kill_when


def numbers(folder: Path) -> dict[str, dict[str, Any]]:
    """All metrics that a training wrote, but for what is measured."""
    files = {path.name: json.loads(path.read_text()) for path in folder.glob("metrics*.json")}
    return {
        name: {key: value for key, value in metrics.items() if not any(word in key for word in MEASURED)}
        for name, metrics in files.items()
    }


def best_weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "best.th")


def assert_alike(folder: Path, expected: Path) -> None:
    """Whether two trainings wrote the same metrics after each epoch, and the same best weights."""
    assert "metrics.json" in numbers(expected)
    assert numbers(folder) == numbers(expected)
    weights, expected_weights = best_weights(folder), best_weights(expected)
    assert weights.keys() == expected_weights.keys()
    assert all(torch.equal(weights[name], expected_weights[name]) for name in weights)
