"""How far a model's probabilities can be believed."""

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
