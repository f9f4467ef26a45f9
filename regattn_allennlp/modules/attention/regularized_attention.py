from typing import Optional, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules.attention import Attention
from allennlp.modules.matrix_attention import DotProductMatrixAttention, MatrixAttention

from regattn_allennlp.operators import RegularizedMax, Softmax


@Attention.register("regularized")
class RegularizedAttention(Attention):
    """
    Attention whose weights are a regularized max operator's, over similarities of any of AllenNLP's kinds.

    It is an `Attention`: `forward(vector, matrix, matrix_mask)` gives the weights of the matrix's rows. Models that
    attend from every row of one matrix to the rows of another call the two steps themselves, `scores` and `weights`;
    so one matrix of scores serves both directions.

    Registered as an `Attention` with name "regularized"; "softmax", "sparsemax", "fusedmax" and "oscarmax" are
    short for it with the operator of that name.

    # Parameters

    regularized_max : `RegularizedMax`, optional (default = softmax)
        The operator that makes weights of scores.
    similarity : `Union[MatrixAttention, Attention]`, optional (default = dot product)
        What makes scores of vectors: in a config, the block of any `MatrixAttention`, or of an `Attention` for those
        that AllenNLP has only as such ("additive"). An `Attention` here gives its similarities without its softmax.
    normalize : `bool`, optional (default = `True`)
        If false, `forward` returns the scores themselves.
    """

    def __init__(
        self,
        regularized_max: RegularizedMax = None,  # type: ignore[assignment]
        similarity: Union[MatrixAttention, Attention] = None,  # type: ignore[assignment]
        normalize: bool = True,
    ) -> None:
        super().__init__(normalize)
        if isinstance(similarity, RegularizedAttention):
            raise ConfigurationError(
                f"similarity must be what makes scores of vectors, such as dot_product or bilinear, "
                f"but is an attention of its own: {type(similarity).__name__}"
            )
        self.regularized_max = regularized_max or Softmax()
        self.similarity = similarity or DotProductMatrixAttention()
        if isinstance(self.similarity, Attention):
            self.similarity._normalize = False

    def scores(self, matrix_1: torch.Tensor, matrix_2: torch.Tensor) -> torch.Tensor:
        """
        The similarity of each row of `matrix_1`, shape (batch_size, num_rows_1, dim_1), with each row of `matrix_2`,
        shape (batch_size, num_rows_2, dim_2). Shape of the result: (batch_size, num_rows_1, num_rows_2).
        """
        if isinstance(self.similarity, MatrixAttention):
            return self.similarity(matrix_1, matrix_2)
        # An Attention takes one vector an item: each row of matrix_1 becomes an item of its own.
        batch_size, num_rows_1, _ = matrix_1.size()
        vectors = matrix_1.flatten(0, 1)
        matrices = matrix_2.unsqueeze(1).expand(-1, num_rows_1, -1, -1).flatten(0, 1)
        return self.similarity(vectors, matrices).view(batch_size, num_rows_1, -1)

    def weights(self, scores: torch.Tensor, mask: Optional[torch.Tensor] = None) -> torch.Tensor:
        """
        The attention weights along the last dimension of `scores`, 0 where `mask` (broadcastable to `scores`) is
        false; a row without any true is all 0.
        """
        return self.regularized_max(scores, mask)

    def forward(
        self, vector: torch.Tensor, matrix: torch.Tensor, matrix_mask: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        similarities = self._forward_internal(vector, matrix)
        return self.weights(similarities, matrix_mask) if self._normalize else similarities

    def _forward_internal(self, vector: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return self.scores(vector.unsqueeze(1), matrix).squeeze(1)


def require_regularized_attention(attention: Attention, user: str) -> RegularizedAttention:
    """`attention` itself, for a `user` that needs both its scores and its weights; else a ConfigurationError."""
    if not isinstance(attention, RegularizedAttention):
        raise ConfigurationError(
            f'the "attention" of {user} must be of type regularized or one of {RegularizedMax.list_available()}, '
            f"but is {type(attention).__name__}"
        )
    require_weights(attention, user)
    return attention


def require_weights(attention: Attention, user: str) -> None:
    """A ConfigurationError if the `attention` of a `user` that needs its weights gives scores in their place."""
    if not attention._normalize:
        raise ConfigurationError(
            f'{user} needs the weights of its "attention": take "normalize": false out of that block'
        )


def learned_regularization(model: torch.nn.Module) -> dict[str, float]:
    """
    The present values of the regularization that the attentions in `model` learn, for its metrics: "attention_lam" for
    the lam of `model._attention`, and so on.
    """
    metrics = {}
    for name, module in model.named_modules():
        if isinstance(module, RegularizedMax):
            attention = name.removesuffix(".regularized_max").replace("._", ".").removeprefix("_")
            for parameter, value in module.learned_regularization().items():
                metrics[f"{attention}_{parameter}"] = value.mean().item()
    return metrics
