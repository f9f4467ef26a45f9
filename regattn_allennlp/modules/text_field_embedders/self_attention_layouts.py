"""
How the transformers library lays out self-attention: one layout for each way that its models name the projections of
queries and keys. A module is recognized by what it has, not by its class, and so are those of models to come.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Optional, Protocol

import torch
from transformers import PreTrainedModel


class SelfAttentionLayout(Protocol):
    @property
    def projections(self) -> tuple[str, ...]:
        """The names of the linear layers that queries and keys come from."""

    def heads(self, attention: torch.nn.Module) -> Optional[tuple[int, int]]:
        """(num_heads, head_dim); `None` if the module is not laid out so."""

    def queries_and_keys(
        self, attention: torch.nn.Module, projected: Sequence[torch.Tensor], num_heads: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        As the layer multiplies them, before any scaling.

        # Parameters

        projected : `Sequence[torch.Tensor]`
            What each of the `projections` gave; the first two dimensions are (batch_size, num_tokens).

        # Returns

        `Tuple[torch.Tensor, torch.Tensor]`
            Both of shape (batch_size, num_heads, num_tokens, head_dim).
        """


@dataclass(frozen=True)
class SeparateProjections:
    """A linear layer for the queries, one for the keys, each head's numbers side by side."""

    query: str
    key: str
    num_heads: str

    @property
    def projections(self) -> tuple[str, ...]:
        return self.query, self.key

    def heads(self, attention: torch.nn.Module) -> Optional[tuple[int, int]]:
        num_heads = getattr(attention, self.num_heads, None)
        query_dim, key_dim = (_output_dim(attention, name) for name in self.projections)
        # Where heads share keys, as in grouped-query attention, the keys are narrower.
        if not isinstance(num_heads, int) or query_dim is None or query_dim != key_dim or query_dim % num_heads:
            return None
        return num_heads, query_dim // num_heads

    def queries_and_keys(
        self, attention: torch.nn.Module, projected: Sequence[torch.Tensor], num_heads: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        queries, keys = (_split_heads(vectors, num_heads) for vectors in projected)
        return queries, keys


@dataclass(frozen=True)
class JointProjection:
    """DeBERTa's: one linear layer gives each head its query, key and value, and the queries a bias follows."""

    projections: ClassVar[tuple[str, ...]] = ("in_proj",)

    def heads(self, attention: torch.nn.Module) -> Optional[tuple[int, int]]:
        num_heads = getattr(attention, "num_attention_heads", None)
        bias = getattr(attention, "q_bias", None)
        if not isinstance(num_heads, int) or not isinstance(bias, torch.nn.Parameter):
            return None
        if _output_dim(attention, "in_proj") != 3 * len(bias) or len(bias) % num_heads:
            return None
        return num_heads, len(bias) // num_heads

    def queries_and_keys(
        self, attention: torch.nn.Module, projected: Sequence[torch.Tensor], num_heads: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        queries, keys, _ = _split_heads(projected[0], num_heads).chunk(3, dim=-1)
        return queries + _split_heads(attention.get_parameter("q_bias")[None, None], num_heads), keys


LAYOUTS: tuple[SelfAttentionLayout, ...] = (
    # BERT, RoBERTa, XLM-RoBERTa, CamemBERT, ELECTRA, ALBERT, RemBERT, ERNIE, ConvBERT and others.
    SeparateProjections("query", "key", "num_attention_heads"),
    # DistilBERT, XLM, FlauBERT.
    SeparateProjections("q_lin", "k_lin", "n_heads"),
    # DeBERTa of the versions 2 and 3.
    SeparateProjections("query_proj", "key_proj", "num_attention_heads"),
    # DeBERTa of version 1.
    JointProjection(),
    # MPNet.
    SeparateProjections("q", "k", "num_attention_heads"),
    # T5.
    SeparateProjections("q", "k", "n_heads"),
    # BART and most encoder-decoders after it.
    SeparateProjections("q_proj", "k_proj", "num_heads"),
)

# In decoders, whose queries and keys are of different sentences: BERT's, BART's, T5's.
_CROSS_ATTENTION = re.compile(r"cross_?att|encoder_attn|EncDecAttention", re.IGNORECASE)


@dataclass(frozen=True)
class SelfAttentionModule:
    """
    # Parameters

    name : `str`
        Inside its transformer: "encoder.layer.0.attention.self".
    """

    name: str
    module: torch.nn.Module
    layout: SelfAttentionLayout
    num_heads: int
    head_dim: int

    @property
    def projections(self) -> list[torch.nn.Linear]:
        return [getattr(self.module, name) for name in self.layout.projections]

    def queries_and_keys(self, projected: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """See `SelfAttentionLayout.queries_and_keys`."""
        return self.layout.queries_and_keys(self.module, projected, self.num_heads)


def self_attention_modules(transformer: PreTrainedModel) -> list[SelfAttentionModule]:
    """
    All that is laid out in one of the ways above, in the transformer's order. Of an encoder-decoder only the encoder:
    the decoder does not read the tokens that were given, but those it is to write.
    """
    found = []
    for name, module in transformer.named_modules():
        of_decoder = transformer.config.is_encoder_decoder and name.startswith("decoder.")
        if of_decoder or _CROSS_ATTENTION.search(name):
            continue
        for layout in LAYOUTS:
            heads = layout.heads(module)
            if heads is not None:
                found.append(SelfAttentionModule(name, module, layout, *heads))
                break
    return found


def _output_dim(attention: torch.nn.Module, name: str) -> Optional[int]:
    layer = getattr(attention, name, None)
    return layer.out_features if isinstance(layer, torch.nn.Linear) else None


def _split_heads(vectors: torch.Tensor, num_heads: int) -> torch.Tensor:
    return vectors.unflatten(-1, (num_heads, -1)).transpose(1, 2)
