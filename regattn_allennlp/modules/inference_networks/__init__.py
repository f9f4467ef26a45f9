from regattn_allennlp.modules.inference_networks.bilinear_inference_network import BilinearInferenceNetwork
from regattn_allennlp.modules.inference_networks.inference_network import InferenceNetwork

__all__ = ["BilinearInferenceNetwork", "InferenceNetwork"]
