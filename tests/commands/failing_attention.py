"""An attention whose trainings with the seed 2 fail after a while: what no look at a config can tell."""

import torch
from allennlp.modules.attention import Attention

from regattn_allennlp.modules.attention.softmax_attention import SoftmaxAttention


@Attention.register("fails_with_seed_2", exist_ok=True)
class FailingAttention(SoftmaxAttention):
    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def weights(self, scores, mask=None):
        self._calls += 1
        if self._calls > 20 and torch.initial_seed() == 2:
            raise RuntimeError("seed 2 brings no luck")
        return super().weights(scores, mask)
