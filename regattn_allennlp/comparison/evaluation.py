"""What one trained model does on the test items: its metrics, and what it gives for each item."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Optional

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import sanitize
from allennlp.data import DatasetReader, Instance, Vocabulary
from allennlp.data.data_loaders import SimpleDataLoader
from allennlp.data.fields import LabelField, TextField
from allennlp.models import Model
from allennlp.nn.util import move_to_device
from tqdm import tqdm

from regattn_allennlp.comparison.calibration import expected_calibration_error, negative_log_likelihood, pavpu
from regattn_allennlp.comparison.faithfulness import faithfulness
from regattn_allennlp.comparison.robustness import robustness
from regattn_allennlp.data.labels import label_fields, unknown_label
from regattn_allennlp.data.seen_words import seen_words
from regattn_allennlp.models import AttentionModel

# What is measured of the labels' probabilities.
PROBABILITY_METRICS = ("negative_log_likelihood", "expected_calibration_error", "pavpu")

# The probabilities of this many labels are kept for each item.
MOST_KEPT_LABELS = 20

# Begins the names of what is measured on the second data.
OUT_OF_DOMAIN = "out_of_domain_"


def evaluate(
    model: Model,
    reader: DatasetReader,
    test_data: str,
    batch_size: int = 64,
    num_faithfulness_items: int = 0,
    out_of_domain: Optional[str] = None,
    attacks: Sequence[dict[str, Any]] = (),
    num_attacked_items: int = 0,
) -> dict[str, Any]:
    """
    Evaluates an `AttentionModel`, whatever its task.

    # Parameters

    test_data : `str`
        What the reader reads.
    num_faithfulness_items : `int`, optional (default = `0`)
        On how many of the first items comprehensiveness and sufficiency are measured; of textual entailment.
    out_of_domain : `str`, optional (default = `None`)
        More of what the reader reads, of another kind.
    attacks : `Sequence[Dict[str, Any]]`, optional (default = `()`)
        See `robustness`; of textual entailment.
    num_attacked_items : `int`, optional (default = `0`)
        On how many of the first items they are tried.

    # Returns

    `Dict[str, Any]`
        "metrics": the model's own; "zeros", the mean of all directions'; "loss" in nats, the mean over items, or, of a
        model that reports its perplexity, the logarithm of that; of a model whose output has "label_probs"
        "negative_log_likelihood", "expected_calibration_error" and "pavpu"; of the data `out_of_domain` what the
        model is compared by and these, as "out_of_domain_accuracy" and so on; and what `faithfulness` and
        `robustness` give. "compared_metrics" and "attention_directions": the model's. "item_scores": a number for
        each item, of the first of "compared_metrics". "items": the same for the same items in the same order, with
        the same that is right, scored by the same metric. "item_facts": lists of an entry for each item, see
        `item_facts`. "item_probabilities": of a model of few labels, each label's list of probabilities.

    # Raises

    `ConfigurationError`
        If an item has nothing that is right, or a label that the model does not know; if the model does not report
        what is compared.
    """
    if not isinstance(model, AttentionModel):
        raise ConfigurationError(f"{type(model).__name__} is no AttentionModel: it does not say what is compared.")
    instances = _read(model, reader, test_data)
    metrics, scores, probabilities = _measure(model, instances, test_data, batch_size)
    if out_of_domain is not None:
        others, _, _ = _measure(model, _read(model, reader, out_of_domain), out_of_domain, batch_size)
        kept = [name for name in (*model.compared_metrics, "loss", *PROBABILITY_METRICS) if name in others]
        metrics.update({f"{OUT_OF_DOMAIN}{name}": others[name] for name in kept})
    if num_faithfulness_items:
        metrics.update(faithfulness(model, instances[:num_faithfulness_items], batch_size=batch_size))
    if attacks:
        metrics.update(robustness(model, reader, instances[:num_attacked_items], attacks, batch_size))
    return {
        "metrics": sanitize(metrics),
        "compared_metrics": list(model.compared_metrics),
        "attention_directions": list(model.attention_directions),
        "item_scores": scores,
        "items": _digest(instances, model.compared_metrics[0]),
        "item_facts": item_facts(instances, model.vocab),
        "item_probabilities": probabilities,
    }


def _read(model: Model, reader: DatasetReader, path: str) -> list[Instance]:
    instances = list(tqdm(reader.read(path), desc=f"reading {path}"))
    _check_instances(instances, model, path)
    return instances


def _measure(
    model: AttentionModel, instances: list[Instance], test_data: str, batch_size: int
) -> tuple[dict[str, float], list[float], dict[str, list[float]]]:
    """The metrics that need the items as they are alone, the items' scores, and the probabilities of each label."""
    loader = SimpleDataLoader(instances, batch_size, vocab=model.vocab)
    device = next(model.parameters()).device
    model.eval()
    model.get_metrics(reset=True)
    scores: list[float] = []
    total_loss = 0.0
    probabilities, log_probabilities, labels = [], [], []
    with torch.no_grad():
        for batch in tqdm(loader, desc="evaluating"):
            output = model(**move_to_device(batch, device))
            if "item_scores" not in output:
                raise ConfigurationError(f"{test_data}: its items do not say what is right for them.")
            of_batch = output["item_scores"].double().tolist()
            scores += of_batch
            total_loss += float(output["loss"]) * len(of_batch)
            if "label_probs" in output and batch["label"].dim() == 1:
                probabilities.append(output["label_probs"].double().cpu().numpy())
                log_probabilities.append(_log_probabilities(output))
                labels.append(batch["label"].cpu().numpy())
    metrics = model.get_metrics(reset=True)
    zeros = [f"{direction}_zeros" for direction in model.attention_directions]
    if not metrics.keys() >= {*model.compared_metrics, *zeros}:
        raise ConfigurationError(
            f"The model must report {[*model.compared_metrics, *zeros]}, but reports {sorted(metrics)}."
        )
    metrics["zeros"] = fmean(metrics[name] for name in zeros)
    # A perplexity is of words, of which a batch's items have different numbers.
    metrics["loss"] = math.log(metrics["perplexity"]) if "perplexity" in metrics else total_loss / len(instances)
    if probabilities:
        of_items, right = np.concatenate(probabilities), np.concatenate(labels)
        values = (
            negative_log_likelihood(np.concatenate(log_probabilities), right),
            expected_calibration_error(of_items, right),
            pavpu(of_items, right),
        )
        metrics.update(zip(PROBABILITY_METRICS, values, strict=True))
    return metrics, scores, _by_label(model.vocab, instances[0], probabilities)


