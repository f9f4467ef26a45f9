from collections.abc import Sequence
from itertools import product
from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.nn.util import dist_reduce_sum
from allennlp.training.metrics import Metric

from regattn_allennlp.data.token_links import TokenLinks


@Metric.register("alignment_error_rate")
class AlignmentErrorRate(Metric):
    """
    How well attention aligns words as people do (Och & Ney 2003, "A Systematic Comparison of Various Statistical
    Alignment Models", section 5). With the links A that are made of the attention, the sure gold links S and the
    possible ones P, of which S are a part:

        precision = |A & P| / |A|,   recall = |A & S| / |S|,   AER = 1 - (|A & S| + |A & P|) / (|A| + |S|),

    the numbers being sums over all texts, batches and processes. All are from 0 to 1; of AER low is good. Where
    nothing could be counted, 0 / 0, they are 0.

    A token that attends is linked to the token that it attends to most, of equal ones the first. A link of tokens is
    one of the words that they belong to; one that is made several times counts once.

    Registered as a `Metric` with name "alignment_error_rate".

    # Parameters

    threshold : `float`, optional (default = `None`)
        If given, a token is linked to all tokens that it gives this weight or more instead: several or none.

    # Raises

    `ConfigurationError`
        If the `threshold` is not above 0 and at most 1, as weights are.
    """

    def __init__(self, threshold: Optional[float] = None) -> None:
        if threshold is not None and not 0 < threshold <= 1:
            raise ConfigurationError(
                f'"threshold" of the alignment error rate is {threshold}, and should be a weight above 0, at most 1.'
            )
        self._threshold = threshold
        # The links that were made, the sure ones, and of those made the sure and the possible ones.
        self._counts = [0, 0, 0, 0]

    def __call__(self, weights: torch.Tensor, links: Sequence[TokenLinks]) -> None:  # type: ignore[override]
        """
        # Parameters

        weights : `torch.Tensor`
            Shape (batch_size, num_rows, num_columns). What attends are the first rows, as many as there are
            `first_words` of the item; what is attended to the first columns, as many as `second_words`.
        links : `Sequence[TokenLinks]`
            The gold links of each item.
        """
        counts = [0, 0, 0, 0]
        for of_item, gold in zip(weights.detach().cpu(), links, strict=True):
            predicted = self._predicted(of_item[: len(gold.first_words), : len(gold.second_words)], gold)
            numbers = (len(predicted), len(gold.sure), len(predicted & gold.sure), len(predicted & gold.possible))
            counts = [count + number for count, number in zip(counts, numbers, strict=True)]
        sums = dist_reduce_sum(torch.tensor(counts)).tolist()
        self._counts = [count + number for count, number in zip(self._counts, sums, strict=True)]

    def _predicted(self, weights: torch.Tensor, gold: TokenLinks) -> set[tuple[int, int]]:
        if self._threshold is None:
            tokens = list(enumerate(weights.argmax(dim=1).tolist()))
        else:
            tokens = (weights >= self._threshold).nonzero().tolist()
        return {link for i, j in tokens for link in product(gold.first_words[i], gold.second_words[j])}

    def get_metric(self, reset: bool = False) -> dict[str, float]:
        """
        "alignment_error_rate", "alignment_precision" and "alignment_recall" so far; nothing where there were no links
        at all, neither gold nor made.
        """
        num_predicted, num_sure, num_right, num_possible = self._counts
        metrics = {}
        if num_predicted + num_sure:
            metrics = {
                "alignment_error_rate": 1 - (num_right + num_possible) / (num_predicted + num_sure),
                "alignment_precision": num_possible / num_predicted if num_predicted else 0.0,
                "alignment_recall": num_right / num_sure if num_sure else 0.0,
            }
        if reset:
            self.reset()
        return metrics

    def reset(self) -> None:
        self._counts = [0, 0, 0, 0]
