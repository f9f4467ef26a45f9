from regattn_allennlp.modules.latent_alignment.categorical_alignment import CategoricalAlignment
from regattn_allennlp.modules.latent_alignment.dirichlet_alignment import DirichletAlignment
from regattn_allennlp.modules.latent_alignment.exact_alignment import ExactAlignment
from regattn_allennlp.modules.latent_alignment.hard_alignment import HardAlignment
from regattn_allennlp.modules.latent_alignment.latent_alignment import (
    DISTRIBUTIONS,
    AlignmentQueries,
    LatentAlignment,
)
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport
from regattn_allennlp.modules.latent_alignment.soft_alignment import SoftAlignment
from regattn_allennlp.modules.latent_alignment.variational_alignment import VariationalAlignment

__all__ = [
    "DISTRIBUTIONS",
    "AlignmentQueries",
    "CategoricalAlignment",
    "DirichletAlignment",
    "ExactAlignment",
    "HardAlignment",
    "LatentAlignment",
    "PriorSupport",
    "SoftAlignment",
    "VariationalAlignment",
]
