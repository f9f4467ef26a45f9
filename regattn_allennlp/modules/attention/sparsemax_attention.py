from typing import Union

from allennlp.modules.attention import Attention
from allennlp.modules.matrix_attention import MatrixAttention

from regattn_allennlp.modules.attention.regularized_attention import RegularizedAttention
from regattn_allennlp.operators import Sparsemax


@Attention.register("sparsemax")
class SparsemaxAttention(RegularizedAttention):
    """
    Attention by `sparsemax`: words that score far below the best get weight exactly 0.

    Registered as an `Attention` with name "sparsemax".

    # Parameters

    gamma : `float`, optional (default = `1.0`)
        How strongly the weights are regularized, above 0: scores gamma or more below the best get weight 0.
    learn_gamma : `bool`, optional (default = `False`)
        Learn the value, above 0; it starts at the one given here.
    similarity, normalize
        See `RegularizedAttention`.
    """

    def __init__(
        self,
        gamma: float = 1.0,
        learn_gamma: bool = False,
        similarity: Union[MatrixAttention, Attention] = None,  # type: ignore[assignment]
        normalize: bool = True,
    ) -> None:
        super().__init__(Sparsemax(gamma, learn_gamma=learn_gamma), similarity, normalize)
