"""AllenNLP's tokenizers, indexers and embedders of pretrained transformers, next to the Transformers library alone."""

import functools
from pathlib import Path

import pytest
import torch
import transformers
from allennlp.common import Params
from allennlp.common.cached_transformers import get, get_tokenizer
from allennlp.data import Batch, Instance, TextFieldTensors, Token, Vocabulary
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import TokenIndexer
from allennlp.data.tokenizers import PretrainedTransformerTokenizer
from allennlp.modules import TokenEmbedder
from allennlp.modules.token_embedders import PretrainedTransformerEmbedder
from allennlp.modules.transformer import TransformerStack

from tests.tiny_transformers import SENTENCES, SIZES, write_transformer

WORDS = ["A", "small", "dog", "sleeps", "under", "trees", "."]
# Each builds its tokenizer in another way.
KINDS = ("bert", "roberta", "albert", "deberta_v2")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    return functools.cache(lambda kind: write_transformer(tmp_path_factory.mktemp("transformers") / kind, kind))


def embedded(kind: str, folder: Path, tokens: list[Token], **fields: object) -> torch.Tensor:
    """By AllenNLP's indexer and embedder of this type."""
    config = {"type": kind, "model_name": str(folder), **fields}
    text = TextField(tokens, {"tokens": TokenIndexer.from_params(Params(dict(config)))})
    batch = Batch([Instance({"text": text})])
    batch.index_instances(Vocabulary())
    inputs: TextFieldTensors = batch.as_tensor_dict()["text"]
    with torch.no_grad():
        return TokenEmbedder.from_params(Params(dict(config))).eval()(**inputs["tokens"])[0]


def of_the_library(folder: Path) -> tuple:
    return (
        transformers.AutoTokenizer.from_pretrained(folder),
        transformers.AutoModel.from_pretrained(folder).eval(),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_the_transformers_library(folder_of, kind):
    folder = folder_of(kind)
    library, _ = of_the_library(folder)
    tokenizer = PretrainedTransformerTokenizer(str(folder))
    for sentence in SENTENCES:
        expected = library(sentence, return_offsets_mapping=True, return_token_type_ids=True)
        tokens = tokenizer.tokenize(sentence)
        assert [token.text_id for token in tokens] == expected["input_ids"]
        assert [token.type_id for token in tokens] == expected["token_type_ids"]
        assert [token.text for token in tokens] == library.convert_ids_to_tokens(expected["input_ids"])
        offsets = [(token.idx or 0, token.idx_end or 0) for token in tokens]
        assert offsets == [tuple(pair) if pair[0] < pair[1] else (0, 0) for pair in expected["offset_mapping"]]
    without = PretrainedTransformerTokenizer(str(folder), add_special_tokens=False)
    pair = tokenizer.add_special_tokens(*(without.tokenize(sentence) for sentence in SENTENCES[:2]))
    expected = library(*SENTENCES[:2], return_token_type_ids=True)
    assert [token.text_id for token in pair] == expected["input_ids"]
    assert [token.type_id for token in pair] == expected["token_type_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_of_the_transformers_library(folder_of, kind):
    folder = folder_of(kind)
    tokenizer, model = of_the_library(folder)
    # Word by word, as AllenNLP has it: byte pairs depend on the spaces.
    of_words = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in WORDS]
    pieces = [piece for word in of_words for piece in word]
    assert len(pieces) > len(WORDS)
    start, end = tokenizer("")["input_ids"]
    with torch.no_grad():
        states = model(torch.tensor([[start, *pieces, end]])).last_hidden_state[0, 1:-1]
    expected = torch.stack([word.mean(0) for word in states.split([len(word) for word in of_words])])
    actual = embedded("pretrained_transformer_mismatched", folder, [Token(word) for word in WORDS])
    torch.testing.assert_close(actual, expected)

    tokens = PretrainedTransformerTokenizer(str(folder)).tokenize(SENTENCES[0])
    with torch.no_grad():
        expected = model(**tokenizer(SENTENCES[0], return_tensors="pt")).last_hidden_state[0]
    torch.testing.assert_close(embedded("pretrained_transformer", folder, tokens), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_long_texts_are_folded_each_part_with_its_special_tokens(folder_of, kind):
    folder = folder_of(kind)
    _, model = of_the_library(folder)
    tokens = PretrainedTransformerTokenizer(str(folder)).tokenize(" ".join(SENTENCES))
    start, *pieces, end = (token.text_id for token in tokens)
    with torch.no_grad():
        expected = [
            model(torch.tensor([[start, *pieces[first : first + 6], end]])).last_hidden_state[0]
            for first in range(0, len(pieces), 6)
        ]
    inner = torch.cat([states[1:-1] for states in expected])
    states = torch.cat([expected[0][:1], inner, expected[-1][-1:]])
    torch.testing.assert_close(embedded("pretrained_transformer", folder, tokens, max_length=8), states)


def test_weights_are_overridden(folder_of, tmp_path):
    folder = folder_of("bert")
    _, model = of_the_library(folder)
    weights = {
        f"transformer.{name}": weight + 1 for name, weight in model.state_dict().items() if weight.is_floating_point()
    }
    torch.save(weights, tmp_path / "weights.th")
    overridden = PretrainedTransformerEmbedder(
        str(folder), override_weights_file=str(tmp_path / "weights.th"), override_weights_strip_prefix="transformer."
    )
    for name, weight in overridden.transformer_model.state_dict().items():
        if weight.is_floating_point():
            assert weight.equal(weights[f"transformer.{name}"])


@pytest.mark.parametrize("chosen, anew", [(1, {2}), ((0, 1), {0, 1}), ((r"layer\.1\.output",), {1})])
def test_layers_are_made_anew(folder_of, chosen, anew):
    folder = folder_of("bert")
    _, model = of_the_library(folder)
    transformer = get(str(folder), make_copy=True, reinit_modules=chosen)
    for number, (layer, loaded) in enumerate(zip(transformer.encoder.layer, model.encoder.layer, strict=True)):
        weight = layer.output.dense.weight
        assert weight.equal(loaded.output.dense.weight) == (number not in anew)
        # The tiny transformers have weights of another size than those that a model begins with.
        assert (weight.std() < 0.1) == (number in anew)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_the_toolkit_reads_weights_in_safetensors(tmp_path, kind):
    folder = write_transformer(tmp_path / "bert", "bert")
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    if kind == "bin":  # as Transformers saved them before
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()  # the model is still made of it
        (folder / "model.safetensors").write_bytes(b"not read")
    stack = TransformerStack.from_pretrained_module(str(folder), relevant_module="encoder")
    mask = torch.tensor([[True, True, True], [True, False, False]])
    states = torch.randn(2, 3, SIZES["hidden_size"])
    with torch.no_grad():
        output = stack.eval()(states, attention_mask=mask).final_hidden_states
        expected = model.encoder(states, attention_mask=-1e9 * ~mask[:, None, None])[0]
    torch.testing.assert_close(output[mask], expected[mask], rtol=1e-4, atol=1e-4)


def test_a_vocabulary_is_that_of_the_tokenizer(folder_of):
    folder = folder_of("bert")
    vocabulary = Vocabulary.from_pretrained_transformer(str(folder))
    tokenizer = get_tokenizer(str(folder))
    assert vocabulary.get_token_to_index_vocabulary() == tokenizer.get_vocab()
    assert vocabulary.get_token_index("no such piece") == tokenizer.unk_token_id
