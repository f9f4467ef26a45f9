"""
The embedded sample of the dataset reader "sequence_pairs": spellings and pronunciations of words of no language, of
this project's own making.

Design. A word is one to four syllables of an onset, a nucleus and sometimes a coda, and what is drawn is its spelling.
The pronunciation follows from the spelling alone, by the `RULES`, so a model can get every word right. Letters are
read from left to right, and the alignment is monotone, but it is not one to one:

* two letters may be one sound (sh, th, ai, a doubled consonant), and one letter two (x is k s);
* h is silent, and so are the e at a word's end and the u between g and e or i;
* c and g sound otherwise before e and i, and s between vowels;
* a single vowel is long, with a symbol of its own after it, where one consonant and a silent e end the word: read
  off two letters ahead.

Both splits are cut from one list of different words, drawn with seed 20203. The draws do not depend on the Python
version or hash seed.
"""

import random
import re
from functools import lru_cache
from typing import NamedTuple

SPLIT_SIZES = {"train": 4_000, "validation": 500}
SEED = 20_203

# What is listed more often is more often drawn.
NUMBERS_OF_SYLLABLES = (1, 2, 2, 2, 3, 3, 4)
ONSETS = (
    "b", "c", "c", "ch", "d", "f", "g", "g", "gu", "h", "k", "l", "m", "n", "ny", "p", "qu", "r", "s", "s", "sh", "t",
    "th", "v", "z", "bl", "br", "cl", "cr", "dr", "fr", "gr", "pl", "sl", "st", "tr",
)  # fmt: skip
NUCLEI = ("a", "a", "a", "e", "e", "e", "i", "i", "i", "o", "o", "o", "u", "u", "ai", "ou")
CODAS = ("l", "m", "n", "r", "s", "t", "x", "ng", "th")
DOUBLED = ("f", "l", "m", "n", "p", "r", "s", "t")
BEFORE_SILENT_E = ("d", "k", "l", "m", "n", "p", "r", "t", "v", "z")
WITH_CODA = 0.25
WITH_DOUBLED_CONSONANT = 0.08
WITH_SILENT_E = 0.2

# The first rule whose pattern matches at a letter says what the letters are spoken as; all others are spoken as such.
RULES = [
    (re.compile(pattern), sounds)
    for pattern, sounds in [
        (r"ai", "ɛ"),
        (r"ou", "u"),
        (r"([aeiou])(?=[bcdfgklmnprstvz]e$)", r"\1:"),
        (r"(?<=[^aeiou])e$", ""),
        (r"ch", "x"),
        (r"sh", "ʃ"),
        (r"th", "θ"),
        (r"ny", "ɲ"),
        (r"ng(?![aeiou])", "ŋ"),
        (r"qu", "kw"),
        (r"gu(?=[ei])", "g"),
        (r"g(?=[ei])", "ʒ"),
        (r"g", "g"),
        (r"c(?=[ei])", "ts"),
        (r"c", "k"),
        (r"x", "ks"),
        (r"([flmnprst])\1", r"\1"),
        (r"(?<=[aeiou])s(?=[aeiou])", "z"),
        (r"h", ""),
        (r"(\w)", r"\1"),
    ]
]


class Pronunciation(NamedTuple):
    """A word's letters and its sounds, with spaces between them."""

    source: str
    target: str


def pronounce(word: str) -> str:
    """The sounds of a word that is spelled in the letters a to z, without spaces."""
    sounds, position = "", 0
    while position < len(word):
        match, spoken = next(
            (match, spoken) for pattern, spoken in RULES if (match := pattern.match(word, position)) is not None
        )
        sounds += match.expand(spoken)
        position = match.end()
    return sounds


def _draw_word(rng: random.Random) -> str:
    word = ""
    for _ in range(rng.choice(NUMBERS_OF_SYLLABLES)):
        if word and word[-1] in "aeiou" and rng.random() < WITH_DOUBLED_CONSONANT:
            word += 2 * rng.choice(DOUBLED)
        else:
            word += rng.choice(ONSETS)
        word += rng.choice(NUCLEI)
        if rng.random() < WITH_CODA:
            word += rng.choice(CODAS)
    if rng.random() < WITH_SILENT_E:
        word += "e" if word[-1] not in "aeiou" else rng.choice(BEFORE_SILENT_E) + "e"
    return word


@lru_cache
def _words() -> list[str]:
    rng = random.Random(SEED)
    words: dict[str, None] = {}  # keeps the order
    while len(words) < sum(SPLIT_SIZES.values()):
        word = _draw_word(rng)
        if len(word) > 2:
            words[word] = None
    return list(words)


@lru_cache
def sample_pronunciations(split: str) -> list[Pronunciation]:
    """
    The words of the embedded sample's split, "train" or "validation".

    # Raises

    `ValueError`
        If there is no such split.
    """
    if split not in SPLIT_SIZES:
        raise ValueError(f"the embedded sample has no split {split!r}; it has {', '.join(SPLIT_SIZES)}")
    first = 0 if split == "train" else SPLIT_SIZES["train"]
    return [
        Pronunciation(" ".join(word), " ".join(pronounce(word)))
        for word in _words()[first : first + SPLIT_SIZES[split]]
    ]
