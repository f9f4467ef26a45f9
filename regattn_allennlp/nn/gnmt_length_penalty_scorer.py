import torch
from allennlp.nn.beam_search import FinalSequenceScorer


@FinalSequenceScorer.register("gnmt-length-penalty")
class GnmtLengthPenaltyScorer(FinalSequenceScorer):
    """
    Ranks what a beam search found by log p(Y) / lp(Y), with the length penalty

        lp(Y) = ((5 + |Y|) / 6) ** alpha

    of Wu et al. 2016 (arXiv 1609.08144, section 7, equation 14); |Y| counts the tokens, the end symbol included.

        "beam_search": {"beam_size": 10, "final_sequence_scorer": {"type": "gnmt-length-penalty", "alpha": 1.0}}

    Registered as a `FinalSequenceScorer` with name "gnmt-length-penalty".

    # Parameters

    alpha : `float`, optional (default = `1.0`)
        At 0 there is no penalty; the larger, the better are long texts.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self._alpha = alpha

    def score(self, predictions: torch.Tensor, log_probabilities: torch.Tensor, end_index: int) -> torch.Tensor:
        # Behind the first end symbol there are only more of them.
        # Shape (all): (batch_size, beam_size)
        before_end = (predictions != end_index).sum(-1)
        lengths = before_end + (predictions[..., -1] == end_index)
        return log_probabilities / ((5 + lengths) / 6) ** self._alpha
