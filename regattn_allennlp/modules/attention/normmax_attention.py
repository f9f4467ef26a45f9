from typing import Union

from allennlp.modules.attention import Attention
from allennlp.modules.matrix_attention import MatrixAttention

from regattn_allennlp.modules.attention.regularized_attention import RegularizedAttention
from regattn_allennlp.operators import Normmax


@Attention.register("normmax")
class NormmaxAttention(RegularizedAttention):
    """
    Attention by `normmax`: sparse, by the weights' p-norm.

    Registered as an `Attention` with name "normmax".

    # Parameters

    gamma : `float`, optional (default = `1.0`)
        How strongly the weights are regularized, above 0: scores gamma or more below the best get weight 0.
    exponent : `float`, optional (default = `2.0`)
        The norm's exponent, above 1: the larger, the more even are the weights that are not 0.
    learn_gamma : `bool`, optional (default = `False`)
        Make gamma a parameter to be learned, starting at the given number.
    similarity, normalize
        See `RegularizedAttention`.
    """

    def __init__(
        self,
        gamma: float = 1.0,
        exponent: float = 2.0,
        learn_gamma: bool = False,
        similarity: Union[MatrixAttention, Attention] = None,  # type: ignore[assignment]
        normalize: bool = True,
    ) -> None:
        super().__init__(Normmax(gamma, exponent, learn_gamma=learn_gamma), similarity, normalize)
