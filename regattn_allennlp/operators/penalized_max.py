import torch
from torch import Tensor

from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import Rows, check_lam, included_positions, sum_of_rows


class PenalizedMax(RegularizedMax):
    """
    What fusedmax and oscarmax share as modules: Omega(p) = 1/2 ||p||^2 + lam * R(p), with R their `penalty`.

    # Parameters

    gamma, dim, learn_gamma
        See `RegularizedMax`.
    lam : float or Tensor, optional (default = 0.1)
        How strongly weights are drawn together, 0 or above. A tensor must broadcast to the scores with size 1 at
        `dim`: one lam for each row, or head; it may require a gradient. Where it is not a finite number, 0 or above,
        the row's weights are NaN.
    learn_lam : bool, optional (default = False)
        Make lam a parameter of the module, kept above 0; `lam` is where it starts.
    """

    shape_parameter = "lam"

    def __init__(
        self,
        gamma: float | Tensor = 1.0,
        lam: float | Tensor = 0.1,
        dim: int = -1,
        learn_gamma: bool = False,
        learn_lam: bool = False,
    ) -> None:
        super().__init__(gamma, dim, learn_gamma)
        self.set_regularization("lam", check_lam(lam), learn_lam)

    @property
    def lam(self) -> float | Tensor:
        return self.get_regularization("lam")

    @lam.setter
    def lam(self, lam: float | Tensor) -> None:
        self.replace_regularization("lam", check_lam(lam))

    @staticmethod
    def penalty(weights: Tensor, included: Tensor, rows: Rows) -> Tensor:
        """R of the `rows` of weights along the last dimension, over the `included` positions."""
        raise NotImplementedError

    @staticmethod
    def penalty_of_vertices(included: Tensor, rows: Rows) -> Tensor:
        """R where one of the `included` positions has all the weight: in the shape of `included`, for each of them."""
        raise NotImplementedError

    def omega(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        lam = self.by_row(self.lam, weights, offsets)
        computed = weights.to(self.compute_dtype(weights))
        squares = sum_of_rows(computed.square(), self.dim, offsets)
        return (squares / 2 + lam * self.omega_slope(computed, mask, offsets)).to(weights.dtype)

    def omega_slope(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        included = included_positions(weights, mask)
        rows = Rows(offsets, weights.size(self.dim))
        penalty = self.penalty(weights.movedim(self.dim, -1), included.movedim(self.dim, -1), rows)
        return penalty.squeeze(-1) if offsets is None else penalty.movedim(-1, self.dim)

    def omega_at(
        self, positions: Tensor, included: Tensor, dtype: torch.dtype, offsets: Tensor | None = None
    ) -> Tensor:
        rows = Rows(offsets, included.size(self.dim))
        penalties = self.penalty_of_vertices(included.movedim(self.dim, -1), rows).movedim(-1, self.dim)
        lam = self.lam
        if offsets is not None and isinstance(lam, Tensor) and positions.size(self.dim) == included.size(self.dim):
            lam = self.by_entry(lam, penalties.to(dtype), offsets)
        return (0.5 + lam * penalties.gather(self.dim, positions).to(dtype)).to(dtype)
