from typing import NamedTuple


class Pronunciation(NamedTuple):
    source: str
    target: str


def sample_pronunciations(split: str) -> list[Pronunciation]:
    raise ValueError(split)
