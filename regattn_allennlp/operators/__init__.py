"""The operators: PyTorch only, without AllenNLP."""

from regattn_allennlp.operators.constrained_sparsemax import ConstrainedSparsemax, constrained_sparsemax
from regattn_allennlp.operators.custom_max import CustomMax, custom_max
from regattn_allennlp.operators.entmax import Entmax, entmax
from regattn_allennlp.operators.fenchel_young import FenchelYoungLoss, fenchel_young_loss
from regattn_allennlp.operators.fusedmax import Fusedmax, fusedmax
from regattn_allennlp.operators.normmax import Normmax, normmax
from regattn_allennlp.operators.oscarmax import Oscarmax, oscarmax
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.softmax import Softmax, softmax
from regattn_allennlp.operators.sparsemax import Sparsemax, sparsemax
from regattn_allennlp.operators.squared_p_norm_max import SquaredPNormMax, squared_p_norm_max
from regattn_allennlp.operators.support_size import support_size
from regattn_allennlp.operators.top_k_sparsemax import TopKSparsemax, top_k_sparsemax

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
