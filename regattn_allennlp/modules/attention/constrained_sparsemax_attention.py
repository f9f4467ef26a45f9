from typing import Union

from allennlp.modules.attention import Attention
from allennlp.modules.matrix_attention import MatrixAttention

from regattn_allennlp.modules.attention.regularized_attention import RegularizedAttention
from regattn_allennlp.operators import ConstrainedSparsemax


@Attention.register("constrained_sparsemax")
class ConstrainedSparsemaxAttention(RegularizedAttention):
    """
    Attention by `constrained_sparsemax`: sparse, and no word gets more than `upper`.

    Registered as an `Attention` with name "constrained_sparsemax".

    # Parameters

    gamma : `float`, optional (default = `1.0`)
        How strongly the weights are regularized, above 0.
    upper : `float`, optional (default = `1.0`)
        What no weight is above, above 0.
    budget : `float`, optional (default = `1.0`)
        What the weights sum to, above 0. Where there are too few words to hold it, each gets `upper`.
    learn_gamma : `bool`, optional (default = `False`)
        Make gamma a parameter to be learned, starting at the given number.
    similarity, normalize
        See `RegularizedAttention`.
    """

    def __init__(
        self,
        gamma: float = 1.0,
        upper: float = 1.0,
        budget: float = 1.0,
        learn_gamma: bool = False,
        similarity: Union[MatrixAttention, Attention] = None,  # type: ignore[assignment]
        normalize: bool = True,
    ) -> None:
        super().__init__(ConstrainedSparsemax(gamma, upper, budget, learn_gamma=learn_gamma), similarity, normalize)
