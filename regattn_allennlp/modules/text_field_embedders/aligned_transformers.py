import inspect
import re
from typing import Any, Optional

import torch
from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError
from allennlp.data import TextFieldTensors
from allennlp.modules import TextFieldEmbedder
from transformers import PreTrainedModel

from regattn_allennlp.modules.alignment_regularizer import AlignmentRegularizer
from regattn_allennlp.modules.self_attention_record import transformers_in
from regattn_allennlp.modules.text_field_embedders.self_attention_layouts import (
    SelfAttentionModule,
    self_attention_modules,
)


@TextFieldEmbedder.register("aligned_transformers")
class AlignedTransformersTextFieldEmbedder(TextFieldEmbedder):
    """
    Alignment attention (Zhang et al. 2021, arXiv 2110.12567) for pretrained transformers: embeds as the text field
    embedder in it does, while each self-attention of its transformers, those of "pretrained_transformer" and
    "pretrained_transformer_mismatched", hands its queries and keys to an `AlignmentRegularizer` of its own. No weight
    of a transformer and no output is changed.

    Registered as a `TextFieldEmbedder` with name "aligned_transformers".

    # Parameters

    text_field_embedder : `TextFieldEmbedder`
    alignment_regularizer : `AlignmentRegularizer`, optional
        What makes queries and keys alike; each self-attention has one of its own, and where layers share their
        weights, as in ALBERT, the layers share it. Without it, this is the embedder that it is given.
    layers : `str`, optional (default = all)
        A regular expression: the self-attention is regularized whose name inside its transformer has it somewhere.
        `"layer\\.(10|11)\\."` are the last two layers of a BERT with 12.

    # Raises

    `ConfigurationError`
        With a regularizer, if there is no transformer, none whose self-attention is known, or none that `layers` fits.
        With one whose weight is above 0 also if a transformer is frozen (`train_parameters: false`), or saves memory
        by gradient checkpointing, which loses the gradients of what is observed.
    """

    def __init__(
        self,
        text_field_embedder: TextFieldEmbedder,
        alignment_regularizer: Optional[Lazy[AlignmentRegularizer]] = None,
        layers: Optional[str] = None,
    ) -> None:
        super().__init__()
        self._text_field_embedder = text_field_embedder
        self._alignment_regularizers = torch.nn.ModuleList()
        if alignment_regularizer is None:
            return
        for transformer, modules in _chosen_modules(text_field_embedder, layers):
            mask = _MaskObserver(transformer)
            for module in modules:
                regularizer = alignment_regularizer.construct(num_heads=module.num_heads, head_dim=module.head_dim)
                if regularizer.weight > 0:
                    _require_trainable(transformer)
                self._alignment_regularizers.append(regularizer)
                mask.regularizers.append(regularizer)
                _SelfAttentionObserver(module, regularizer, mask)

    def get_output_dim(self) -> int:
        return self._text_field_embedder.get_output_dim()

    def forward(self, text_field_input: TextFieldTensors, num_wrapping_dims: int = 0, **kwargs: Any) -> torch.Tensor:
        return self._text_field_embedder(text_field_input, num_wrapping_dims=num_wrapping_dims, **kwargs)


def _chosen_modules(
    embedder: TextFieldEmbedder, layers: Optional[str]
) -> list[tuple[PreTrainedModel, list[SelfAttentionModule]]]:
    transformers = transformers_in(embedder)
    if not transformers:
        raise ConfigurationError(
            '"aligned_transformers" finds no transformer in its "text_field_embedder": it is for token embedders such '
            'as "pretrained_transformer"'
        )
    modules = {transformer: self_attention_modules(transformer) for transformer in transformers}
    if not any(modules.values()):
        raise ConfigurationError(
            '"aligned_transformers" knows no self-attention with projections of queries and of keys in '
            f"{_class_names(transformers)}: there is in those built as BERT, DistilBERT, DeBERTa, MPNet, T5 or BART"
        )
    try:
        pattern = re.compile(layers or "")
    except re.error as error:
        raise ConfigurationError(f'"layers" must be a regular expression, but is "{layers}": {error}') from error
    chosen = [
        (transformer, [module for module in found if pattern.search(module.name)])
        for transformer, found in modules.items()
    ]
    if not any(found for _, found in chosen):
        names = ", ".join(module.name for found in modules.values() for module in found)
        raise ConfigurationError(f'"layers", "{layers}", is found in none of the self-attentions: {names}')
    return chosen


