"""
Lets AllenNLP's `pretrained_transformer` tokenizer and token indexers load a tokenizer with the transformers library
of today. They pass `add_special_tokens` when they load it, which transformers ignored in AllenNLP's days and refuses
by now ("add_special_tokens conflicts with the method"). Nothing is lost without it: they pass it with every text too.
"""

from typing import Any

from allennlp.common import cached_transformers

_get_tokenizer = cached_transformers.get_tokenizer


def get_tokenizer(model_name: str, add_special_tokens: bool = True, **kwargs: Any) -> Any:
    return _get_tokenizer(model_name, **kwargs)


cached_transformers.get_tokenizer = get_tokenizer
