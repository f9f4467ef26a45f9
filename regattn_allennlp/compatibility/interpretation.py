"""Attackers and saliency interpreters."""

import functools
from typing import Any

from regattn_allennlp.compatibility.mend import mend

# What AllenNLP takes for the field's name where none is given.
DEFAULT_FIELD = "tokens"


def _attack_the_predictors_field(attacker: type[Any]) -> None:
    from allennlp.common.checks import ConfigurationError

    attack = attacker.attack_from_json

    @functools.wraps(attack)
    def attack_from_json(
        self: Any, inputs: Any, input_field_to_attack: str = DEFAULT_FIELD, *args: Any, **kwargs: Any
    ) -> Any:
        if input_field_to_attack == DEFAULT_FIELD:
            input_field_to_attack = getattr(self.predictor, "attacked_field", DEFAULT_FIELD)
        if input_field_to_attack is None:
            raise ConfigurationError(f"{type(self.predictor).__name__} has no text, whose words could be attacked.")
        return attack(self, inputs, input_field_to_attack, *args, **kwargs)

    attacker.attack_from_json = attack_from_json


@mend(
    "allennlp.interpret.attackers.input_reduction",
    puts_back="`InputReduction` attacks the text of this package's predictors unless it is told another",
    versions="allennlp==2.10.1",
    test="tests/compatibility/interpretation_test.py::test_attackers_find_the_text_themselves",
)
def reduce_the_predictors_field(input_reduction: Any) -> None:
    _attack_the_predictors_field(input_reduction.InputReduction)


@mend(
    "allennlp.interpret.attackers.hotflip",
    puts_back="`Hotflip` attacks the text of this package's predictors unless it is told another",
    versions="allennlp==2.10.1",
    test="tests/compatibility/interpretation_test.py::test_attackers_find_the_text_themselves",
)
def flip_words_of_the_predictors_field(hotflip: Any) -> None:
    _attack_the_predictors_field(hotflip.Hotflip)


@mend(
    "allennlp.interpret.saliency_interpreters.saliency_interpreter",
    puts_back="`SimpleGradient` multiplies the gradient of each word by its own embedding, not by the first word's",
    versions="allennlp==2.10.1",
    test="tests/compatibility/interpretation_test.py::test_simple_gradient_is_of_each_word",
)
def keep_the_batch_dimension_of_embeddings(saliency_interpreter: Any) -> None:
    # What takes the embeddings from here, and what aggregates them, count on the dimension that the hooks squeeze out.
    aggregate = saliency_interpreter.SaliencyInterpreter._aggregate_token_embeddings

    @functools.wraps(aggregate)
    def aggregate_batches(embeddings_list: Any, token_offsets: Any) -> Any:
        batches = [one.unsqueeze(0) if one.dim() == 2 else one for one in embeddings_list]
        return aggregate(batches, token_offsets)

    saliency_interpreter.SaliencyInterpreter._aggregate_token_embeddings = staticmethod(aggregate_batches)


class _LastFirst(list[Any]):
    """A list from whose end is taken what is asked of its start."""

    def pop(self, index: Any = -1) -> Any:
        return super().pop()


@mend(
    "allennlp.predictors.predictor",
    puts_back="Gradients of several texts whose words are in pieces are those of their own words",
    versions="allennlp==2.10.1",
    test="tests/compatibility/interpretation_test.py::test_words_in_pieces_have_their_own_gradients",
)
def give_each_text_its_own_words(predictor: Any) -> None:
    # The gradients come in the reverse order of the texts; AllenNLP takes where their words are in the order itself.
    register = predictor.Predictor._register_embedding_gradient_hooks

    @functools.wraps(register)
    def register_hooks(self: Any, embedding_gradients: Any) -> Any:
        self._token_offsets = _LastFirst()
        return register(self, embedding_gradients)

    predictor.Predictor._register_embedding_gradient_hooks = register_hooks
