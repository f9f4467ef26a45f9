"""
The files of a trial's folder, by which the comparison and the trial's own process speak to each other: `request.json`,
what is to be done; `outcome.json`, what came of it and for which request, or `failure.txt`, why nothing came; `model`,
what a training writes; `training.json`, what that training depends on; `trained`, written when it is over and its
archive whole; `log.txt`, what the process said; `.running`, there while it runs; `.lock`, held by the process at work;
`.ray_node`, the machine of a Ray cluster that it runs on.
"""

import json
from pathlib import Path
from typing import Any, Optional

from regattn_allennlp.whole_file import whole_file

REQUEST_NAME = "request.json"
OUTCOME_NAME = "outcome.json"
FAILURE_NAME = "failure.txt"
MODEL_NAME = "model"
TRAINING_NAME = "training.json"
TRAINED_NAME = "trained"
LOG_NAME = "log.txt"
RUNNING_NAME = ".running"
LOCK_NAME = ".lock"
NODE_NAME = ".ray_node"

# What an outcome holds has changed so many times: one of another format is evaluated anew.
FORMAT = 5

# What a request says besides what is to be done: for people, of the machine, and the comparison's folder.
BESIDES = ("source", "cuda_device", "folder")


def write_atomically(path: Path, text: str) -> None:
    """An interruption leaves the file as it was, or whole."""
    with whole_file(path) as unfinished:
        Path(unfinished).write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """What the file holds; `None` if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_outcome(folder: Path, request: dict[str, Any]) -> Optional[dict[str, Any]]:
    """The outcome of just this request, if there is one."""
    outcome = read_json(folder / OUTCOME_NAME)
    return outcome if outcome is not None and _asked(outcome["request"]) == _asked(request) else None


def _asked(request: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in request.items() if key not in BESIDES}
