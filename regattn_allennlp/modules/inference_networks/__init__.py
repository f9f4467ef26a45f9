from regattn_allennlp.modules.inference_networks.bilinear_inference_network import BilinearInferenceNetwork
from regattn_allennlp.modules.inference_networks.inference_network import InferenceNetwork
from regattn_allennlp.modules.inference_networks.separate_encoders_inference_network import (
    SeparateEncodersInferenceNetwork,
)

__all__ = ["BilinearInferenceNetwork", "InferenceNetwork", "SeparateEncodersInferenceNetwork"]