def _class_names(transformers: list[PreTrainedModel]) -> str:
    return ", ".join(dict.fromkeys(type(transformer).__name__ for transformer in transformers))


def _require_trainable(transformer: PreTrainedModel) -> None:
    name = type(transformer).__name__
    if not any(parameter.requires_grad for parameter in transformer.parameters()):
        raise ConfigurationError(
            f"an alignment regularizer trains queries and keys, but {name} is frozen: leave out "
            '"train_parameters": false, or let the regularizer\'s "weight" be 0'
        )
    # AllenNLP asks for it in the transformer's config, which transformers no longer reads after the construction.
    checkpointed = any(getattr(module, "gradient_checkpointing", False) for module in transformer.modules())
    if checkpointed or getattr(transformer.config, "gradient_checkpointing", False):
        raise ConfigurationError(
            f"gradient checkpointing of {name} loses the gradients of the queries and keys that an alignment "
            'regularizer observes: leave it out, or let the regularizer\'s "weight" be 0'
        )


class _MaskObserver:
    """Takes note of which tokens there are while a transformer embeds them, if one of the regularizers observes."""

    def __init__(self, transformer: PreTrainedModel) -> None:
        self.regularizers: list[AlignmentRegularizer] = []
        self.mask: Optional[torch.Tensor] = None
        # As methods of this object, not as closures, they are copied with the transformer.
        transformer.register_forward_pre_hook(self._start, with_kwargs=True)
        transformer.register_forward_hook(self._end)

    def _start(self, transformer: PreTrainedModel, args: tuple, kwargs: dict[str, Any]) -> None:
        if any(regularizer.observing for regularizer in self.regularizers):
            # The layers' own masks have many forms, and none where all tokens are there.
            arguments = inspect.signature(transformer.forward).bind(*args, **kwargs).arguments
            self.mask = arguments.get("attention_mask")

    def _end(self, transformer: PreTrainedModel, args: tuple, output: Any) -> None:
        self.mask = None


class _SelfAttentionObserver:
    """Hands the queries and keys of a self-attention to its regularizer, each time that it is applied."""

    def __init__(
        self, attention: SelfAttentionModule, regularizer: AlignmentRegularizer, mask_observer: _MaskObserver
    ) -> None:
        self._attention = attention
        self._regularizer = regularizer
        self._mask_observer = mask_observer
        self._states: Optional[torch.Tensor] = None
        self._projected: dict[torch.nn.Module, torch.Tensor] = {}
        attention.module.register_forward_pre_hook(self._start, with_kwargs=True)
        for projection in attention.projections:
            projection.register_forward_hook(self._note)
        attention.module.register_forward_hook(self._end)

    def _start(self, module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if self._regularizer.observing:
            tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
            self._states = next(tensors, None)

    def _note(self, projection: torch.nn.Module, args: tuple, output: torch.Tensor) -> None:
        if self._states is None:
            if self._regularizer.observing:
                # BigBird replaces the module, not its weights, where sentences are short.
                self._refuse("is not what applies its projections: its transformer has replaced it")
        elif args[0] is self._states:  # DeBERTa may project the embeddings of relative positions too
            self._projected[projection] = output

    def _end(self, module: torch.nn.Module, args: tuple, output: Any) -> None:
        if self._states is None:
            return
        projected, self._projected, self._states = self._projected, {}, None
        if len(projected) < len(self._attention.projections):
            self._refuse("does not project both queries and keys from what it is given")
        queries, keys = self._attention.queries_and_keys(
            [projected[projection] for projection in self._attention.projections]
        )
        mask = self._mask_observer.mask
        if mask is None:
            mask = queries.new_ones(queries.size(0), queries.size(2))
        if mask.shape != (queries.size(0), queries.size(2)):
            self._refuse(
                f"has queries of shape {tuple(queries.shape)} (sequences, heads, tokens, numbers), but the mask that "
                f"its transformer is given is of shape {tuple(mask.shape)}"
            )
        self._regularizer.observe(queries, keys, mask != 0)

    def _refuse(self, reason: str) -> None:
        kind = type(self._attention.module).__name__
        raise ConfigurationError(
            f'"{self._attention.name}", a {kind}, cannot be regularized: it {reason}; leave it out by "layers"'
        )
