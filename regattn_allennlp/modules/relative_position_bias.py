import torch


class RelativePositionBias(torch.nn.Embedding):
    """
    What is added to the score of position i attending to position j for their distance: a learned number for each
    signed distance i - j and each head, 0 at first; all distances from `max_distance` on share one.
    """

    def __init__(self, max_distance: int, num_heads: int = 1) -> None:
        super().__init__(2 * max_distance + 1, num_heads)
        self._max_distance = max_distance
        torch.nn.init.zeros_(self.weight)

    def forward(self, num_positions: int) -> torch.Tensor:  # type: ignore[override]
        """Shape: (num_heads, num_positions, num_positions)."""
        positions = torch.arange(num_positions, device=self.weight.device)
        distances = positions.unsqueeze(1) - positions.unsqueeze(0)
        biases = super().forward(distances.clamp(-self._max_distance, self._max_distance) + self._max_distance)
        return biases.permute(2, 0, 1)
