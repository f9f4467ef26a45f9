import string

from allennlp.data import Vocabulary
from allennlp.data.token_indexers import SingleIdTokenIndexer, TokenCharactersIndexer

from regattn_allennlp.comparison.evaluation import item_facts
from regattn_allennlp.data.dataset_readers.entailment import EntailmentDatasetReader

PAIRS = [
    ("A dog sleeps", "An animal is asleep .", "entailment"),
    ("A hound sleeps", "It runs", "contradiction"),
    ("a DOG sleeps", "animal", None),
]


def facts_of(indexer) -> dict:
    reader = EntailmentDatasetReader(token_indexers={"tokens": indexer})
    vocab = Vocabulary(
        tokens_to_add={
            "tokens": ["a", "dog", "sleeps", "an", "animal", "is", "asleep", ".", "it", "runs"],
            "token_characters": [*string.ascii_letters, "."],
        }
    )
    instances = [reader.text_to_instance(*pair) for pair in PAIRS]
    for instance in instances:
        reader.apply_token_indexers(instance)
    return item_facts(instances, vocab)


def test_labels_lengths_and_unknown_words_are_told_of_items():
    assert facts_of(SingleIdTokenIndexer(lowercase_tokens=True)) == {
        "label": ["entailment", "contradiction", None],
        "length": [5, 3, 3],
        "has_unknown": [False, True, False],
    }
    assert facts_of(SingleIdTokenIndexer())["has_unknown"] == [True, True, True]
    # By its letters a word is known.
    assert facts_of(TokenCharactersIndexer(min_padding_length=1))["has_unknown"] == [False] * 3
