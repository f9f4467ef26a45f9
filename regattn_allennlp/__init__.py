"""
Sparse and structured attention: regularized max operators for PyTorch, and a plugin for AllenNLP.

The operators need PyTorch, numpy and numba only. AllenNLP finds the plugin's parts by itself, with
`--include-package regattn_allennlp` or a `.allennlp_plugins` file; importing this package does not import AllenNLP.
"""

from regattn_allennlp.operators import (
    Fusedmax,
    Oscarmax,
    RegularizedMax,
    Softmax,
    Sparsemax,
    fusedmax,
    oscarmax,
    softmax,
    sparsemax,
)
from regattn_allennlp.version import VERSION as __version__

__all__ = [
    "Fusedmax",
    "Oscarmax",
    "RegularizedMax",
    "Softmax",
    "Sparsemax",
    "__version__",
    "fusedmax",
    "oscarmax",
    "softmax",
    "sparsemax",
]
