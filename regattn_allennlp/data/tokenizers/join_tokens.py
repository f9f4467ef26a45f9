from collections.abc import Iterable
from typing import Literal

# What the tokens of a text are: by it, tokens are joined to a text again.
TokenUnit = Literal["words", "characters", "subwords"]

# Stands for a space in the pieces of sentencepiece.
SPACE_IN_PIECES = "\N{LOWER ONE EIGHTH BLOCK}"


def join_tokens(tokens: Iterable[str], unit: TokenUnit) -> str:
    """
    The text that tokens stand for: "words" have spaces between them, "characters" and the spaces among them follow
    each other, "subwords" are the pieces of sentencepiece, of which those that begin a word begin with "▁".
    """
    if unit == "words":
        return " ".join(tokens)
    text = "".join(tokens)
    return text if unit == "characters" else text.replace(SPACE_IN_PIECES, " ").strip()
