from typing import Union

from allennlp.modules.attention import Attention
from allennlp.modules.matrix_attention import MatrixAttention

from regattn_allennlp.modules.attention.regularized_attention import RegularizedAttention
from regattn_allennlp.operators import Entmax


@Attention.register("entmax")
class EntmaxAttention(RegularizedAttention):
    """
    Attention by `entmax`: between softmax and sparsemax, where alpha says.

    Registered as an `Attention` with name "entmax".

    # Parameters

    gamma : `float`, optional (default = `1.0`)
        How strongly the weights are regularized, above 0.
    alpha : `float`, optional (default = `1.5`)
        1 or above: 1 is softmax, 2 is sparsemax.
    learn_gamma, learn_alpha : `bool`, optional (default = `False`)
        Make it a parameter to be learned, starting at the given number: gamma above 0, alpha between 1 and
        `max_alpha`.
    max_alpha : `float`, optional (default = `2.0`)
        What a learned alpha stays below.
    similarity, normalize
        See `RegularizedAttention`.
    """

    def __init__(
        self,
        gamma: float = 1.0,
        alpha: float = 1.5,
        learn_gamma: bool = False,
        learn_alpha: bool = False,
        max_alpha: float = 2.0,
        similarity: Union[MatrixAttention, Attention] = None,  # type: ignore[assignment]
        normalize: bool = True,
    ) -> None:
        operator = Entmax(gamma, alpha, learn_gamma=learn_gamma, learn_alpha=learn_alpha, max_alpha=max_alpha)
        super().__init__(operator, similarity, normalize)