def _by_label(vocab: Vocabulary, instance: Instance, probabilities: list[np.ndarray]) -> dict[str, list[float]]:
    """Of few labels, so that they can be kept."""
    if not probabilities:
        return {}
    names = vocab.get_index_to_token_vocabulary(instance["label"]._label_namespace)
    if len(names) > MOST_KEPT_LABELS:
        return {}
    of_items = np.concatenate(probabilities).round(4)
    return {name: of_items[:, index].tolist() for index, name in names.items()}


def item_facts(instances: Sequence[Instance], vocab: Vocabulary) -> dict[str, list[Any]]:
    """
    # Returns

    `Dict[str, List[Any]]`
        For each item "label", its name, or `None`; "length", in tokens, of the longest of its texts, 0 without any;
        "has_unknown", whether they have a word that the model does not know (see `seen_words`).
    """
    facts: dict[str, list[Any]] = {"label": [], "length": [], "has_unknown": []}
    for instance in instances:
        fields = instance.fields.values()
        texts = [field for field in fields if isinstance(field, TextField)]
        labels = [field.label for field in fields if isinstance(field, LabelField) and isinstance(field.label, str)]
        facts["label"].append(labels[0] if len(labels) == 1 else None)
        facts["length"].append(max((len(text.tokens) for text in texts), default=0))
        facts["has_unknown"].append(any(seen_words(text, vocab).unknown for text in texts))
    return facts


def _log_probabilities(output: dict[str, Any]) -> np.ndarray:
    """Up to a constant for each item; of the logits, if there are any, for a small probability is rounded to 0."""
    if "label_logits" in output:
        return output["label_logits"].double().cpu().numpy()
    probabilities = output["label_probs"]
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).double().log().cpu().numpy()


def _check_instances(instances: list[Instance], model: Model, test_data: str) -> None:
    if not instances:
        raise ConfigurationError(f"{test_data} has no items to evaluate on")
    for number, instance in enumerate(instances):
        missing = instances[0].fields.keys() ^ instance.fields.keys()
        if missing:
            raise ConfigurationError(
                f"{test_data}: not all items have {', '.join(sorted(missing))}: see item {number} (counted from 0)"
            )
        unknown = unknown_label(instance, model.vocab)
        if unknown is not None:
            label, problem = unknown
            raise ConfigurationError(f'{test_data}: the label "{label}" of item {number} (counted from 0) {problem}')


def _digest(instances: list[Instance], metric: str) -> str:
    digest = hashlib.sha256(metric.encode())
    for instance in instances:
        for name, field in sorted(instance.fields.items()):
            if isinstance(field, TextField):
                # Without spaces, and without the sign that subwords have for them, so that tokenizers do not matter.
                text = "".join(token.text or "" for token in field.tokens)
                digest.update(json.dumps([name, "".join(text.replace("\u2581", " ").split())]).encode())
            elif labels := label_fields(field):
                digest.update(json.dumps([name, *(label.label for label in labels)]).encode())
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
