"""
Sparse and structured attention: regularized max operators for PyTorch, and a plugin for AllenNLP.

The operators need PyTorch, numpy and numba only, and importing this package does not import AllenNLP. AllenNLP finds
the plugin's parts with `--include-package regattn_allennlp` or a `.allennlp_plugins` file that names this package.
"""

import sys

from regattn_allennlp.operators import (
    ConstrainedSparsemax,
    CustomMax,
    Entmax,
    FenchelYoungLoss,
    Fusedmax,
    Normmax,
    Oscarmax,
    RegularizedMax,
    Softmax,
    Sparsemax,
    SquaredPNormMax,
    TopKSparsemax,
    constrained_sparsemax,
    custom_max,
    entmax,
    fenchel_young_loss,
    fusedmax,
    normmax,
    oscarmax,
    softmax,
    sparsemax,
    squared_p_norm_max,
    support_size,
    top_k_sparsemax,
)
from regattn_allennlp.version import VERSION as __version__

__all__ = [
    "ConstrainedSparsemax",
    "CustomMax",
    "Entmax",
    "FenchelYoungLoss",
    "Fusedmax",
    "Normmax",
    "Oscarmax",
    "RegularizedMax",
    "Softmax",
    "Sparsemax",
    "SquaredPNormMax",
    "TopKSparsemax",
    "__version__",
    "constrained_sparsemax",
    "custom_max",
    "entmax",
    "fenchel_young_loss",
    "fusedmax",
    "normmax",
    "oscarmax",
    "softmax",
    "sparsemax",
    "squared_p_norm_max",
    "support_size",
    "top_k_sparsemax",
]

# --include-package imports all modules of a package, a plugins file only the package: then the rest is fetched here.
if "allennlp.common.plugins" in sys.modules:
    from allennlp.common.util import import_module_and_submodules

    import_module_and_submodules(__name__)
