from typing import Union

from allennlp.modules.attention import Attention
from allennlp.modules.matrix_attention import MatrixAttention

from regattn_allennlp.modules.attention.regularized_attention import RegularizedAttention
from regattn_allennlp.operators import Softmax


@Attention.register("softmax")
class SoftmaxAttention(RegularizedAttention):
    """
    Attention by `softmax`: every word gets some weight.

    Registered as an `Attention` with name "softmax".

    # Parameters

    gamma : `float`, optional (default = `1.0`)
        The temperature, above 0.
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
        super().__init__(Softmax(gamma, learn_gamma=learn_gamma), similarity, normalize)
