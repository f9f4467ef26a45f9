"""How far a model's probabilities can be believed."""

import math
from typing import Optional

import numpy as np


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> float:
    """
    The expected calibration error (Guo et al. 2017, arXiv 1706.04599, section 2, equation 3): the items are put into
    bins by their confidence, the probability of the label predicted; it is the distance between a bin's accuracy and
    its mean confidence, averaged over the bins by their numbers of items. 0 is best, 1 the worst possible.

    Bin m of 1, ..., num_bins is for confidences in ((m - 1) / num_bins, m / num_bins], so that one on an edge belongs
    to the bin below; 0 belongs to the first bin and what rounding lifts above 1 to the last. Of labels that are
    equally probable the first counts as predicted.

    # Parameters

    probabilities : `np.ndarray`
        Shape (num_items, num_labels), num_items > 0.
    labels : `np.ndarray`
        Shape (num_items,): the indices of the true labels.
    """
    # In double precision, in which the bins' edges are.
    confidences = probabilities.max(axis=1).astype(float)
    correct = probabilities.argmax(axis=1) == labels
    inner_edges = np.arange(1, num_bins) / num_bins
    bins = np.searchsorted(inner_edges, confidences, side="left")
    # num_items_m * |accuracy_m - confidence_m| is the size of the bin's sum.
    return float(np.abs(np.bincount(bins, weights=correct - confidences)).sum() / len(labels))


def negative_log_likelihood(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """
    The mean over the items of -log p(the true label), in nats: 0 is best.

    # Parameters

    log_probabilities : `np.ndarray`
        Shape (num_items, num_labels), num_items > 0: natural logarithms, up to a constant for each item, so that
        logits do. Of a probability of 0 the logarithm is -infinity, and so may be the likelihood's.
    labels : `np.ndarray`
        Shape (num_items,): the indices of the true labels.
    """
    scores = log_probabilities.astype(float)
    largest = scores.max(axis=1, keepdims=True)
    log_sums = largest[:, 0] + np.log(np.exp(scores - largest).sum(axis=1))
    return float((log_sums - scores[np.arange(len(labels)), labels]).mean())


def pavpu(probabilities: np.ndarray, labels: np.ndarray, threshold: Optional[float] = None) -> float:
    """
    Accuracy against uncertainty, "patch accuracy vs patch uncertainty" (Mukhoti & Gal 2018, arXiv 1811.12709) with
    items in the place of an image's patches: the fraction of the items for which the model is right and certain, or
    wrong and uncertain, (n_ac + n_iu) / (n_ac + n_au + n_ic + n_iu). 1 is best: certain where, and only where, right.

    The uncertainty is the entropy of the predicted probabilities in nats; a model is certain of an item if it is at
    or below the threshold. Of labels that are equally probable the first counts as predicted.

    # Parameters

    probabilities : `np.ndarray`
        Shape (num_items, num_labels), num_items > 0.
    labels : `np.ndarray`
        Shape (num_items,): the indices of the true labels.
    threshold : `float`, optional (default = half of log(num_labels))
        In nats. By default halfway between the entropies of a single label and of all labels alike.
    """
    if threshold is None:
        threshold = math.log(probabilities.shape[1]) / 2
    values = probabilities.astype(float)
    # A label that is impossible adds nothing: 0 log 0 is 0.
    entropies = -(values * np.log(values, out=np.zeros_like(values), where=values > 0)).sum(axis=1)
    correct = values.argmax(axis=1) == labels
    return float((correct == (entropies <= threshold)).mean())
