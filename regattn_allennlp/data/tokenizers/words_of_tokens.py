from collections.abc import Iterable, Sequence

from allennlp.common.checks import ConfigurationError
from allennlp.data.tokenizers import Token

from regattn_allennlp.data.tokenizers.join_tokens import SPACE_IN_PIECES


def words_of_tokens(text: str, tokens: Sequence[Token]) -> tuple[tuple[int, ...], ...]:
    """
    For each token of a text the words that it belongs to, counted from 0; words are what white space separates. It is
    told by where in the text a tokenizer says that its tokens are (spaCy's and the transformers' do); by the "▁" that
    begins a word in sentencepiece's; or else by the letters of the tokens, which are to be those of the text, upper
    and lower case being the same. A token that stands for no word, such as "[CLS]", belongs to none.

    # Raises

    `ConfigurationError`
        If it cannot be told: the tokens have other letters than the text, or there is none for a word.
    """
    words = text.split()
    if any(token.idx_end is not None for token in tokens):
        found = _by_offsets(text, words, tokens)
    elif any(SPACE_IN_PIECES in _text(token) for token in tokens):
        found = _by_marks(tokens)
    else:
        found = _by_letters(text, words, tokens)
    if set().union(*found) != set(range(len(words))):
        raise _not_told(text, tokens)
    return tuple(found)


def _by_offsets(text: str, words: Sequence[str], tokens: Sequence[Token]) -> list[tuple[int, ...]]:
    word_at: dict[int, int] = {}
    start = 0
    for number, word in enumerate(words):
        start = text.index(word, start)
        word_at.update(dict.fromkeys(range(start, start + len(word)), number))
        start += len(word)
    return [
        ()
        if token.idx is None or token.idx_end is None
        else _distinct(map(word_at.get, range(token.idx, token.idx_end)))
        for token in tokens
    ]


def _by_marks(tokens: Sequence[Token]) -> list[tuple[int, ...]]:
    found = []
    word = -1
    for token in tokens:
        own = []
        for letter in _text(token):
            word += letter == SPACE_IN_PIECES
            own.append(word)
        found.append(_distinct(own))
    return found


def _by_letters(text: str, words: Sequence[str], tokens: Sequence[Token]) -> list[tuple[int, ...]]:
    word_of_letters = [number for number, word in enumerate(words) for _ in word.lower()]
    of_tokens = ["".join(_text(token).lower().split()) for token in tokens]
    if "".join(of_tokens) != "".join(words).lower():
        raise _not_told(text, tokens)
    found = []
    start = 0
    for letters in of_tokens:
        found.append(_distinct(word_of_letters[start : start + len(letters)]))
        start += len(letters)
    return found


def _text(token: Token) -> str:
    return token.text or ""


def _distinct(words: Iterable[int | None]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(word for word in words if word is not None))


def _not_told(text: str, tokens: Sequence[Token]) -> ConfigurationError:
    return ConfigurationError(
        f"gold links are between words, and which words the tokens belong to cannot be told: the words are "
        f"{text.split()}, the tokens {[_text(token) for token in tokens]}. Wanted is a tokenizer whose tokens have "
        "the letters of the text, or say where in it they are."
    )
