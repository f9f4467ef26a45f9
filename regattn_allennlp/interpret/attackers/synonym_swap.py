from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict, sanitize
from allennlp.data import Instance, Token
from allennlp.data.fields import MetadataField, TextField
from allennlp.interpret.attackers import Attacker
from allennlp.predictors import Predictor

from regattn_allennlp.interpret.attackers.synonyms import DEFAULT_SYNONYMS, read_synonyms
from regattn_allennlp.models.outputs_in_batches import outputs_in_batches

# Where a model's output has the labels' probabilities: this package's models, AllenNLP's classifiers.
PROBABILITIES = ("label_probs", "probs")
# To how many decimals two probabilities are told apart.
NUM_DECIMALS = 6


class _Swap(NamedTuple):
    """A word in the place of another."""

    position: int
    word: str


@Attacker.register("synonym-swap")
class SynonymSwap(Attacker):
    """
    Puts synonyms in the place of words until the model's label changes, by its probabilities alone. A model that
    understood the words would not change its label.

    The search is that of Ren et al. 2019 (ACL, "Generating Natural Language Adversarial Examples through Probability
    Weighted Word Saliency", section 3) without the words' saliency and the named entities: of each word the synonym
    is chosen that makes the label the least probable, and words are replaced in the order of how much theirs does so,
    the replaced ones staying, until the label changes. Two things differ: where one synonym alone changes the label,
    it is taken (as Jin et al. 2020, TextFooler, arXiv 1907.11932, prefer them), and one that makes the label more
    probable is never used.

    All single swaps are predicted in one batch, and what they add up to in another. Nothing is drawn at random.

    The words are the dataset reader's tokens, so its tokenizer must make words, not their pieces. Their case is kept:
    "Big" becomes "Large". An article stays as it is, "a" also before a vowel.

    Registered as an `Attacker` with name "synonym-swap".

    # Parameters

    predictor : `Predictor`
        Of a model whose output has "label_probs" or "probs".
    synonyms : `str`, optional (default = a table of this package, for descriptions of everyday scenes)
        A text file with a group of synonyms a line, separated by commas: see `read_synonyms`.
    max_swaps : `int`, optional (default = `3`)
        How many words are replaced at the most.
    batch_size : `int`, optional (default = `64`)
        How many texts are predicted at a time.

    # Raises

    `ConfigurationError`
        If the file or a number cannot be used.
    """

    def __init__(
        self,
        predictor: Predictor,
        synonyms: Optional[str] = None,
        max_swaps: int = 3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(predictor)
        for name, value in {"max_swaps": max_swaps, "batch_size": batch_size}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"synonym-swap: {name} must be a whole number, 1 or more, but is {value!r}")
        self._synonyms = read_synonyms(DEFAULT_SYNONYMS if synonyms is None else synonyms)
        self._max_swaps = max_swaps
        self._batch_size = batch_size

    def attack_from_json(
        self,
        inputs: JsonDict,
        input_field_to_attack: str = "hypothesis",
        grad_input_field: str = "grad_input_1",
        ignore_tokens: Optional[list[str]] = None,
        target: Optional[JsonDict] = None,
    ) -> JsonDict:
        """
        # Parameters

        inputs : `JsonDict`
            What the predictor predicts from.
        input_field_to_attack : `str`, optional (default = `"hypothesis"`)
            The `TextField` whose words are replaced.
        grad_input_field : `str`
            Not used: there are no gradients. It is here because AllenNLP's attackers have it.
        ignore_tokens : `List[str]`, optional (default = `None`)
            Words that stay.
        target : `JsonDict`, optional
            Not for this attack, which wants any other label.

        # Returns

        `JsonDict`
            What AllenNLP's `Hotflip` gives: "original", the tokens; "final", a list of one list, the tokens after the
            attack, those that got furthest if the label stayed; "outputs", a list of one, what the model predicts
            from these.
        """
        if target is not None:
            raise ConfigurationError("synonym-swap goes for any other label: it takes no target.")
        instance = self.predictor._json_to_instance(inputs)
        self.predictor._dataset_reader.apply_token_indexers(instance)
        if not isinstance(instance.fields.get(input_field_to_attack), TextField):
            texts = [name for name, field in instance.fields.items() if isinstance(field, TextField)]
            raise ConfigurationError(f'"{input_field_to_attack}" is no text of the input; its texts are {texts}')
        attacked = self.attack_instance(instance, input_field_to_attack, ignore_tokens or [])
        return sanitize(
            {
                "final": [attacked[input_field_to_attack].tokens],  # type: ignore[attr-defined]
                "original": instance[input_field_to_attack].tokens,  # type: ignore[attr-defined]
                "outputs": [self.predictor._model.forward_on_instance(attacked)],
            }
        )

    def attack_instance(self, instance: Instance, field_name: str, ignore_tokens: Sequence[str] = ()) -> Instance:
        """The instance, which stays as it is, with as many words replaced as it took to change the label."""
        swaps = self._possible_swaps(instance[field_name], ignore_tokens)  # type: ignore[arg-type]
        if not swaps:
            return instance
        before, *after = self._predict([instance, *(_swapped(instance, field_name, [swap]) for swap in swaps)])
        label = int(before.argmax())
        # The most harmful first, and of equal ones that which comes first: sorting is stable.
        ranked = sorted(zip(swaps, after, strict=True), key=lambda pair: pair[1][label])
        for swap, probabilities in ranked:
            if probabilities.argmax() != label:
                return _swapped(instance, field_name, [swap])
        best: dict[int, _Swap] = {}  # by position
        for swap, probabilities in ranked:
            if probabilities[label] < before[label]:
                best.setdefault(swap.position, swap)
        chosen = list(best.values())[: self._max_swaps]
        if not chosen:
            return instance
        longer = [_swapped(instance, field_name, chosen[:number]) for number in range(1, len(chosen) + 1)]
        predicted = self._predict(longer)
        for attacked, probabilities in zip(longer, predicted, strict=True):
            if probabilities.argmax() != label:
                return attacked
        return longer[int(np.argmin([probabilities[label] for probabilities in predicted]))]

    def _possible_swaps(self, field: TextField, ignore_tokens: Sequence[str]) -> list[_Swap]:
        return [
            _Swap(position, _in_the_case_of(token.text, synonym))
            for position, token in enumerate(field.tokens)
            if token.text and token.text not in ignore_tokens
            for synonym in self._synonyms.get(token.text.lower(), [])
        ]

    def _predict(self, instances: Sequence[Instance]) -> list[np.ndarray]:
        """The labels' probabilities for each."""
        model = self.predictor._model
        rows: list[np.ndarray] = []
        for output in outputs_in_batches(model, instances, self._batch_size):
            name = next((name for name in PROBABILITIES if name in output), None)
            if name is None:
                raise ConfigurationError(
                    f"synonym-swap attacks models whose output has one of {list(PROBABILITIES)}; that of "
                    f"{type(model).__name__} has {sorted(output)}"
                )
            # What is equal, as all words that the model does not know, differs in its last bits with the batch.
            rows += list(output[name].double().cpu().numpy().round(NUM_DECIMALS))
        return rows


def _swapped(instance: Instance, field_name: str, swaps: Sequence[_Swap]) -> Instance:
    """A copy that shares all but the words replaced."""
    field = instance[field_name]
    assert isinstance(field, TextField)
    tokens = list(field.tokens)
    for swap in swaps:
        tokens[swap.position] = Token(swap.word)
    fields = {**instance.fields, field_name: TextField(tokens, field.token_indexers)}
    metadata = fields.get("metadata")
    # By which this package's models know the words they show.
    if isinstance(metadata, MetadataField) and f"{field_name}_tokens" in (metadata.metadata or {}):
        fields["metadata"] = MetadataField(
            {**metadata.metadata, f"{field_name}_tokens": [token.text for token in tokens]}
        )
    return Instance(fields)


def _in_the_case_of(word: str, synonym: str) -> str:
    """ "Large" for "Big" and "large", "LARGE" for "BIG"."""
    if len(word) > 1 and word.isupper():
        return synonym.upper()
    return synonym[0].upper() + synonym[1:] if word[0].isupper() else synonym
