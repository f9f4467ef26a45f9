"""
The embedded sample: an entailment corpus of this project's own making, generated from a small grammar and lexicon.

Design. A sentence describes a scene as a clause: a frame with slots (the subject's noun, number and modifiers, the
predicate, the object's, the place, the time), now and then with a second clause after "while". The hypothesis is
drawn first, and then one premise is built from it for each of the three labels; a hypothesis for which one of them
cannot be built is thrown away whole. Every hypothesis thus occurs once with each label, so that a classifier that
sees hypotheses alone is at chance by construction. The draws do not depend on the Python version or hash seed.

Labels. Both sentences describe the same scene, and what fills the same slot is the same thing, whether it is
introduced by "a" or "the". A subject or object has one number, and "two" is neither "three" nor "four". Terms in one
group of a taxonomy exclude one another: a person or animal does one of several excluding activities, in one place.

* entailment: the premise fills every slot of the hypothesis with the same or a more specific term;
* contradiction: the premise fills at least one slot of the hypothesis with a term that excludes it, or has who acts
  and who is acted on swapped; whatever the other slots hold;
* neutral: otherwise, that is, a slot of the hypothesis is empty in the premise, or has a more general or a merely
  compatible term there (a woman and a doctor), and none has an excluding one.

Negation denies the predicate only, of the subject of the scene. A clause with "not" therefore has no place or time,
whose scope would be unclear. "The dog is not running" is entailed by "not moving" and by "sleeping", contradicted by
"running" and "sprinting", and left open by "moving", "not sprinting" and "not sleeping".

The training split is drawn with seed 20201 and the validation split with seed 20202; they share no premise.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from regattn_allennlp.data.sample_lexicon import FRAMES, IRREGULAR_PLURALS, MODIFIERS, TAXONOMIES, TIMES, Frame

LABELS = ("entailment", "neutral", "contradiction")
SPLIT_SIZES = {"train": 24_000, "validation": 3_000}
SPLIT_SEEDS = {"train": 20_201, "validation": 20_202}

# How often a slot that the hypothesis fills gets a more specific term in the premise, and how often a modifier that
# it lacks is added. Where the label has a slot emptied, more are added: otherwise the premise's length gives it away.
SPECIALISED = {"entailment": 0.25, "neutral": 0.45, "contradiction": 0.2}
ADDED = {"entailment": 0.11, "neutral": 0.22, "contradiction": 0.11}
SWAPPED_AGENTS = 0.55  # of the contradictions between two agents
SECOND_CLAUSE = 0.04

Slots = dict[str, str]


class EntailmentPair(NamedTuple):
    premise: str
    hypothesis: str
    label: str


class Taxonomy:
    """Which terms are broader or narrower than a term, exclude it, or are merely compatible with it."""

    def __init__(self, groups: Mapping[str, Sequence[str]]) -> None:
        # The path of a term leads from the root to it: a (parent, number of the group, child) for each step.
        paths: dict[str, tuple[tuple[str, int, str], ...]] = {next(iter(groups)): ()}
        for parent, parent_groups in groups.items():
            for number, group in enumerate(parent_groups):
                for child in group.split():
                    paths[child] = (*paths[parent], (parent, number, child))
        self.terms = [term for term in paths if not term.isupper()]
        self.broader: dict[str, list[str]] = {term: [] for term in self.terms}
        self.narrower: dict[str, list[str]] = {term: [] for term in self.terms}
        self.excluding: dict[str, list[str]] = {term: [] for term in self.terms}
        self.compatible: dict[str, list[str]] = {term: [] for term in self.terms}
        for term in self.terms:
            for other in self.terms:
                steps = [pair for pair in zip(paths[term], paths[other], strict=False) if pair[0] != pair[1]]
                if steps:
                    (_, group_number, _), (_, other_number, _) = steps[0]
                    relation = self.excluding if group_number == other_number else self.compatible
                    relation[term].append(other)
                elif len(paths[other]) < len(paths[term]):
                    self.broader[term].append(other)
                elif len(paths[other]) > len(paths[term]):
                    self.narrower[term].append(other)


_TAXONOMIES = {name: Taxonomy(groups) for name, groups in TAXONOMIES.items()}


class Clause(NamedTuple):
    frame: Frame
    slots: Slots
    negated: bool = False


def _taxonomy(frame: Frame, slot: str) -> Taxonomy:
    name: str | None = {
        "subject noun": frame.subject, "object noun": frame.object, "predicate": frame.predicate, "place": frame.place,
    }.get(slot, slot.removeprefix("subject ").removeprefix("object "))  # fmt: skip
    assert name is not None
    return _TAXONOMIES[name]


def _modifier_slots(frame: Frame) -> list[str]:
    slots = [f"subject {modifier}" for modifier in MODIFIERS[frame.subject]]
    if frame.object is not None:
        slots += [f"object {modifier}" for modifier in MODIFIERS[frame.object]]
    if frame.place is None:
        return slots
    return [*slots, "place"] if frame.predicate.endswith("_state") else [*slots, "place", *TIMES]


def _has_room(frame: Frame, slots: Slots, slot: str) -> bool:
    """Whether the modifier can be added without piling up adjectives or times, or using one kind for both nouns."""
    role, _, modifier = slot.partition(" ")
    if slot in slots or f"subject {modifier}" in slots or f"object {modifier}" in slots:
        return False
    if slot in TIMES:
        return "predicate" in slots and not any(time in slots for time in TIMES)
    if role == "place" or modifier == "clothes":
        return True
    noun_class = frame.subject if role == "subject" else str(frame.object)
    adjectives = [f"{role} {name}" for name in MODIFIERS[noun_class] if name != "clothes"]
    return sum(adjective in slots for adjective in adjectives) < (1 if noun_class == "person" else 2)


def _add_modifiers(rng: random.Random, clause: Clause, probability: float, forbidden: Collection[str] = ()) -> None:
    modifiers = [slot for slot in _modifier_slots(clause.frame) if slot not in forbidden]
    if clause.negated:
        modifiers = [slot for slot in modifiers if slot.startswith("subject ")]
    rng.shuffle(modifiers)
    for slot in modifiers:
        # Places and times are what makes a scene; they get twice the probability of an adjective.
        likely = 2 * probability if slot == "place" else probability
        if rng.random() < likely and _has_room(clause.frame, clause.slots, slot):
            clause.slots[slot] = rng.choice(_taxonomy(clause.frame, slot).terms)


def _draw_number(rng: random.Random) -> str:
    return "one" if rng.random() < 0.75 else rng.choice(_TAXONOMIES["number"].terms)


def _draw_clause(rng: random.Random, frame: Frame) -> Clause:
    """A hypothesis's clause; without a predicate it says that there is such a thing."""
    # Two agents of one kind must be told apart: "a person is pushing a boy" says too little.
    subjects, alike = _taxonomy(frame, "subject noun"), frame.object == frame.subject
    subject = rng.choice([noun for noun in subjects.terms if subjects.excluding[noun] or not alike])
    slots = {"subject number": _draw_number(rng), "subject noun": subject}
    if frame.object is not None:
        slots["object number"] = _draw_number(rng) if slots["subject number"] == "one" else "one"
        slots["object noun"] = rng.choice(
            subjects.excluding[subject] if alike else _taxonomy(frame, "object noun").terms
        )
    kind = 1.0 if frame.object is not None else rng.random()
    if kind >= 0.1:
        slots["predicate"] = rng.choice(_taxonomy(frame, "predicate").terms)
    clause = Clause(frame, slots, negated=0.1 <= kind < 0.22)
    _add_modifiers(rng, clause, 0.14)
    return clause


