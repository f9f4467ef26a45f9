"""Pretrained transformers, their tokenizers, and what AllenNLP imports of the Transformers library."""

import functools
import importlib
import io
import os
import sys
from typing import Any, Optional

import torch

from regattn_allennlp.compatibility.mend import mend


@mend(
    "transformers",
    puts_back="AllenNLP imports with Transformers from 4.50 on; its optimizer `huggingface_adamw` trains as before",
    versions="transformers>=4.50",
    test="tests/compatibility/transformers_adamw_test.py::test_it_steps_as_the_transformers_library_did",
)
def put_back_adamw(transformers: Any) -> None:
    # This module of Transformers puts a second copy of the whole in the place of the first, so it comes first.
    importlib.import_module("transformers.processing_utils")
    from regattn_allennlp.compatibility.transformers_adamw import TransformersAdamW

    sys.modules["transformers"].AdamW = TransformersAdamW  # type: ignore[attr-defined]


@mend(
    "allennlp.common.cached_transformers",
    puts_back="Tokenizers of pretrained transformers load",
    versions="transformers>=4.49",
    test="tests/modules/text_field_embedders/aligned_transformers_test.py",
)
def load_tokenizers_without_special_tokens(cached_transformers: Any) -> None:
    # AllenNLP passes `add_special_tokens` when it loads a tokenizer, which was ignored in its days and is refused by
    # now ("add_special_tokens conflicts with the method"). It passes the same with every text too.
    load_tokenizer = cached_transformers.get_tokenizer

    def get_tokenizer(model_name: str, add_special_tokens: bool = True, **kwargs: Any) -> Any:
        return load_tokenizer(model_name, **kwargs)

    cached_transformers.get_tokenizer = get_tokenizer


@mend(
    "transformers.tokenization_utils_base",
    puts_back="Tokenizers of Transformers 5 encode texts as AllenNLP asks them to",
    versions="transformers>=5",
    test="tests/compatibility/pretrained_transformers_test.py::test_tokens_are_those_of_the_transformers_library",
)
def put_back_methods_of_tokenizers(tokenization: Any) -> None:
    of_all = tokenization.PreTrainedTokenizerBase

    def build_inputs_with_special_tokens(self: Any, token_ids: list[int]) -> list[int]:
        probe = self("a", return_special_tokens_mask=True)
        is_special = probe["special_tokens_mask"]
        start, end = is_special.index(0), is_special[::-1].index(0)
        return probe["input_ids"][:start] + token_ids + probe["input_ids"][len(is_special) - end :]

    methods = {
        "encode_plus": of_all.__call__,
        "batch_encode_plus": of_all.__call__,
        "build_inputs_with_special_tokens": build_inputs_with_special_tokens,
    }
    for name, method in methods.items():
        if not hasattr(of_all, name):  # 5.0 had some of them
            setattr(of_all, name, method)


@mend(
    "allennlp.common.cached_transformers",
    puts_back="`reinit_modules` makes weights anew with Transformers 5, which left all as they were",
    versions="transformers>=5",
    test="tests/compatibility/pretrained_transformers_test.py::test_layers_are_made_anew",
)
def let_weights_be_made_anew(cached_transformers: Any) -> None:
    class AutoModel(cached_transformers.AutoModel):
        @classmethod
        def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
            model = super().from_pretrained(*args, **kwargs)
            for tensor in (*model.parameters(), *model.buffers()):
                # By this mark Transformers' initialization spares what was loaded.
                if hasattr(tensor, "_is_hf_initialized"):
                    del tensor._is_hf_initialized
            return model

    cached_transformers.AutoModel = AutoModel


@mend(
    "allennlp.modules.transformer.transformer_module",
    puts_back="AllenNLP's transformer toolkit reads weights as Transformers saves them today, in safetensors",
    versions="transformers>=4.49",
    test="tests/compatibility/pretrained_transformers_test.py::test_the_toolkit_reads_weights_in_safetensors",
)
def read_safetensors(transformer_module: Any) -> None:
    read_state_dict = transformer_module.read_state_dict
    get_state_dict = transformer_module.TransformerModule._get_pretrained_state_dict.__func__

    @functools.wraps(read_state_dict)
    def read_state_dict_of_either(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path).endswith(".safetensors"):
            from safetensors.torch import load_file

            file = io.BytesIO()
            torch.save(load_file(path), file)
            file.seek(0)
            path = file
        return read_state_dict(path, *args, **kwargs)

    @functools.wraps(get_state_dict)
    def get_state_dict_of_either(cls: Any, model_name: str, weights_path: Any = None, **kwargs: Any) -> Any:
        return get_state_dict(cls, model_name, weights_path or _safetensors(model_name), **kwargs)

    transformer_module.read_state_dict = read_state_dict_of_either
    transformer_module.TransformerModule._get_pretrained_state_dict = classmethod(get_state_dict_of_either)


def _safetensors(model_name: str) -> Optional[str]:
    """The file, if the model has no other one: AllenNLP knows the name of the other."""
    from allennlp.common.file_utils import cached_path
    from transformers.utils import SAFE_WEIGHTS_NAME, WEIGHTS_NAME

    if os.path.isdir(model_name):
        former, today = (os.path.join(model_name, name) for name in (WEIGHTS_NAME, SAFE_WEIGHTS_NAME))
        return today if os.path.isfile(today) and not os.path.isfile(former) else None
    try:
        return cached_path(f"hf://{model_name}/{WEIGHTS_NAME}")
    except FileNotFoundError:
        return cached_path(f"hf://{model_name}/{SAFE_WEIGHTS_NAME}")
