"""
`python -m regattn_allennlp` is the `allennlp` command with everything of this package, wherever it is called.
AllenNLP itself looks for subcommands before it reads --include-package: for `allennlp show-attention` and the others
the folder needs a file `.allennlp_plugins` that says `regattn_allennlp`.
"""

from allennlp.__main__ import run
from allennlp.common.util import import_module_and_submodules

if __name__ == "__main__":
    import_module_and_submodules("regattn_allennlp")
    run()
