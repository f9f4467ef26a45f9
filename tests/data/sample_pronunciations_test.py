import hashlib
import re
from collections import Counter, defaultdict

import pytest

from regattn_allennlp.data.sample_pronunciations import SPLIT_SIZES, pronounce, sample_pronunciations

DIGESTS = {
    "train": "683fec4404141d2e927a6fadee8f628750ae1aa0bcbd53cd872c1121060e87a6",
    "validation": "6fa2fafa0400268f723236417177d2830135023c936c4ac7dc2353e0f3df37d3",
}


PATTERNS = (
    "ai", "ou", "[aeiou][bcdfgklmnprstvz]e$", "[^aeiou]e$", "ch", "sh", "th", "ny", "ng(?![aeiou])", "qu", "gu[ei]",
    "g[ei]", "c[ei]", "c[aou]", "x", r"([^aeiou])\1", "[aeiou]s[aeiou]", "(?<![cst])h",
)  # fmt: skip


def words_of(split):
    return [(spelling.replace(" ", ""), sounds.replace(" ", "")) for spelling, sounds in sample_pronunciations(split)]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_splits_are_always_the_same(split):
    text = "".join(f"{spelling}\t{sounds}\n" for spelling, sounds in sample_pronunciations(split))
    assert hashlib.sha256(text.encode()).hexdigest() == DIGESTS[split]


def test_splits_are_of_their_sizes_and_share_no_word():
    train, validation = words_of("train"), words_of("validation")
    assert (len(train), len(validation)) == (SPLIT_SIZES["train"], SPLIT_SIZES["validation"])
    spellings = [spelling for spelling, _ in train + validation]
    assert len(set(spellings)) == len(spellings)


def test_there_is_no_other_split():
    with pytest.raises(ValueError, match=r"'tset'.*train, validation"):
        sample_pronunciations("tset")


@pytest.mark.parametrize(
    "spelling, sounds",
    [
        ("bito", "bito"),
        ("shatho", "ʃaθo"),
        ("chunya", "xuɲa"),
        ("thai", "θɛ"),
        ("souma", "suma"),
        ("rengo", "rengo"),  # no digraph before a vowel
        ("rengta", "reŋta"),
        ("quix", "kwiks"),
        ("cacici", "katsitsi"),
        ("gagegi", "gaʒeʒi"),
        ("guegui", "gegi"),
        ("gua", "gua"),
        ("hoha", "oa"),
        ("lassosas", "lasozas"),  # between vowels, but not where it is doubled
        ("rame", "ra:m"),
        ("ramte", "ramt"),
        ("raime", "rɛm"),
        ("faces", "fatses"),
        ("face", "fa:ts"),
    ],
)
def test_pronunciations(spelling, sounds):
    assert pronounce(spelling) == sounds


def test_letters_and_sounds_are_not_one_to_one():
    differences = Counter(len(spelling) - len(sounds) for spelling, sounds in words_of("train"))
    assert min(differences) < 0 < max(differences)
    assert 0.2 < differences[0] / SPLIT_SIZES["train"] < 0.5


def test_all_rules_occur_often_in_both_splits():
    for split, size in SPLIT_SIZES.items():
        for pattern in PATTERNS:
            found = sum(re.search(pattern, spelling) is not None for spelling, _ in words_of(split))
            assert found >= 0.01 * size, (split, pattern)


def test_letter_by_letter_it_cannot_be_done():
    # The best sounds for each letter, where the counts are equal, spell few of the words.
    counts = defaultdict(Counter)
    for spelling, sounds in words_of("train"):
        if len(spelling) == len(sounds):
            for letter, sound in zip(spelling, sounds, strict=True):
                counts[letter][sound] += 1
    best = {letter: sounds.most_common(1)[0][0] for letter, sounds in counts.items()}
    words = words_of("validation")
    right = sum("".join(best.get(letter, "") for letter in spelling) == sounds for spelling, sounds in words)
    assert 0 < right / len(words) < 0.35
