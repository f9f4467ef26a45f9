from typing import Union

from allennlp.modules.attention import Attention
from allennlp.modules.matrix_attention import MatrixAttention

from regattn_allennlp.modules.attention.regularized_attention import RegularizedAttention
from regattn_allennlp.operators import SquaredPNormMax


@Attention.register("squared_p_norm_max")
class SquaredPNormMaxAttention(RegularizedAttention):
    """
    Attention by `squared_p_norm_max`: sparse, by half the square of the weights' p-norm.

    Registered as an `Attention` with name "squared_p_norm_max".

    # Parameters

    gamma : `float`, optional (default = `1.0`)
        How strongly the weights are regularized, above 0: scores gamma or more below the best get weight 0.
    exponent : `float`, optional (default = `1.5`)
        The norm's exponent, above 1 and not above 2, where it is sparsemax.
    learn_gamma : `bool`, optional (default = `False`)
        Make gamma a parameter to be learned, starting at the given number.
    similarity, normalize
        See `RegularizedAttention`.
    """

    def __init__(
        self,
        gamma: float = 1.0,
        exponent: float = 1.5,
        learn_gamma: bool = False,
        similarity: Union[MatrixAttention, Attention] = None,  # type: ignore[assignment]
        normalize: bool = True,
    ) -> None:
        super().__init__(SquaredPNormMax(gamma, exponent, learn_gamma=learn_gamma), similarity, normalize)
