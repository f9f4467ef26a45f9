import pytest
from allennlp.common import Params
from allennlp.data import Instance, Token, Vocabulary
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import TokenIndexer

from regattn_allennlp.data.seen_words import seen_words
from tests.tiny_transformers import write_transformer

WORDS = {"type": "single_id", "lowercase_tokens": True}
CASED = {"type": "single_id", "namespace": "cased"}
LETTERS = {"type": "characters", "namespace": "letters", "min_padding_length": 3}


def seen(text: str, *blocks: dict) -> tuple[list[int], list[int]]:
    """Of words apart by blanks; "a dog is here" are the words and their letters that the vocabulary has."""
    indexers = {str(number): TokenIndexer.from_params(Params(dict(block))) for number, block in enumerate(blocks)}
    vocab = Vocabulary.from_instances(
        [Instance({"text": TextField(list(map(Token, ["a", "dog", "is", "here"])), indexers)})]
    )
    return tuple(seen_words(TextField(list(map(Token, text.split())), indexers), vocab))


@pytest.mark.parametrize(
    "text, blocks, same_as, unknown",
    [
        ("A blorp is a DOG", [WORDS], [0, 1, 2, 0, 4], [1]),
        ("blorp a frob Blorp", [WORDS], [0, 1, 0, 0], [0, 2, 3]),
        ("A dog a", [CASED], [0, 1, 2], [0]),
        # One indexer that knows the word is enough; the case tells "A" and "a" apart.
        ("A a Dog", [WORDS, CASED], [0, 1, 2], []),
        # Words of known letters are told apart, those of unknown letters only by their length, and not known.
        ("gosh dogs xyz zyx xy zx dog", [LETTERS], [0, 1, 2, 2, 4, 4, 6], [2, 3, 4, 5]),
        ("gosh xyz", [WORDS, LETTERS], [0, 1], [1]),
        # No number stands for unknown words.
        ("a dog a", [{"type": "single_id", "namespace": "word_tags"}], [0, 1, 0], []),
        # No unknown word has a part of speech.
        ("a dog a", [WORDS, {"type": "single_id", "feature_name": "pos_", "default_value": "X"}], [0, 1, 0], []),
    ],
)  # fmt: skip
def test_what_is_one_word_to_the_model_and_what_it_does_not_know(text, blocks, same_as, unknown):
    assert seen(text, *blocks) == (same_as, unknown)


@pytest.mark.parametrize("more", [{}, {"max_length": 16}])
def test_word_pieces(tmp_path, more):
    folder = str(write_transformer(tmp_path / "bert", "bert"))
    pieces = {"type": "pretrained_transformer", "model_name": folder, **more}
    assert seen("[CLS] d ☃ d ☺ [SEP]", pieces) == ([0, 1, 2, 1, 2, 5], [2, 4])
    words = {"type": "pretrained_transformer_mismatched", "model_name": folder, **more}
    assert seen("sleeps ☃ dog ☺☺ sleeps", words) == ([0, 1, 2, 1, 0], [1, 3])