def _draw_second_clause(rng: random.Random, clause: Clause) -> Clause | None:
    """A short clause about somebody who has no part in the first."""
    frames = [frame for frame in FRAMES[:2] if frame.subject not in (clause.frame.subject, clause.frame.object)]
    if not frames or clause.negated or clause.frame.predicate.endswith("_state") or "predicate" not in clause.slots:
        return None
    # The first clause gives the scene's place and time.
    frame = frames[0]
    return Clause(
        frame._replace(place=None),
        {
            "subject number": _draw_number(rng),
            "subject noun": rng.choice(_taxonomy(frame, "subject noun").terms),
            "predicate": rng.choice(_taxonomy(frame, "predicate").terms),
        },
    )


def _specialise(rng: random.Random, clause: Clause, probability: float, kept: Collection[str] = ()) -> None:
    for slot, term in clause.slots.items():
        if slot in kept or term == "one":
            continue
        narrower = _taxonomy(clause.frame, slot).narrower[term]
        # Under negation it is the more general predicate that entails the other.
        if slot == "predicate" and clause.negated:
            narrower = _taxonomy(clause.frame, slot).broader[term]
        if narrower and rng.random() < probability:
            clause.slots[slot] = rng.choice(narrower)


def _weakenings(clause: Clause) -> dict[str, list[str | None]]:
    """For each slot, the terms that leave open whether the hypothesis's term holds; None empties the slot."""
    weakenings: dict[str, list[str | None]] = {}
    for slot, term in clause.slots.items():
        if term == "one" or (slot == "predicate" and clause.negated):
            continue
        taxonomy = _taxonomy(clause.frame, slot)
        terms: list[str | None] = [*taxonomy.broader[term], *taxonomy.compatible[term]]
        may_be_bare = clause.frame.object is None and not any(time in clause.slots for time in TIMES)
        if slot in _modifier_slots(clause.frame) or (slot == "predicate" and may_be_bare):
            terms.append(None)
        if terms:
            weakenings[slot] = terms
    return weakenings


