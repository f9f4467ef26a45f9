from regattn_allennlp.modules.seq2seq_encoders.intra_sentence_attention import IntraSentenceAttention

__all__ = ["IntraSentenceAttention"]
