"""
Sparse and structured attention: regularized max operators for PyTorch, and a plugin for AllenNLP.

The operators need PyTorch, numpy and numba only, and importing this package does not import AllenNLP. AllenNLP finds
the plugin's parts with `--include-package regattn_allennlp` or a `.allennlp_plugins` file that names this package.
"""

import sys

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

# --include-package imports all modules of a package, a plugins file only the package: then the rest is fetched here.
if "allennlp.common.plugins" in sys.modules:
    from allennlp.common.util import import_module_and_submodules

    import_module_and_submodules(__name__)
