from regattn_allennlp.modules.latent_alignment.gradient_estimators.elbo_estimator import (
    ElboEstimator,
    require_kl_weight,
)
from regattn_allennlp.modules.latent_alignment.gradient_estimators.enumeration import EnumerationEstimator
from regattn_allennlp.modules.latent_alignment.gradient_estimators.gradient_estimator import GradientEstimator
from regattn_allennlp.modules.latent_alignment.gradient_estimators.gumbel_softmax import GumbelSoftmaxEstimator
from regattn_allennlp.modules.latent_alignment.gradient_estimators.reinforce import ReinforceEstimator
from regattn_allennlp.modules.latent_alignment.gradient_estimators.wake_sleep import WakeSleepEstimator

__all__ = [
    "ElboEstimator",
    "EnumerationEstimator",
    "GradientEstimator",
    "GumbelSoftmaxEstimator",
    "ReinforceEstimator",
    "WakeSleepEstimator",
    "require_kl_weight",
]
