"""
How VQA v2 compares answers (visualqa.org/evaluation): what is taken for the same answer, and what an answer is worth.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {"none": "0", **{word: str(number) for number, word in enumerate(NUMBER_WORDS)}}
ARTICLES = ("a", "an", "the")

# Words that are no words without their apostrophe. "its", "were", "well" and the like are words, and are left alone.
_CONTRACTIONS = """
    ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't needn't
    oughtn't shan't shouldn't wasn't weren't won't wouldn't could've might've must've should've would've i've
    they've we've you've who've i'm they're you're that's there's what's where's who's how's when's he's
    she's here's it'll that'll they'll you'll who'll it'd that'd they'd you'd o'clock ma'am y'all
""".split()  # noqa: SIM905  (a list would be twenty lines)
WITH_APOSTROPHE = {word.replace("'", ""): word for word in _CONTRACTIONS}

# An answer is right if three other people gave it.
ENOUGH_PEOPLE = 3


@lru_cache(maxsize=1 << 16)
def normalize_answer(answer: str) -> str:
    """
    What counts as the same answer: in lower case; no periods but decimal points; number words as digits; no articles;
    contractions with their apostrophe; all other punctuation a space, but for apostrophes, colons (in times of the
    day), and commas between digits, which go ("100,978" is "100978").
    """
    text = re.sub(r"(?<=\d),(?=\d)", "", answer.lower())
    text = re.sub(r"(?<!\d)\.|\.(?!\d)", "", text)
    # Keeps letters and digits of any script.
    text = re.sub(r"[^\w\s':.]|_", " ", text)
    words = (WITH_APOSTROPHE.get(word, word) for word in text.split() if word not in ARTICLES)
    return " ".join(DIGITS.get(word, word) for word in words)


def answer_scores(answers: Sequence[str]) -> dict[str, float]:
    """
    What each of the normalized answers that people gave to a question is worth, from 0 to 1, as VQA defines accuracy:
    the mean, over all ways to leave one person out, of min(1, others who gave the answer / 3). Any other answer is
    worth 0.

    VQA asks ten people. Where three others could not be found, all the others are enough; one person's answer is
    worth 1.
    """
    enough = min(ENOUGH_PEOPLE, len(answers) - 1)
    if enough == 0:
        return {answers[0]: 1.0}

    def score(count: int) -> float:
        # `count` times it is one of those who gave the answer that is left out.
        left_out, kept = min(1.0, (count - 1) / enough), min(1.0, count / enough)
        return (count * left_out + (len(answers) - count) * kept) / len(answers)

    return {answer: score(count) for answer, count in Counter(answers).items()}
