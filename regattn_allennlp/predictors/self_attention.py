"""The self-attention of a model by direction, layer and head, as it stands in predictions."""

from collections import Counter
from collections.abc import Sequence

from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import Instance
from allennlp.data.fields import TextField

from regattn_allennlp.models import AttentionModel
from regattn_allennlp.modules.self_attention_record import RecordedLayer


def texts_of(instance: Instance) -> dict[str, TextField]:
    """The instance's texts, by what directions of attention call them: "source" for the field "source_tokens"."""
    return {
        name.removesuffix("_tokens"): field for name, field in instance.fields.items() if isinstance(field, TextField)
    }


def layers_by_direction(
    model: AttentionModel, record: Sequence[RecordedLayer], batch_size: int
) -> dict[str, list[RecordedLayer]]:
    """
    # Raises

    `ConfigurationError`
        For a transformer that is given its texts in pieces.
    """
    layers: dict[str, list[RecordedLayer]] = {}
    applications: Counter[str] = Counter()
    for layer in record:
        directions = model.self_attention_directions.get(layer.name.partition(".")[0])
        if directions is None:
            continue
        if len(layer.weights) != batch_size:
            raise ConfigurationError(
                f'"{layer.name}" attends within pieces of a text that is longer than its "max_length": it has no '
                "weights over the whole text"
            )
        direction = directions[applications[layer.name] % len(directions)]
        applications[layer.name] += 1
        layers.setdefault(direction, []).append(layer)
    return layers


def layer_of_item(layer: RecordedLayer, number: int, words: JsonDict, text: TextField | None) -> JsonDict:
    """
    What a prediction tells of a layer.

    # Parameters

    number : `int`
        The item's in the batch.
    words : `JsonDict`
        What attends, if it is no word pieces: "tokens" and, as `SeenWords`, "same_as" and "unknown".
    text : `TextField`, optional
        With its word pieces, where a transformer attends.
    """
    length = int(layer.mask[number].sum())
    if layer.token_ids is not None:
        assert text is not None
        words = _word_pieces(text, layer.token_ids[number, :length].tolist())
    return {
        "name": layer.name,
        **words,
        # Shape: (num_heads, num_positions, num_positions)
        "weights": layer.weights[number, :, :length, :length].float().tolist(),
    }


def _word_pieces(text: TextField, token_ids: list[int]) -> JsonDict:
    tokenizer = next(
        indexer._tokenizer
        for name, indexer in text.token_indexers.items()
        if text._indexed_tokens[name].get("token_ids") == token_ids
    )
    return {
        "tokens": tokenizer.convert_ids_to_tokens(token_ids),
        "same_as": [token_ids.index(token_id) for token_id in token_ids],
        "unknown": [position for position, token_id in enumerate(token_ids) if token_id == tokenizer.unk_token_id],
    }