def _choose_slots(rng: random.Random, slots: Sequence[str], draws: int) -> list[str]:
    """At most as many slots as draws; one that is listed several times is the more likely."""
    return list(dict.fromkeys(rng.choice(slots) for _ in range(draws)))


def _weaken(rng: random.Random, slots: Slots, slot: str, terms: Sequence[str | None]) -> None:
    # A modifier is mostly left out: were broader terms the rule, the premise alone would give neutral pairs away.
    term = None if None in terms and slot != "predicate" and rng.random() < 0.6 else rng.choice(terms)
    if term is None:
        del slots[slot]
    else:
        slots[slot] = term


def _is_sensible(clause: Clause) -> bool:
    """Whether no agent acts on its own kind, as in "a dog is chasing a dog": nobody could tell who is who."""
    return clause.slots["subject noun"] != clause.slots.get("object noun")


def _entailing(rng: random.Random, hypothesis: Clause) -> Clause:
    frame, slots, negated = hypothesis
    excluding = _taxonomy(frame, "predicate").excluding[slots["predicate"]] if negated else []
    if excluding and rng.random() < 0.5:
        premise = Clause(frame, {**slots, "predicate": rng.choice(excluding)})
    else:
        premise = Clause(frame, dict(slots), negated)
    _specialise(rng, premise, SPECIALISED["entailment"])
    _add_modifiers(rng, premise, ADDED["entailment"])
    return premise


