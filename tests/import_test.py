import subprocess
import sys

# Run in a process of its own, where nothing has been imported yet.
PROGRAM = """
import sys
from regattn_allennlp import fusedmax
heavy = ("allennlp", "spacy", "datasets", "numba", "triton", "torch._dynamo")
print([module for module in heavy if module in sys.modules])
import torch
print(fusedmax(torch.tensor([1.0, 0.9, 0.0]), lam=0.2).tolist())
print([module for module in ("allennlp", "spacy", "datasets") if module in sys.modules])
"""


def test_the_operators_import_neither_allennlp_nor_a_compiler_and_work():
    finished = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines() == ["[]", "[0.5, 0.5, 0.0]", "[]"]
