import hashlib
import math
import re
from collections import Counter

import pytest

from regattn_allennlp.data.sample_corpus import (
    LABELS,
    SPLIT_SEEDS,
    SPLIT_SIZES,
    EntailmentPair,
    Taxonomy,
    generate_pairs,
    sample_pairs,
)

DIGESTS = {
    "train": "cee79598b660ca1f4dff724bf8ce13c9145fe0d86deb4a2d9e8448f8f375d382",
    "validation": "b502ddac4fc167238dc61b469a962f5c725a36a5b3318a185991abd20c0b1e1a",
}

TIMES = (
    "during the day|in the morning|at noon|in the afternoon|at night|at midnight|in spring|in summer|in autumn|"
    "in winter|on a weekday|on the weekend"
)

# What the premise's word says about the hypothesis's where the two sentences differ in nothing else.
WORD_LABELS = {
    ("poodle", "dog"): "entailment",
    ("dog", "animal"): "entailment",
    ("sparrow", "animal"): "entailment",
    ("boy", "child"): "entailment",
    ("tiny", "small"): "entailment",
    ("miserable", "sad"): "entailment",
    ("filthy", "dirty"): "entailment",
    ("jogging", "running"): "entailment",
    ("chasing", "following"): "entailment",
    ("rose", "plant"): "entailment",
    ("dog", "poodle"): "neutral",
    ("animal", "cat"): "neutral",
    ("adult", "woman"): "neutral",
    ("doctor", "woman"): "neutral",
    ("man", "teacher"): "neutral",
    ("moving", "running"): "neutral",
    ("walking", "talking"): "neutral",
    ("vehicle", "taxi"): "neutral",
    ("tree", "oak"): "neutral",
    ("dog", "cat"): "contradiction",
    ("poodle", "terrier"): "contradiction",
    ("woman", "boy"): "contradiction",
    ("doctor", "teacher"): "contradiction",
    ("two", "three"): "contradiction",
    ("tall", "short"): "contradiction",
    ("red", "blue"): "contradiction",
    ("overjoyed", "sad"): "contradiction",
    ("full", "empty"): "contradiction",
    ("sleeping", "running"): "contradiction",
    ("buying", "selling"): "contradiction",
    ("opening", "closing"): "contradiction",
    ("kitchen", "park"): "contradiction",
    ("summer", "winter"): "contradiction",
    ("noon", "midnight"): "contradiction",
}


def plain_words(sentence: str) -> list[str]:
    """The words without determiners, with a time that stands first moved to the end of the first clause."""
    first, *others = sentence.split(" while ")
    first = re.sub(rf"^({TIMES}) , (.*)$", r"\2 \1", first)
    words = " while ".join([first, *others]).replace("during the day", "during day").split()
    return [word for word in words if word not in ("a", "an", "the", "some")]


def is_subsequence(words: list[str], others: list[str]) -> bool:
    remaining = iter(others)
    return all(word in remaining for word in words)


def all_pairs() -> list[EntailmentPair]:
    return sample_pairs("train") + sample_pairs("validation")


def all_sentences() -> list[str]:
    return [sentence for pair in all_pairs() for sentence in (pair.premise, pair.hypothesis)]


