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
import regattn_allennlp.comparison.engine  # by each process of Ray that starts a trial
print([module for module in ("allennlp", "spacy", "datasets") if module in sys.modules])
"""


def test_the_operators_and_what_starts_trials_import_neither_allennlp_nor_a_compiler():
    finished = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines() == ["[]", "[0.5, 0.5, 0.0]", "[]"]
