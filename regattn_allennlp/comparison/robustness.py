"""Whether a model's label stays when words are replaced on purpose to change it."""

import copy
import inspect
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm
from allennlp.data import DatasetReader, Instance, Token
from allennlp.data.fields import LabelField, MetadataField, TextField
from allennlp.interpret.attackers import Attacker, InputReduction
from allennlp.interpret.attackers.hotflip import DEFAULT_IGNORE_TOKENS
from allennlp.models import Model

import regattn_allennlp.interpret.attackers  # noqa: F401  (registers)
from regattn_allennlp.interpret.attackers.synonyms import read_synonyms
from regattn_allennlp.models.outputs_in_batches import outputs_in_batches
from regattn_allennlp.predictors.entailment import EntailmentPredictor

# The sentence whose words are replaced, and AllenNLP's name of its gradient: the embedder embeds it last, so that its
# gradient comes first.
ATTACKED_FIELD, GRADIENT = "hypothesis", "grad_input_1"

# How many words an attack may replace, if its block does not say. AllenNLP's attacks go on to the sentence's end.
MAX_SWAPS = 3


def check_attack(block: dict[str, Any]) -> None:
    """
    Raises a ConfigurationError for the block of an attack that cannot be made, before there is a model to attack.
    `robustness` says what a block may be.
    """
    attacker = _attacker(block)
    taken = inspect.signature(attacker.__init__).parameters.keys() - {"self", "predictor"} | {"max_swaps"}
    unknown = block.keys() - taken - {"type"}
    if unknown:
        raise ConfigurationError(
            f"--attack {block['type']} does not take {', '.join(sorted(unknown))}; it takes {', '.join(sorted(taken))}"
        )
    max_swaps = block.get("max_swaps", MAX_SWAPS)
    if isinstance(max_swaps, bool) or not isinstance(max_swaps, int) or max_swaps < 1:
        raise ConfigurationError(
            f"--attack {block['type']}: max_swaps must be a whole number, 1 or more, but is {max_swaps!r}"
        )
    if block.get("synonyms") is not None:
        read_synonyms(block["synonyms"])


def metric_prefix(block: dict[str, Any]) -> str:
    """ "synonym_swap" for {"type": "synonym-swap"}: its metrics' names begin so."""
    return block["type"].replace("-", "_")


def robustness(
    model: Model,
    reader: DatasetReader,
    instances: Sequence[Instance],
    attacks: Sequence[dict[str, Any]],
    batch_size: int = 64,
) -> dict[str, float]:
    """
    Attacks a model of textual entailment: words of the hypothesis are replaced until the predicted label changes, for
    each of the items whose label is right without that. Punctuation stays.

    # Parameters

    model : `Model`
        It is copied, so that neither its mode, its gradients nor its metrics change.
    reader : `DatasetReader`
        That made the instances.
    instances : `Sequence[Instance]`
        With the `TextField`s `premise` and `hypothesis`, the `LabelField` `label`, and, in `metadata`, the texts of
        both sentences.
    attacks : `Sequence[Dict[str, Any]]`
        The blocks of registered `Attacker`s, of different types. Each may have "max_swaps" (3 by default): how many
        words may be other ones than before. What an attack does with more of them is no success.

    # Returns

    `Dict[str, float]`
        For the attack "synonym-swap", and so for the others:

        - "synonym_swap_success": of the items that were right, the fraction whose label changed; none if none was
          right;
        - "synonym_swap_accuracy": of all the items, the fraction right under attack;
        - "synonym_swap_changed_words": the mean number of words replaced where the label changed; none if it never
          did.
    """
    predictor = EntailmentPredictor(copy.deepcopy(model), reader)
    labels = _predict(predictor, instances, batch_size)
    right = [
        (instance, label)
        for instance, label in zip(instances, labels, strict=True)
        if label == _true_label(instance, predictor)
    ]
    metrics: dict[str, float] = {}
    for block in attacks:
        max_swaps, attacker = _build(block, predictor)
        attacked = [_attacked(attacker, instance) for instance, _ in Tqdm.tqdm(right, desc=f"attack {block['type']}")]
        # Predicted once more: what an attack says of itself is not what counts.
        labels_after = _predict(predictor, attacked, batch_size)
        changed_words = [
            number
            for (instance, label), after, label_after in zip(right, attacked, labels_after, strict=True)
            if label_after != label and 0 < (number := _num_changed_words(instance, after)) <= max_swaps
        ]
        prefix = metric_prefix(block)
        metrics[f"{prefix}_accuracy"] = (len(right) - len(changed_words)) / len(instances)
        if right:
            metrics[f"{prefix}_success"] = len(changed_words) / len(right)
        if changed_words:
            metrics[f"{prefix}_changed_words"] = fmean(changed_words)
    return metrics