def _neutral(rng: random.Random, hypothesis: Clause) -> Clause | None:
    frame, slots, negated = hypothesis
    predicates: list[tuple[str, bool]] = []
    if frame.object is None and "predicate" in slots:
        taxonomy, predicate = _taxonomy(frame, "predicate"), slots["predicate"]
        predicates += [(term, True) for term in taxonomy.narrower[predicate]]
        # What is not open is closed, but who is not sitting may be standing or walking.
        if not frame.predicate.endswith("_state"):
            predicates += [(term, True) for term in taxonomy.excluding[predicate]]
        if negated:
            predicates += [(term, False) for term in taxonomy.broader[predicate] + taxonomy.compatible[predicate]]
    weakenings = _weakenings(hypothesis)
    if predicates and (rng.random() < (0.7 if negated else 0.07) or not weakenings):
        predicate, premise_negated = rng.choice(predicates)
        premise = Clause(frame, {**slots, "predicate": predicate}, premise_negated)
        changed = ["predicate"]
        if premise_negated:
            for slot in ("place", *TIMES):
                premise.slots.pop(slot, None)
    elif weakenings:
        modifiers = [slot for slot in weakenings if slot in _modifier_slots(frame)]
        changed = _choose_slots(rng, [*weakenings, *modifiers, *modifiers], draws=2)
        premise = Clause(frame, dict(slots), negated)
        for slot in changed:
            _weaken(rng, premise.slots, slot, weakenings[slot])
    else:
        return None
    _specialise(rng, premise, SPECIALISED["neutral"], kept=changed)
    _add_modifiers(rng, premise, ADDED["neutral"], forbidden=tuple(slots))
    return premise


def _swapped(clause: Clause) -> Clause:
    other = {"subject": "object", "object": "subject"}
    slots = {}
    for slot, term in clause.slots.items():
        role, space, rest = slot.partition(" ")
        slots[other.get(role, role) + space + rest] = term
    return Clause(clause.frame._replace(subject=str(clause.frame.object), object=clause.frame.subject), slots)


def _contradicting(rng: random.Random, hypothesis: Clause) -> Clause | None:
    frame, slots, negated = hypothesis
    kept: list[str] = []
    if frame.predicate == "interaction" and rng.random() < SWAPPED_AGENTS:
        premise = _swapped(hypothesis)
        _specialise(rng, premise, SPECIALISED["contradiction"])
        _add_modifiers(rng, premise, ADDED["contradiction"])
        return premise
    if negated:
        premise = Clause(frame, dict(slots))
    elif frame.object is None and "predicate" in slots and rng.random() < 0.1:
        predicate = slots["predicate"]
        broader = _taxonomy(frame, "predicate").broader[predicate]
        premise = Clause(frame, {**slots, "predicate": rng.choice([predicate, *broader])}, negated=True)
        for slot in ("place", *TIMES):
            premise.slots.pop(slot, None)
        kept.append("predicate")
    else:
        excluding = {slot: _taxonomy(frame, slot).excluding[term] for slot, term in slots.items() if term != "one"}
        excluding = {slot: terms for slot, terms in excluding.items() if terms}
        if not excluding:
            return None
        kept = _choose_slots(rng, list(excluding), draws=3)
        premise = Clause(frame, {**slots, **{slot: rng.choice(excluding[slot]) for slot in kept}})
    _specialise(rng, premise, SPECIALISED["contradiction"], kept=kept)
    _add_modifiers(rng, premise, ADDED["contradiction"], forbidden=tuple(slots))
    return premise


_BUILDERS = {"entailment": _entailing, "neutral": _neutral, "contradiction": _contradicting}


def _draw_premise(rng: random.Random, hypothesis: Sequence[Clause], label: str) -> list[Clause] | None:
    """Carry the label in one of the clauses; the others are entailed."""
    decisive = rng.randrange(len(hypothesis))
    premise: list[Clause] = []
    for position, clause in enumerate(hypothesis):
        built = _BUILDERS[label if position == decisive else "entailment"](rng, clause)
        if built is None or not _is_sensible(built):
            return None
        premise.append(built)
    if len(premise) == 1 and rng.random() < SECOND_CLAUSE:
        second = _draw_second_clause(rng, premise[0])
        premise += [second] if second is not None else []
    return premise


def _plural(noun: str) -> str:
    first, of, rest = noun.partition("_of_")  # pieces of fruit
    if first in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[first]
    if first.endswith("y") and first[-2] not in "aeiou":
        return first[:-1] + "ies" + of + rest
    return first + ("es" if first.endswith(("s", "x", "ch", "sh")) else "s") + of + rest


