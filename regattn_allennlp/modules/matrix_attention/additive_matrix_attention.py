import torch
from allennlp.modules.matrix_attention import MatrixAttention

from regattn_allennlp.modules.require_at_least import require_at_least


@MatrixAttention.register("additive")
class AdditiveMatrixAttention(MatrixAttention):
    """
    The similarity V^T tanh(W x + U y) of each row x of one matrix with each row y of another (Bahdanau et al. 2015,
    arXiv 1409.0473, appendix A.1.2). AllenNLP's `Attention` of this name takes one vector x and has as many hidden
    units as it has dimensions; here their number is free.

        "attention": {
            "type": "softmax",
            "similarity": {"type": "additive", "matrix_1_dim": 768, "matrix_2_dim": 1024, "hidden_dim": 512}
        }

    Registered as a `MatrixAttention` with name "additive".

    # Parameters

    matrix_1_dim, matrix_2_dim : `int`
        Of x, which attends, and of y.
    hidden_dim : `int`, optional (default = `matrix_1_dim`)

    # Raises

    `ConfigurationError` for a number below 1.
    """

    def __init__(self, matrix_1_dim: int, matrix_2_dim: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        hidden_dim = matrix_1_dim if hidden_dim is None else hidden_dim
        sizes = {"matrix_1_dim": matrix_1_dim, "matrix_2_dim": matrix_2_dim, "hidden_dim": hidden_dim}
        for key, value in sizes.items():
            require_at_least(1, value, key)
        self._projection_1 = torch.nn.Linear(matrix_1_dim, hidden_dim, bias=False)
        self._projection_2 = torch.nn.Linear(matrix_2_dim, hidden_dim, bias=False)
        self._hidden_weights = torch.nn.Linear(hidden_dim, 1, bias=False)

    def forward(self, matrix_1: torch.Tensor, matrix_2: torch.Tensor) -> torch.Tensor:
        # Shape: (batch_size, num_rows_1, num_rows_2, hidden_dim)
        hidden = self._projection_1(matrix_1).unsqueeze(2) + self._projection_2(matrix_2).unsqueeze(1)
        # Shape: (batch_size, num_rows_1, num_rows_2)
        return self._hidden_weights(hidden.tanh()).squeeze(-1)
