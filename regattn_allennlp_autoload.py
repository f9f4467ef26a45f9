"""
Tells this package when AllenNLP is imported, so that it can mend it in time: before the plugin is loaded, since
AllenNLP does not even import with today's Transformers, and in the processes that AllenNLP starts. PyTorch calls
`autoload` at the end of its own import (the entry point `torch.backends` in setup.cfg), and AllenNLP imports PyTorch
before anything of its own.

It is a module of its own because it must cost nothing where AllenNLP is never imported: the package is loaded together
with the first module of AllenNLP.
"""

import importlib
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec


class _BeforeAllenNLP(MetaPathFinder):
    """Finds nothing itself. Loads `regattn_allennlp.compatibility` before the first module of AllenNLP."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname.startswith("allennlp.") and self in sys.meta_path:
            sys.meta_path.remove(self)
            importlib.import_module("regattn_allennlp.compatibility")
        return None


def autoload() -> None:
    """Called by `import torch`. Does nothing but to wait for AllenNLP."""
    sys.meta_path.insert(0, _BeforeAllenNLP())