def _noun_phrase(rng: random.Random, clause: Clause, role: str, definite: bool | None = None) -> str:
    slots = clause.slots
    number, noun = slots[f"{role} number"], slots[f"{role} noun"]
    noun_class = clause.frame.subject if role == "subject" else str(clause.frame.object)
    adjectives = [f"{role} {modifier}" for modifier in MODIFIERS[noun_class] if modifier != "clothes"]
    words = [slots[slot] for slot in adjectives if slot in slots]
    words.append(noun if number == "one" else _plural(noun))
    if definite is None:
        definite = rng.random() < 0.4
    if number == "one":
        words.insert(0, "the" if definite else "an" if words[0][0] in "aeiou" else "a")
    elif number == "some":
        words.insert(0, "the" if definite else "some")
    else:
        words[:0] = ["the", number] if definite else [number]
    clothes = slots.get(f"{role} clothes")
    if clothes is not None:
        words.append(clothes if number == "one" else clothes.replace("_a_", "_") + "s")
    return " ".join(words)


def _clause_text(rng: random.Random, clause: Clause) -> str:
    slots = clause.slots
    verb = "is" if slots["subject number"] == "one" else "are"
    place = slots.get("place", "")
    time = next((slots[name] for name in TIMES if name in slots), "")
    if "predicate" not in slots:
        words = ["there", verb, _noun_phrase(rng, clause, "subject", definite=False), place]
    else:
        words = [_noun_phrase(rng, clause, "subject", definite=True if clause.negated else None)]
        # The place of a state belongs to the noun: "the car in the street is dirty".
        is_state = clause.frame.predicate.endswith("_state")
        words += [place if is_state else "", verb, "not" if clause.negated else "", slots["predicate"]]
        words += [_noun_phrase(rng, clause, "object") if clause.frame.object is not None else ""]
        words += ["" if is_state else place]
    if time and rng.random() < 0.25:
        words.insert(0, f"{time} ,")
    else:
        words.append(time)
    return " ".join(word for word in words if word).replace("_", " ")


def _text(rng: random.Random, clauses: Sequence[Clause]) -> str:
    return " while ".join(_clause_text(rng, clause) for clause in clauses)


def generate_pairs(num_pairs: int, seed: int, excluded_premises: Collection[str] = ()) -> list[EntailmentPair]:
    """
    Draw pairs without duplicates, as evenly spread over the labels as their number allows, in random order.

    No pair has one of the excluded premises. The same arguments always give the same pairs.
    """
    rng = random.Random(seed)
    excluded = frozenset(excluded_premises)
    weighted_frames = [frame for frame in FRAMES for _ in range(frame.weight)]
    pairs: list[EntailmentPair] = []
    hypotheses: set[str] = set()
    while len(pairs) < num_pairs:
        clauses = [_draw_clause(rng, rng.choice(weighted_frames))]
        if rng.random() < SECOND_CLAUSE:
            second = _draw_second_clause(rng, clauses[0])
            clauses += [second] if second is not None else []
        hypothesis = _text(rng, clauses)
        premises = [_draw_premise(rng, clauses, label) for label in LABELS]
        texts = [_text(rng, premise) for premise in premises if premise is not None]
        if hypothesis in hypotheses or len(texts) < len(LABELS) or not excluded.isdisjoint(texts):
            continue
        hypotheses.add(hypothesis)
        pairs += [EntailmentPair(text, hypothesis, label) for text, label in zip(texts, LABELS, strict=True)]
    del pairs[num_pairs:]
    rng.shuffle(pairs)
    return pairs


@lru_cache
def sample_pairs(split: str) -> list[EntailmentPair]:
    """The pairs of the embedded sample's split, "train" or "validation"."""
    if split not in SPLIT_SIZES:
        raise ValueError(f"the embedded sample has no split {split!r}; it has {', '.join(SPLIT_SIZES)}")
    excluded = [] if split == "train" else [pair.premise for pair in sample_pairs("train")]
    return generate_pairs(SPLIT_SIZES[split], SPLIT_SEEDS[split], excluded)
