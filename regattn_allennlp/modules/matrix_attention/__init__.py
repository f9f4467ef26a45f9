from regattn_allennlp.modules.matrix_attention.additive_matrix_attention import AdditiveMatrixAttention

__all__ = ["AdditiveMatrixAttention"]