def _attacker(block: dict[str, Any]) -> type[Attacker]:
    try:
        attacker = Attacker.by_name(block["type"])
    except ConfigurationError as error:
        known = [name for name in Attacker.list_available() if not _reduces(Attacker.by_name(name))]
        raise ConfigurationError(
            f'--attack: there is no attack "{block["type"]}"; there are {", ".join(known)}'
        ) from error
    if _reduces(attacker):
        raise ConfigurationError(
            f"--attack {block['type']} removes words so that the label stays; wanted is an attack that changes it."
        )
    return attacker


def _reduces(attacker: Any) -> bool:
    return inspect.isclass(attacker) and issubclass(attacker, InputReduction)


def _build(block: dict[str, Any], predictor: EntailmentPredictor) -> tuple[int, Attacker]:
    """The limit of the words replaced, and the attacker, which is told of it if it can be."""
    max_swaps = block.get("max_swaps", MAX_SWAPS)
    arguments = {key: value for key, value in block.items() if key != "max_swaps"}
    if "max_swaps" in inspect.signature(_attacker(block).__init__).parameters:
        arguments["max_swaps"] = max_swaps
    attacker = Attacker.from_params(Params(copy.deepcopy(arguments)), predictor=predictor)
    attacker.initialize()
    return max_swaps, attacker


def _attacked(attacker: Attacker, instance: Instance) -> Instance:
    """The instance with the words that the attack left; without a label."""
    field = instance[ATTACKED_FIELD]
    metadata = instance.fields.get("metadata")
    assert isinstance(field, TextField)
    if not isinstance(metadata, MetadataField) or not {"premise", "hypothesis"} <= (metadata.metadata or {}).keys():
        raise ConfigurationError(
            "An attack starts from the sentences: wanted is a dataset reader that keeps them in the metadata as "
            '"premise" and "hypothesis", as "entailment" does.'
        )
    punctuation = [token.text for token in field.tokens if not any(map(str.isalnum, token.text or ""))]
    result = attacker.attack_from_json(
        {key: metadata[key] for key in ("premise", "hypothesis")},
        ATTACKED_FIELD,
        GRADIENT,
        [*DEFAULT_IGNORE_TOKENS, *punctuation],
    )
    before = list(field.tokens)
    after = [
        before[position] if position < len(before) and before[position].text == word else Token(word)
        for position, word in enumerate(result["final"][0])
    ]
    return Instance({"premise": instance["premise"], ATTACKED_FIELD: TextField(after, field.token_indexers)})


def _num_changed_words(before: Instance, after: Instance) -> int:
    words, others = ([token.text for token in instance[ATTACKED_FIELD]] for instance in (before, after))  # type: ignore[attr-defined]
    return sum(a != b for a, b in zip(words, others, strict=False)) + abs(len(words) - len(others))


def _true_label(instance: Instance, predictor: EntailmentPredictor) -> int:
    field = instance["label"]
    assert isinstance(field, LabelField)
    if isinstance(field.label, int):
        return field.label
    return predictor._model.vocab.get_token_index(field.label, field._label_namespace)


def _predict(predictor: EntailmentPredictor, instances: Sequence[Instance], batch_size: int) -> list[int]:
    """The labels predicted."""
    outputs = outputs_in_batches(predictor._model, instances, batch_size)
    return [label for output in outputs for label in output["label_probs"].argmax(dim=-1).tolist()]
