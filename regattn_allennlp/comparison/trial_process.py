"""
Runs one trial in a process of its own, so that its end, whatever it is, ends nothing else:

    python -m regattn_allennlp.comparison.trial_process FOLDER [--beside-others]

`trial_files` says what is in the folder. The option says that other trials are at work on this machine at the same
time, so that its seconds are rough. The process ends when its standard input does.
"""

import copy
import json
import logging
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.plugins import import_plugins
from allennlp.common.util import import_module_and_submodules, prepare_environment
from allennlp.models.archival import load_archive
from filelock import FileLock, Timeout

from regattn_allennlp.comparison.evaluation import evaluate, training_curve
from regattn_allennlp.comparison.identities import Identities, changes, why_anew
from regattn_allennlp.comparison.trial_files import (
    FAILURE_NAME,
    LOCK_NAME,
    MODEL_NAME,
    OUTCOME_NAME,
    REQUEST_NAME,
    TRAINED_NAME,
    TRAINING_NAME,
    read_json,
    write_atomically,
)
from regattn_allennlp.predictors.archives import ARCHIVE_NAME

logger = logging.getLogger(__name__)

BESIDE_OTHERS = "--beside-others"


def main() -> None:
    folder = Path(sys.argv[1])
    threading.Thread(target=_exit_with_standard_input, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s - %(levelname)s - %(name)s - %(message)s")
    try:
        with _alone_in(folder):
            outcome = run(folder, read_json(folder / REQUEST_NAME), beside_others=BESIDE_OTHERS in sys.argv)
    except Exception as error:
        traceback.print_exc()
        write_atomically(folder / FAILURE_NAME, f"{type(error).__name__}: {error}")
        sys.exit(1)
    write_atomically(folder / OUTCOME_NAME, json.dumps(outcome))


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    # A machine of a cluster that was thought dead may still be at work, until it finds that it is cut off.
    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("Another process is still at work in %s: waiting for its end.", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _exit_with_standard_input() -> None:
    # Its writer never writes: the end comes when that process is over, even if it was killed.
    sys.stdin.read()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGTERM)  # the processes of its data loaders and of distributed training too
    os._exit(1)


def run(folder: Path, request: dict[str, Any], beside_others: bool = False) -> dict[str, Any]:
    """Trains, if there is something to train that is not trained yet, and evaluates."""
    import_plugins()
    for package in ("regattn_allennlp", *request["include_package"]):
        import_module_and_submodules(package)

    if request["archive"] is None:
        archive_path = str(folder / MODEL_NAME)
        _forget_other_training(folder, request["training"])
        if not (folder / TRAINED_NAME).exists():
            _note_company(folder, beside_others)
            train(request["config"], Path(archive_path), request["include_package"])
            _check_unchanged(request)
            write_atomically(folder / TRAINED_NAME, "")
    else:
        archive_path = request["archive"]["path"]
    curve_folder = Path(archive_path.removesuffix(ARCHIVE_NAME))

    cuda_device = request["cuda_device"]
    if cuda_device is None:
        cuda_device = 0 if torch.cuda.is_available() else -1
    archive = load_archive(archive_path, cuda_device=cuda_device)
    # Readers may draw random numbers.
    prepare_environment(Params({}))
    evaluation = evaluate(
        archive.model,
        archive.validation_dataset_reader,
        request["test_data"]["path"],
        request["batch_size"],
        request["num_faithfulness_items"],
        out_of_domain=request["out_of_domain"] and request["out_of_domain"]["path"],
        attacks=request["attacks"],
        num_attacked_items=request["num_attacked_items"],
    )
    training = read_json(folder / TRAINING_NAME) or {"beside_others": None}
    return {
        "request": request,
        "curve": training_curve(curve_folder),
        "beside_others": training["beside_others"],
        **evaluation,
    }


def _forget_other_training(folder: Path, training: dict[str, Any]) -> None:
    """What was trained on data that have changed since is of no use: the training begins anew."""
    known = read_json(folder / TRAINING_NAME)
    if known is not None and known["identity"] == training:
        return
    if (folder / MODEL_NAME).exists():
        logger.info("%s", why_anew(known, training))
        (folder / TRAINED_NAME).unlink(missing_ok=True)
        shutil.rmtree(folder / MODEL_NAME)
    write_atomically(folder / TRAINING_NAME, json.dumps({"identity": training, "beside_others": False}))


def _check_unchanged(request: dict[str, Any]) -> None:
    """What a comparison has begun with may be other data by the time that a trial's turn comes."""
    now = Identities(Path(request["folder"])).of_training(request["config"])
    if now != request["training"]:
        raise ConfigurationError(
            f"{changes(request['training'], now)} while the comparison was at work: the same command trains this anew"
        )


def _note_company(folder: Path, beside_others: bool) -> None:
    training = read_json(folder / TRAINING_NAME)
    training["beside_others"] = training["beside_others"] or beside_others
    write_atomically(folder / TRAINING_NAME, json.dumps(training))


def train(config: dict[str, Any], serialization_dir: Path, include_package: list[str]) -> None:
    """
    Trains, and goes on with a training that was interrupted. Where a single GPU is to be seen, it is taken, whatever
    number the config has for it.

    # Raises

    `ConfigurationError`
        If that cannot be gone on with. What it has trained is kept.
    """
    is_interrupted = any(serialization_dir.glob("model_state_e*.th"))
    config = copy.deepcopy(config)  # which is consumed
    cuda_device = config.get("trainer", {}).get("cuda_device")
    if isinstance(cuda_device, int) and cuda_device > 0 and torch.cuda.device_count() == 1:
        config["trainer"]["cuda_device"] = 0
    try:
        train_model(
            Params(config),
            serialization_dir,
            recover=is_interrupted,
            force=not is_interrupted,
            include_package=include_package,
            file_friendly_logging=True,
            return_model=False,
        )
    except Exception as error:
        if not is_interrupted:
            raise
        raise ConfigurationError(
            f"{error} (The training had been interrupted and was to go on from its last checkpoint. To begin it anew, "
            f"delete {serialization_dir}.)"
        ) from error


if __name__ == "__main__":
    main()
