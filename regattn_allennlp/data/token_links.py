from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

# Of a word of one text and a word of another, each counted from 0.
Link = tuple[int, int]


class WordLinks(NamedTuple):
    """
    Which words of two texts belong together, as people have said: pairs of a word of the first and a word of the
    second. Words are what white space separates. The sure links are possible, too.
    """

    sure: frozenset[Link]
    possible: frozenset[Link]


class TokenLinks(NamedTuple):
    """
    The same, and which tokens the words are made of: these are what attends and what is attended to.

    # Parameters

    sure, possible : `FrozenSet[Tuple[int, int]]`
        See `WordLinks`. There may be links of words that have no token, since the text was cut.
    first_words, second_words : `Tuple[Tuple[int, ...], ...]`
        For each token of the text the words that it belongs to: as a rule one; none if it stands for no word.
    """

    sure: frozenset[Link]
    possible: frozenset[Link]
    first_words: tuple[tuple[int, ...], ...]
    second_words: tuple[tuple[int, ...], ...]

    def transposed(self) -> "TokenLinks":
        """The same, the second text being the first."""
        sure, possible = (frozenset((j, i) for i, j in links) for links in (self.sure, self.possible))
        return TokenLinks(sure, possible, self.second_words, self.first_words)


# The key of the metadata of an instance that has a `TokenLinks`.
GOLD_LINKS = "gold_links"


def gold_links(metadata: Optional[Sequence[dict[str, Any]]]) -> Optional[list[TokenLinks]]:
    """Those in the metadata of a batch; `None` where not all of its items have any."""
    if metadata is None or not all(GOLD_LINKS in item for item in metadata):
        return None
    return [item[GOLD_LINKS] for item in metadata]
