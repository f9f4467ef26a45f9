"""What one trained model does on the test items: its metrics, and what it gives for each item."""

import hashlib
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import sanitize
from allennlp.data import DatasetReader, Instance
from allennlp.data.data_loaders import SimpleDataLoader
from allennlp.models import Model
from allennlp.nn.util import move_to_device
from tqdm import tqdm

from regattn_allennlp.comparison.calibration import expected_calibration_error
from regattn_allennlp.comparison.faithfulness import faithfulness
from regattn_allennlp.visualization import DIRECTIONS


def evaluate(
    model: Model, reader: DatasetReader, test_data: str, batch_size: int = 64, num_faithfulness_items: int = 0
) -> dict[str, Any]:
    """
    Evaluates a model of textual entailment.

    # Parameters

    test_data : `str`
        What the reader reads.
    num_faithfulness_items : `int`, optional (default = `0`)
        On how many of the first items comprehensiveness and sufficiency are measured.

    # Returns

    `Dict[str, Any]`
        "metrics": the model's own; "zeros", the mean of both directions'; "loss", cross-entropy in nats, the mean over
        items; "expected_calibration_error"; and what `faithfulness` gives. "correct": a bool for each item. "items":
        the same for the same items in the same order with the same labels.

    # Raises

    `ConfigurationError`
        If an item has no label, or one that the model does not know; if the model does not report what is compared.
    """
    instances = list(tqdm(reader.read(test_data), desc="reading the test data"))
    _check_labels(instances, model, test_data)
    loader = SimpleDataLoader(instances, batch_size, vocab=model.vocab)
    device = next(model.parameters()).device
    model.eval()
    model.get_metrics(reset=True)
    all_probabilities, all_labels = [], []
    with torch.no_grad():
        for batch in tqdm(loader, desc="evaluating"):
            output = model(**move_to_device(batch, device))
            all_probabilities.append(output["label_probs"].double().cpu().numpy())
            all_labels.append(batch["label"].cpu().numpy())
    # Shape: (num_items, num_labels)
    probabilities = np.concatenate(all_probabilities)
    labels = np.concatenate(all_labels)
    metrics = model.get_metrics(reset=True)
    zeros = [f"{direction}_zeros" for direction in DIRECTIONS]
    if not metrics.keys() >= {"accuracy", *zeros}:
        raise ConfigurationError(f"The model must report accuracy and {zeros}, but reports {sorted(metrics)}.")
    metrics["zeros"] = fmean(metrics[name] for name in zeros)
    of_gold_label = probabilities[np.arange(len(labels)), labels]
    # A probability that was rounded to 0 counts as the least that is not.
    metrics["loss"] = float(-np.log(np.maximum(of_gold_label, np.finfo(np.float32).tiny)).mean())
    metrics["expected_calibration_error"] = expected_calibration_error(probabilities, labels)
    if num_faithfulness_items:
        metrics.update(faithfulness(model, instances[:num_faithfulness_items], batch_size=batch_size))
    return {
        "metrics": sanitize(metrics),
        "correct": (probabilities.argmax(axis=1) == labels).tolist(),
        "items": _digest(instances),
    }


def _check_labels(instances: list[Instance], model: Model, test_data: str) -> None:
    known = model.vocab.get_token_to_index_vocabulary("labels")
    if not instances:
        raise ConfigurationError(f"{test_data} has no items with a label")
    for number, instance in enumerate(instances):
        if "label" not in instance.fields:
            raise ConfigurationError(f"{test_data}: item {number} (counted from 0) has no label to compare with")
        if instance["label"].label not in known:
            raise ConfigurationError(
                f'{test_data}: the label "{instance["label"].label}" of item {number} (counted from 0) is none that '
                f"the model knows: {sorted(known)}"
            )


def _digest(instances: list[Instance]) -> str:
    digest = hashlib.sha256()
    for instance in instances:
        # Without spaces, so that tokenizers do not matter.
        sentences = ["".join(token.text for token in instance[key].tokens) for key in ("premise", "hypothesis")]
        digest.update(json.dumps([*sentences, instance["label"].label]).encode())
    return digest.hexdigest()


def training_curve(serialization_dir: Path) -> list[dict[str, Any]]:
    """
    The metrics of each epoch that `allennlp train` wrote, in order; as "seconds" how long the epoch took, with its
    validation.
    """
    curve = []
    duration_before = 0.0
    epoch = 0
    while (path := serialization_dir / f"metrics_epoch_{epoch}.json").exists():
        metrics = json.loads(path.read_text())
        duration = _seconds(metrics["training_duration"])
        # A training that recovers measures its duration anew.
        seconds = duration - duration_before if duration > duration_before else duration
        duration_before = duration
        curve.append({**metrics, "seconds": seconds})
        epoch += 1
    return curve


def _seconds(duration: str) -> float:
    """The seconds of "1 day, 0:01:23.456"."""
    days, _, clock = duration.rpartition(", ")
    hours, minutes, seconds = clock.split(":")
    number_of_days = int(days.split()[0]) if days else 0
    return ((number_of_days * 24 + int(hours)) * 60 + int(minutes)) * 60 + float(seconds)
