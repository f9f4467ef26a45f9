"""
Sparse and structured attention: regularized max operators for PyTorch, and a plugin for AllenNLP.

The operators need PyTorch, numpy and numba only, and importing this package does not import AllenNLP. AllenNLP finds
the plugin's parts with `--include-package regattn_allennlp` or a `.allennlp_plugins` file that names this package.
"""

import sys

from regattn_allennlp.operators import (
    CustomMax,
    Entmax,
    FenchelYoungLoss,
    Fusedmax,
    Oscarmax,
    RegularizedMax,
    Softmax,
    Sparsemax,
    SquaredPNormMax,
    custom_max,
    entmax,
    fenchel_young_loss,
    fusedmax,
    oscarmax,
    softmax,
    sparsemax,
    squared_p_norm_max,
)
from regattn_allennlp.version import VERSION as __version__

__all__ = [
    "CustomMax",
    "Entmax",
    "FenchelYoungLoss",
    "Fusedmax",
    "Oscarmax",
    "RegularizedMax",
    "Softmax",
    "Sparsemax",
    "SquaredPNormMax",
    "__version__",
    "custom_max",
    "entmax",
    "fenchel_young_loss",
    "fusedmax",
    "oscarmax",
    "softmax",
    "sparsemax",
    "squared_p_norm_max",
]

# --include-package imports all modules of a package, a plugins file only the package: then the rest is fetched here.
if "allennlp.common.plugins" in sys.modules:
    from allennlp.common.util import import_module_and_submodules

    import_module_and_submodules(__name__)
