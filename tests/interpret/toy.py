"""A model of entailment of which everything can be said beforehand: its logits are sums over the words."""

from collections.abc import Mapping, Sequence

import torch
from allennlp.data import Vocabulary
from allennlp.data.token_indexers import SingleIdTokenIndexer
from allennlp.data.tokenizers import WhitespaceTokenizer
from allennlp.models import Model
from allennlp.modules.text_field_embedders import BasicTextFieldEmbedder
from allennlp.modules.token_embedders import Embedding
from allennlp.nn.util import get_text_field_mask

from regattn_allennlp.data.dataset_readers import EntailmentDatasetReader
from regattn_allennlp.predictors.entailment import EntailmentPredictor

LABELS = ("entailment", "neutral", "contradiction")


class SumOfVectors(Model):
    """Each word has its vector of logits; words that are not known have zeros."""

    def __init__(self, vocab: Vocabulary, embedder: BasicTextFieldEmbedder) -> None:
        super().__init__(vocab)
        self._embedder = embedder
        self.num_predicted = 0

    def forward(self, premise, hypothesis, label=None, metadata=None):
        logits = 0
        for sentence in (premise, hypothesis):
            logits = logits + (self._embedder(sentence) * get_text_field_mask(sentence).unsqueeze(-1)).sum(1)
        self.num_predicted += len(logits)
        output = {"label_probs": logits.softmax(-1), "label_logits": logits}
        if label is not None:
            output["loss"] = torch.nn.functional.cross_entropy(logits, label)
        return output

    def make_output_human_readable(self, output_dict):
        names = self.vocab.get_index_to_token_vocabulary("labels")
        output_dict["label"] = [names[index] for index in output_dict["label_probs"].argmax(-1).tolist()]
        return output_dict


def toy(vectors: Mapping[str, Sequence[float]], num_labels: int = 2) -> EntailmentPredictor:
    """Words are what stands between spaces, in lower case."""
    vocab = Vocabulary()
    for label in LABELS[:num_labels]:
        vocab.add_token_to_namespace(label, "labels")
    table = torch.zeros(2 + len(vectors), num_labels)
    for word, vector in vectors.items():
        table[vocab.add_token_to_namespace(word)] = torch.tensor(vector)
    embedding = Embedding(num_labels, vocab=vocab, weight=table)
    reader = EntailmentDatasetReader(WhitespaceTokenizer(), {"tokens": SingleIdTokenIndexer(lowercase_tokens=True)})
    return EntailmentPredictor(SumOfVectors(vocab, BasicTextFieldEmbedder({"tokens": embedding})), reader)
