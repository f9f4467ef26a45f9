from typing import Any, NamedTuple, Optional

from allennlp.common.util import sanitize
from allennlp.data import Token, TokenIndexer, Vocabulary
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import PretrainedTransformerIndexer

# A letter of Ugaritic, which vocabularies do not have.
UNKNOWN_WORD = Token("\U00010380")


class SeenWords(NamedTuple):
    """
    What a model sees of a text's words. Of "A blorp a frob .", where it knows neither blorp nor frob and no case:
    `same_as` is [0, 1, 0, 1, 4], `unknown` is [1, 3].

    # Parameters

    same_as : `List[int]`
        For each word the position of the first one that is the same to the model.
    unknown : `List[int]`
        The positions of the words that are out of its vocabulary.
    """

    same_as: list[int]
    unknown: list[int]


def seen_words(text: TextField, vocab: Vocabulary) -> SeenWords:
    """
    By the indices that the model gets, of all the text's indexers. A word is known if one of them tells it from other
    words that it does not know: by its letters, by its word pieces.
    """
    indexers = text.token_indexers.values()
    unknown_indices = [_indices(UNKNOWN_WORD, indexer, vocab) for indexer in indexers]
    first: dict[str, int] = {}
    same_as, unknown = [], []
    for position, token in enumerate(text.tokens):
        indices = [_indices(token, indexer, vocab) for indexer in indexers]
        same_as.append(first.setdefault(str(indices), position))
        if all(
            other is not None and _numbers(own) == _numbers(other)
            for own, other in zip(indices, unknown_indices, strict=True)
        ):
            unknown.append(position)
    return SeenWords(same_as, unknown)


def _indices(token: Token, indexer: TokenIndexer, vocab: Vocabulary) -> Optional[list[Any]]:
    """`None` where the indexer does not take the word, for it has no number for unknown ones."""
    if isinstance(indexer, PretrainedTransformerIndexer):
        # One with a `max_length` takes the ends off what it is given, for special tokens.
        return indexer._extract_token_and_type_ids([token])[0]
    try:
        indices = indexer.tokens_to_indices([token], vocab)
    except (KeyError, ValueError):
        return None
    # Where a word's pieces lie tells how many there are, and not which.
    return [sanitize(value) for key, value in indices.items() if key != "offsets"]


def _numbers(indices: Any) -> set[Any]:
    """A word of which no letter is known has the unknown letter's number once for each."""
    return set().union(*map(_numbers, indices)) if isinstance(indices, list) else {indices}
