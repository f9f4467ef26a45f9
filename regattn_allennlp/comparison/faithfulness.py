"""Whether the words a model attends to most are those its prediction comes from."""

import copy
import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from allennlp.common.tqdm import Tqdm
from allennlp.common.util import lazy_groups_of
from allennlp.data import Instance
from allennlp.data.fields import TextField
from allennlp.models import Model

from regattn_allennlp.models.outputs_in_batches import outputs_in_batches

# Of the words of each sentence, as in the paper (section 4).
FRACTIONS = (0.01, 0.05, 0.1, 0.2, 0.5)

# Sums of attention weights that are the same in so many decimals are equal.
DECIMALS = 5

# The positions of some words of a sentence.
Positions = tuple[int, ...]


class _Reduction(NamedTuple):
    """An item of which only some words are kept."""

    item: int
    premise: Positions
    hypothesis: Positions


def faithfulness(
    model: Model,
    instances: Sequence[Instance],
    fractions: Sequence[float] = FRACTIONS,
    batch_size: int = 64,
    seed: int = 0,
) -> dict[str, float]:
    """
    Comprehensiveness and sufficiency of the most attended words (DeYoung et al. 2020, ERASER, arXiv 1911.03429,
    section 4). With x an item, y the label predicted for it, and r its rationale, the words that matter most:

    comprehensiveness = p(y | x) - p(y | x without r)    high if the prediction needs the rationale
    sufficiency       = p(y | x) - p(y | r alone)        low if the rationale is enough for it

    both in [-1, 1], averaged over rationales of several sizes (the paper's "AOPC", as its code has it: the equation
    also counts an empty rationale) and over the items.

    How much a word matters is the attention it receives: the mean over all words of the other sentence of the weight
    that they give it. The rationale is the fraction of each sentence's words that matter most, rounded up; of words
    that matter equally, but for round-off, the earlier. A sentence never gets empty: if the rationale is all of it,
    then without the rationale the word that matters least stays, and a sentence of one word is kept as it is.

    A number means little by itself: compare with the same two for random words, which are the same for all models.

    Words are the reader's tokens. Where its tokenizer makes special ones, as for the embedder
    "pretrained_transformer", these are attended to, and removed, like words; with "pretrained_transformer_mismatched"
    they are put in after.

    # Parameters

    model : `Model`
        A `RegularizedDecomposableAttention` or what gives the same output. It is copied, so that neither its mode nor
        its metrics change, and used where it is (CPU or GPU).
    instances : `Sequence[Instance]`
        With `TextField`s `premise` and `hypothesis` of at least one word that have their token indexers. They may be
        of another model: they are indexed anew with this one's vocabulary, and themselves left as they are.
    fractions : `Sequence[float]`
        The rationales' sizes, in (0, 1].
    batch_size : `int`
        How many inputs are predicted at a time; there are up to 4 * len(fractions) + 1 an item.
    seed : `int`
        The random words depend on this, the item's place in `instances` and the sentences' lengths, and no more.

    # Returns

    `Dict[str, float]`
        "comprehensiveness", "sufficiency", "random_comprehensiveness" and "random_sufficiency".
    """
    model = copy.deepcopy(model).eval()
    whole_items = [
        _Reduction(item, tuple(range(len(instance["premise"]))), tuple(range(len(instance["hypothesis"]))))
        for item, instance in enumerate(instances)
    ]
    labels: list[int] = []
    probabilities: dict[_Reduction, float] = {}
    reductions: dict[str, list[_Reduction]] = {
        "comprehensiveness": [],
        "sufficiency": [],
        "random_comprehensiveness": [],
        "random_sufficiency": [],
    }
    for whole, output in _predict(model, instances, whole_items, batch_size, "attention"):
        label = int(output["label_probs"].argmax())
        labels.append(label)
        probabilities[whole] = float(output["label_probs"][label])
        premise_length, hypothesis_length = len(whole.premise), len(whole.hypothesis)
        attention = (
            _received(output["hypothesis_to_premise_attention"][:hypothesis_length, :premise_length]),
            _received(output["premise_to_hypothesis_attention"][:premise_length, :hypothesis_length]),
        )
        generator = np.random.default_rng([seed, whole.item])
        random = generator.random(premise_length), generator.random(hypothesis_length)
        for prefix, (premise_importance, hypothesis_importance) in (("", attention), ("random_", random)):
            for fraction in fractions:
                premise_rationale, premise_rest = _split(premise_importance, fraction)
                hypothesis_rationale, hypothesis_rest = _split(hypothesis_importance, fraction)
                reductions[prefix + "comprehensiveness"].append(_Reduction(whole.item, premise_rest, hypothesis_rest))
                reductions[prefix + "sufficiency"].append(
                    _Reduction(whole.item, premise_rationale, hypothesis_rationale)
                )

    # Several fractions of a short sentence are the same words, which are predicted once; alike lengths need little
    # padding.
    distinct = set().union(*reductions.values()) - probabilities.keys()
    by_length = sorted(distinct, key=lambda reduction: (len(reduction.premise), len(reduction.hypothesis), reduction))
    for reduction, output in _predict(model, instances, by_length, batch_size, "faithfulness"):
        probabilities[reduction] = float(output["label_probs"][labels[reduction.item]])
    return {
        name: fmean(probabilities[whole_items[reduction.item]] - probabilities[reduction] for reduction in reduced)
        for name, reduced in reductions.items()
    }


def _received(weights: np.ndarray) -> np.ndarray:
    """
    The sum of the weights of each column, which orders a sentence's words as the mean does. Rounded: words that get
    the same, such as 0.5 twice and 1 once, would be ordered by the round-off of single precision, which changes with
    the padding.
    """
    return weights.sum(axis=0).round(DECIMALS)


def _split(importance: np.ndarray, fraction: float) -> tuple[Positions, Positions]:
    """The positions of the rationale and of the words besides it, both at least one and in the sentence's order."""
    by_importance = np.argsort(-importance, kind="stable").tolist()
    # Less than a word's billionth is rounding: 0.07 * 100 is more than 7.
    size = math.ceil(fraction * len(importance) - 1e-9)
    rest = by_importance[min(size, len(importance) - 1) :]
    return tuple(sorted(by_importance[:size])), tuple(sorted(rest))


def _predict(
    model: Model, instances: Sequence[Instance], reductions: Sequence[_Reduction], batch_size: int, description: str
) -> Iterable[tuple[_Reduction, dict[str, np.ndarray]]]:
    """The model's probabilities and attention for each reduction, padded as they were in its batch."""
    outputs = outputs_in_batches(
        model, (_reduced_instance(instances[reduction.item], reduction) for reduction in reductions), batch_size
    )
    with Tqdm.tqdm(total=len(reductions), desc=description) as progress:
        for group, output in zip(lazy_groups_of(reductions, batch_size), outputs, strict=True):
            arrays = {
                key: output[key].cpu().double().numpy()
                for key in ("label_probs", "premise_to_hypothesis_attention", "hypothesis_to_premise_attention")
            }
            for index, reduction in enumerate(group):
                yield reduction, {key: array[index] for key, array in arrays.items()}
            progress.update(len(group))


def _reduced_instance(instance: Instance, reduction: _Reduction) -> Instance:
    fields = {}
    for name, positions in (("premise", reduction.premise), ("hypothesis", reduction.hypothesis)):
        field = instance[name]
        assert isinstance(field, TextField)
        fields[name] = TextField([field.tokens[position] for position in positions], field.token_indexers)
    return Instance(fields)
