"""What the self-attention in a model attends to, taken down while it runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, Optional

import torch
from allennlp.common.checks import ConfigurationError
from transformers import PreTrainedModel


class SelfAttentionWeights(torch.nn.Module):
    """
    Lets the weights of a layer of self-attention pass, unchanged: here `recording_self_attention` sees them.

    # Parameters

    num_heads : `int`
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        # Parameters

        weights : `torch.Tensor`
            Shape (batch_size, num_heads, num_positions, num_positions).
        mask : `torch.BoolTensor`
            Shape (batch_size, num_positions): what there is.
        """
        return weights


class RecordedLayer(NamedTuple):
    """
    What one layer of self-attention did, one time that it was applied.

    # Parameters

    name : `str`
        Inside the model: "_encoders.0._layers.1"; of a transformer its name and the layer's number.
    weights : `torch.Tensor`
        Shape (batch_size, num_heads, num_positions, num_positions).
    mask : `torch.BoolTensor`
        Shape (batch_size, num_positions): what there is.
    token_ids : `torch.LongTensor`, optional
        Of a transformer, its word pieces. Shape (batch_size, num_positions).
    """

    name: str
    weights: torch.Tensor
    mask: torch.Tensor
    token_ids: Optional[torch.Tensor] = None


@contextmanager
def recording_self_attention(model: torch.nn.Module) -> Iterator[list[RecordedLayer]]:
    """
    Takes down the weights of all self-attention in a model while it runs in this thread: of
    "multi_head_self_attention", "intra_sentence_attention" and "graph_attention", and of transformers.

        with recording_self_attention(model) as record:
            output = model(**inputs)
        for layer in record:
            print(layer.name, layer.weights.shape)

    The record is there when the block is closed, in the order in which the layers were applied. What the model
    computes stays what it is, bit for bit. A transformer runs once more for it, because the implementations that are
    fast do not make weights that could be told.

    # Raises

    `ConfigurationError`
        For a transformer that is training, whose dropout would be another the second time, or that does not tell what
        each token attends to.
    """
    thread = threading.get_ident()
    # By the order of the applications: each tells its layers when all is over.
    applications: list[Callable[[], list[RecordedLayer]]] = []

    def note_weights(name: str, module: torch.nn.Module, args: tuple, weights: torch.Tensor) -> None:
        if threading.get_ident() == thread:
            layer = RecordedLayer(name, weights.detach(), args[1])
            applications.append(lambda: [layer])

    def note_call(name: str, module: PreTrainedModel, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if threading.get_ident() == thread:
            applications.append(partial(_layers_of_transformer, name, module, args, kwargs))

    record: list[RecordedLayer] = []
    with ExitStack() as hooks:
        for place, name in _places(model).items():
            if isinstance(place, SelfAttentionWeights):
                hook = place.register_forward_hook(partial(note_weights, name))
            elif place.training:
                raise ConfigurationError(
                    f'the self-attention of "{name}" can be recorded in evaluation alone: call model.eval() before'
                )
            else:
                hook = place.register_forward_hook(partial(note_call, name), with_kwargs=True)
            hooks.callback(hook.remove)
        yield record
    for layers in applications:
        record += layers()


def self_attention_layers(model: torch.nn.Module) -> dict[str, int]:
    """The numbers of heads of all layers that `recording_self_attention` records, by their names."""
    layers = {}
    for place, name in _places(model).items():
        if isinstance(place, SelfAttentionWeights):
            layers[name] = place.num_heads
        else:
            config = place.config
            layers |= {f"{name}.{number}": config.num_attention_heads for number in range(config.num_hidden_layers)}
    return layers


def transformers_in(module: torch.nn.Module) -> list[PreTrainedModel]:
    """The outermost ones, each once: transformers are made of transformers, as BART of its encoder and its decoder."""
    return [place for place in _places(module) if isinstance(place, PreTrainedModel)]


def _places(module: torch.nn.Module, name: str = "") -> dict[SelfAttentionWeights | PreTrainedModel, str]:
    """Where there is self-attention in the order of the modules; with the names of the layers and transformers."""
    if isinstance(module, SelfAttentionWeights):
        return {module: name.rpartition(".")[0]}
    if isinstance(module, PreTrainedModel):
        return {module: name}
    return {
        place: inner
        for child_name, child in module.named_children()
        for place, inner in _places(child, f"{name}.{child_name}".removeprefix(".")).items()
    }


def _layers_of_transformer(
    name: str, transformer: PreTrainedModel, args: tuple, kwargs: dict[str, Any]
) -> list[RecordedLayer]:
    config = transformer.config
    implementation = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        with torch.no_grad():
            output = transformer.forward(*args, **{**kwargs, "output_attentions": True})
    finally:
        config._attn_implementation = implementation
    token_ids = kwargs["input_ids"]
    mask = kwargs.get("attention_mask", torch.ones_like(token_ids)) != 0
    layers = output.get("encoder_attentions") or output.get("attentions") or ()
    square = (*token_ids.shape, token_ids.size(1))
    if not layers or any(weights is None or (*weights.shape[:1], *weights.shape[2:]) != square for weights in layers):
        raise ConfigurationError(
            f'"{name}", a {type(transformer).__name__}, does not tell what each token attends to among all tokens'
        )
    return [
        RecordedLayer(f"{name}.{number}", weights.detach(), mask, token_ids) for number, weights in enumerate(layers)
    ]
