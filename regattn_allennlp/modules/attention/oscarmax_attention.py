from typing import Union

from allennlp.modules.attention import Attention
from allennlp.modules.matrix_attention import MatrixAttention

from regattn_allennlp.modules.attention.regularized_attention import RegularizedAttention
from regattn_allennlp.operators import Oscarmax


@Attention.register("oscarmax")
class OscarmaxAttention(RegularizedAttention):
    """
    Attention by `oscarmax`: sparse, and equal over groups of words, wherever in the sentence they stand.

    Registered as an `Attention` with name "oscarmax".

    # Parameters

    gamma : `float`, optional (default = `1.0`)
        How strongly the weights are regularized, above 0.
    lam : `float`, optional (default = `0.1`)
        How strongly words are drawn to equal weights, 0 or above.
    similarity, normalize
        See `RegularizedAttention`.
    """

    def __init__(
        self,
        gamma: float = 1.0,
        lam: float = 0.1,
        similarity: Union[MatrixAttention, Attention] = None,  # type: ignore[assignment]
        normalize: bool = True,
    ) -> None:
        super().__init__(Oscarmax(gamma, lam), similarity, normalize)