class TestSampleCorpus:
    @pytest.mark.parametrize("split", ["train", "validation"])
    def test_splits_are_always_the_same(self, split: str):
        text = "".join("\t".join(pair) + "\n" for pair in sample_pairs(split))
        assert hashlib.sha256(text.encode()).hexdigest() == DIGESTS[split]

    def test_seed_decides(self):
        assert generate_pairs(100, seed=1) == generate_pairs(100, seed=1)
        assert generate_pairs(100, seed=1) != generate_pairs(100, seed=2)
        assert generate_pairs(300, seed=SPLIT_SEEDS["train"]) != sample_pairs("train")[:300]

    @pytest.mark.parametrize("number", [0, 1, 2, 3, 100])
    def test_labels_are_as_balanced_as_the_number_allows(self, number: int):
        counts = Counter(pair.label for pair in generate_pairs(number, seed=3))
        assert sum(counts.values()) == number
        assert max(counts[label] for label in LABELS) - min(counts[label] for label in LABELS) <= 1

    def test_splits_are_large_and_balanced(self):
        assert SPLIT_SIZES["train"] >= 12_000
        assert SPLIT_SIZES["validation"] >= 1_500
        for split, size in SPLIT_SIZES.items():
            counts = Counter(pair.label for pair in sample_pairs(split))
            assert counts == {"entailment": size // 3, "neutral": size // 3, "contradiction": size // 3}

    def test_splits_share_no_premise(self):
        train = {pair.premise for pair in sample_pairs("train")}
        validation = {pair.premise for pair in sample_pairs("validation")}
        assert train.isdisjoint(validation)

    def test_excluded_premises_do_not_occur(self):
        # Without the exclusion, the same seed would give the same premises again.
        excluded = [pair.premise for pair in generate_pairs(300, seed=4)]
        assert set(excluded).isdisjoint(
            pair.premise for pair in generate_pairs(300, seed=4, excluded_premises=excluded)
        )

    @pytest.mark.parametrize("split", ["train", "validation"])
    def test_no_pair_occurs_twice(self, split: str):
        pairs = [(pair.premise, pair.hypothesis) for pair in sample_pairs(split)]
        assert len(set(pairs)) == len(pairs)

    def test_lengths_vary(self):
        lengths = Counter(len(sentence.split()) for sentence in all_sentences())
        assert min(lengths) == 4
        assert 20 <= max(lengths) <= 30
        assert all(lengths[length] >= 100 for length in range(4, 19))
        # No length makes up a fifth of the sentences.
        assert max(lengths.values()) < 0.2 * sum(lengths.values())

    def test_unknown_split(self):
        with pytest.raises(ValueError, match=r"'test'.*train, validation"):
            sample_pairs("test")


class TestLabels:
    def test_every_hypothesis_occurs_once_with_each_label(self):
        for split in SPLIT_SIZES:
            labels: dict[str, list[str]] = {}
            for pair in sample_pairs(split):
                labels.setdefault(pair.hypothesis, []).append(pair.label)
            assert all(sorted(found) == sorted(LABELS) for found in labels.values())

    def test_hypothesis_alone_is_at_chance_and_premise_alone_is_near_it(self):
        assert abs(bag_of_words_accuracy("hypothesis") - 1 / 3) < 0.03
        assert bag_of_words_accuracy("premise") < 0.45

    def test_words_decide_where_nothing_else_differs(self):
        checked = set()
        for pair in all_pairs():
            premise, hypothesis = plain_words(pair.premise), plain_words(pair.hypothesis)
            if len(premise) != len(hypothesis) or "not" in premise + hypothesis:
                continue
            differing = [words for words in zip(premise, hypothesis, strict=True) if words[0] != words[1]]
            if len(differing) == 1 and differing[0] in WORD_LABELS:
                assert pair.label == WORD_LABELS[differing[0]], pair
                checked.add(differing[0])
        assert len(checked) >= 12
        assert {WORD_LABELS[words] for words in checked} == set(LABELS)

    def test_leaving_words_out_of_the_premise_keeps_it_true(self):
        found = Counter()
        for pair in all_pairs():
            premise, hypothesis = plain_words(pair.premise), plain_words(pair.hypothesis)
            if {"not", "there", "piece", "pieces"} & {*premise, *hypothesis}:
                continue
            if is_subsequence(hypothesis, premise):
                assert pair.label == "entailment", pair
                found["entailment"] += 1
            elif is_subsequence(premise, hypothesis):
                assert pair.label == "neutral", pair
                found["neutral"] += 1
        assert found["entailment"] > 1000
        assert found["neutral"] > 100

    def test_denying_the_hypothesis_contradicts_it(self):
        found = Counter()
        for pair in all_pairs():
            premise, hypothesis = plain_words(pair.premise), plain_words(pair.hypothesis)
            without = [[word for word in words if word != "not"] for words in (premise, hypothesis)]
            if "while" not in pair.premise + pair.hypothesis and without[0] == without[1]:
                denied = ("not" in premise) != ("not" in hypothesis)
                assert pair.label == ("contradiction" if denied else "entailment"), pair
                found[denied] += 1
        assert min(found[True], found[False]) > 50

    def test_swapped_agents_contradict(self):
        pattern = re.compile(r"(.+) (?:is|are) ((?:follow|chas|push|pull|avoid)ing) (.+)")
        swapped = 0
        for pair in all_pairs():
            premise, hypothesis = (
                pattern.fullmatch(" ".join(plain_words(sentence))) for sentence in (pair.premise, pair.hypothesis)
            )
            if premise and hypothesis and premise.group(1, 2, 3) == hypothesis.group(3, 2, 1):
                assert pair.label == "contradiction", pair
                swapped += 1
        assert swapped >= 5

    @pytest.mark.parametrize(
        "premise, hypothesis, label",
        [
            ("sleeping|napping", "not running|not walking|not moving|not eating|not talking", "entailment"),
            ("not moving", "not running|not walking|not jumping", "entailment"),
            ("full", "not empty", "entailment"),
            ("napping", "not sleeping", "contradiction"),
            ("sprinting|jogging|racing", "not running|not moving", "contradiction"),
            ("not moving", "running|walking|jogging|jumping", "contradiction"),
            ("not sleeping|not napping", "eating|walking|standing|talking|moving", "neutral"),
            ("not sleeping|not napping", "not walking|not eating|not standing|not shouting", "neutral"),
            ("moving", "not running|not strolling|not jumping|not walking", "neutral"),
        ],
    )
    def test_negation(self, premise: str, hypothesis: str, label: str):
        # Said of the same subject; what follows the predicate is a place or time, which must not matter.
        be = "(?:is|are)"
        joined = re.compile(rf"(.+) {be} (?:{premise})\b.*\t\1 {be} (?:{hypothesis})\b.*")
        found = [
            pair.label
            for pair in all_pairs()
            if joined.fullmatch(" ".join(plain_words(pair.premise)) + "\t" + " ".join(plain_words(pair.hypothesis)))
        ]
        assert found
        assert set(found) == {label}


class TestEnglish:
    @pytest.mark.parametrize(
        "mistake",
        [
            r"\ba [aeiou]",
            r"\ban [^aeiou]",
            r"\b(two|three|four)( [a-z]+)? (dog|cat|man|woman|child|person|rose|book)\b",
            r"\b(a|an) ([a-z]+ )?(dogs|cats|men|women|children|people|roses|books)\b",
            r"\b(dogs|cats|men|women|children|people) is\b",
            r"\b(dog|cat|man|woman|child|person) are\b",
            r"\b(mans|womans|childs|persons|boxs|buss|daisys|tabbys|shelfs|scarfs)\b",
            r"\b(the|a|an|some) (the|a|an|some)\b",
            r"\b(\w+) \1\b",
            r"[_A-Z]|  |^ | $",
            r"\bnot\b.* (in|on|at|during|outside|inside)\b(?! a (\w+ )?(hat|coat|shirt)).*(?<!while)$",
        ],
    )
    def test_mistakes_do_not_occur(self, mistake: str):
        pattern = re.compile(mistake)
        clauses = [clause for sentence in all_sentences() for clause in sentence.split(" while ")]
        assert [clause for clause in clauses if pattern.search(clause)][:5] == []


class TestTaxonomy:
    def test_relations(self):
        taxonomy = Taxonomy({"TOP": ["a b", "c"], "a": ["d e"], "d": ["f"]})
        assert taxonomy.terms == ["a", "b", "c", "d", "e", "f"]
        assert taxonomy.broader["f"] == ["a", "d"]
        assert taxonomy.narrower["a"] == ["d", "e", "f"]
        assert taxonomy.excluding["f"] == ["b", "e"]
        assert taxonomy.compatible["f"] == ["c"]


def bag_of_words_accuracy(field: str) -> float:
    """The accuracy on the validation split of naive Bayes on the words of one of the two sentences."""
    counts = {label: Counter[str]() for label in LABELS}
    for pair in sample_pairs("train"):
        counts[pair.label].update(set(getattr(pair, field).split()))
    # The labels are balanced, so they need no prior.
    scores = {
        label: {word: math.log((counts[label][word] + 1) / (SPLIT_SIZES["train"] / 3 + 2)) for word in vocabulary}
        for vocabulary in [set().union(*counts.values())]
        for label in LABELS
    }
    correct = 0
    for pair in sample_pairs("validation"):
        words = [word for word in set(getattr(pair, field).split()) if word in scores[LABELS[0]]]
        predicted = max(LABELS, key=lambda label: sum(scores[label][word] for word in words))
        correct += predicted == pair.label
    return correct / SPLIT_SIZES["validation"]
