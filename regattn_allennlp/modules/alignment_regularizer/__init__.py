from regattn_allennlp.modules.alignment_regularizer.adversarial import AdversarialRegularizer
from regattn_allennlp.modules.alignment_regularizer.alignment_regularizer import AlignmentRegularizer
from regattn_allennlp.modules.alignment_regularizer.conditional_transport import ConditionalTransportRegularizer
from regattn_allennlp.modules.alignment_regularizer.mmd import MaximumMeanDiscrepancyRegularizer
from regattn_allennlp.modules.alignment_regularizer.observation import AlignmentObservation, observe_alignment
from regattn_allennlp.modules.alignment_regularizer.sinkhorn import SinkhornRegularizer

__all__ = [
    "AdversarialRegularizer",
    "AlignmentObservation",
    "AlignmentRegularizer",
    "ConditionalTransportRegularizer",
    "MaximumMeanDiscrepancyRegularizer",
    "SinkhornRegularizer",
    "observe_alignment",
]
