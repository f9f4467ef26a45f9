from typing import Union

from allennlp.modules.attention import Attention
from allennlp.modules.matrix_attention import MatrixAttention

from regattn_allennlp.modules.attention.regularized_attention import RegularizedAttention
from regattn_allennlp.operators import TopKSparsemax


@Attention.register("top_k_sparsemax")
class TopKSparsemaxAttention(RegularizedAttention):
    """
    Attention by `top_k_sparsemax`: sparsemax of the `top_k` words that score best.

    Registered as an `Attention` with name "top_k_sparsemax".

    # Parameters

    gamma : `float`, optional (default = `1.0`)
        How strongly the weights are regularized, above 0: scores gamma or more below the best get weight 0.
    top_k : `int`, optional (default = `8`)
        How many weights may be above 0, 1 or more.
    learn_gamma : `bool`, optional (default = `False`)
        Make gamma a parameter to be learned, starting at the given number.
    similarity, normalize
        See `RegularizedAttention`.
    """

    def __init__(
        self,
        gamma: float = 1.0,
        top_k: int = 8,
        learn_gamma: bool = False,
        similarity: Union[MatrixAttention, Attention] = None,  # type: ignore[assignment]
        normalize: bool = True,
    ) -> None:
        super().__init__(TopKSparsemax(gamma, top_k, learn_gamma=learn_gamma), similarity, normalize)
