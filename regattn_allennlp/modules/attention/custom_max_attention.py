from typing import Optional, Union

from allennlp.modules.attention import Attention
from allennlp.modules.matrix_attention import MatrixAttention

from regattn_allennlp.modules.attention.regularized_attention import RegularizedAttention
from regattn_allennlp.operators import CustomMax, Softmax


@Attention.register("custom")
class CustomMaxAttention(RegularizedAttention):
    """
    Attention by `custom_max`: with a regularizer of your own.

    Registered as an `Attention` with name "custom".

    # Parameters

    omega_function : `str`, optional (default = the negative entropy, which makes it softmax)
        The dotted path of the regularizer Omega, such as "my_package.my_module.my_omega": a function of one row of
        weights, or a class of which an instance is made without arguments. See `custom_max`.
    gamma : `float`, optional (default = `1.0`)
        How strongly the weights are regularized, above 0.
    learn_gamma : `bool`, optional (default = `False`)
        Make gamma a parameter to be learned, starting at the given number.
    similarity, normalize
        See `RegularizedAttention`.
    """

    def __init__(
        self,
        omega_function: Optional[str] = None,
        gamma: float = 1.0,
        learn_gamma: bool = False,
        similarity: Union[MatrixAttention, Attention] = None,  # type: ignore[assignment]
        normalize: bool = True,
    ) -> None:
        operator = CustomMax(omega_function or Softmax().omega, gamma, learn_gamma=learn_gamma)
        super().__init__(operator, similarity, normalize)
