from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries, LatentAlignment
from regattn_allennlp.modules.latent_alignment.soft_alignment import SoftAlignment

__all__ = ["AlignmentQueries", "LatentAlignment", "SoftAlignment"]
