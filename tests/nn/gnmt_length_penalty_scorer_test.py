import pytest
import torch
from allennlp.common import Params
from allennlp.nn.beam_search import FinalSequenceScorer

import regattn_allennlp.nn  # noqa: F401  (registers the scorer)

END = 9


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_log_probabilities_are_divided_by_the_penalty(alpha):
    scorer = FinalSequenceScorer.from_params(Params({"type": "gnmt-length-penalty", "alpha": alpha}))
    # Of 1, 3 and 4 tokens with their end; the last is cut, and has none.
    predictions = torch.tensor([[[END] * 4, [2, 3, END, END], [2, 3, 4, END], [2, 3, 4, 5]]])
    scores = scorer.score(predictions, torch.tensor([[-1.0, -2.0, -3.0, -4.0]]), END)
    penalties = [((5 + length) / 6) ** alpha for length in (1, 3, 4, 4)]
    assert scores[0].tolist() == pytest.approx([-(n + 1) / penalty for n, penalty in enumerate(penalties)])
