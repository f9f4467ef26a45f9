"""The operators: PyTorch only, without AllenNLP."""

from regattn_allennlp.operators.fusedmax import Fusedmax, fusedmax
from regattn_allennlp.operators.oscarmax import Oscarmax, oscarmax
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.softmax import Softmax, softmax
from regattn_allennlp.operators.sparsemax import Sparsemax, sparsemax

__all__ = [
    "Fusedmax",
    "Oscarmax",
    "RegularizedMax",
    "Softmax",
    "Sparsemax",
    "fusedmax",
    "oscarmax",
    "softmax",
    "sparsemax",
]
