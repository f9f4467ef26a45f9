"""
The files of a trial's folder, by which the comparison and the trial's own process speak to each other: `request.json`,
what is to be done; `outcome.json`, what came of it and for which request, or `failure.txt`, why nothing came; `model`,
what a training writes; `log.txt`, what the process said; `.lock`, held by the process at work;
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
LOG_NAME = "log.txt"
LOCK_NAME = ".lock"
NODE_NAME = ".ray_node"

# What an outcome holds has changed so many times: one of another format is evaluated anew.
FORMAT = 3


def write_atomically(path: Path, text: str) -> None:
    """An interruption leaves the file as it was, or whole."""
    with whole_file(path) as unfinished:
        Path(unfinished).write_text(text, encoding="utf-8")


def read_outcome(folder: Path, request: dict[str, Any]) -> Optional[dict[str, Any]]:
    """The outcome of just this request, if there is one."""
    path = folder / OUTCOME_NAME
    if not path.exists():
        return None
    outcome = json.loads(path.read_text(encoding="utf-8"))
    return outcome if outcome["request"] == request else None
