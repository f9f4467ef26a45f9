import copy
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, Instance, TextFieldTensors, Vocabulary
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import TokenIndexer
from allennlp.data.tokenizers import PretrainedTransformerTokenizer, Token
from allennlp.modules import TextFieldEmbedder

import regattn_allennlp.compatibility
import regattn_allennlp.modules.text_field_embedders  # noqa: F401  (registers what the configs name)
from regattn_allennlp.modules.alignment_regularizer import AlignmentRegularizer, observe_alignment
from regattn_allennlp.modules.self_attention_record import recording_self_attention, self_attention_layers
from regattn_allennlp.modules.text_field_embedders.self_attention_layouts import (
    SelfAttentionModule,
    self_attention_modules,
)
from tests.tiny_transformers import SENTENCES, SIZES, write_transformer

REGULARIZERS = ("mmd", "sinkhorn", "adversarial", "conditional_transport")
NUM_HEADS, HEAD_DIM, NUM_LAYERS = 2, 8, 3

# What the layers' inputs are multiplied by, by its name in the layer, and the layer's name: a %d for its number.
PROJECTIONS = {
    "bert": ("encoder.layer.%d.attention.self", "query", "key"),
    "roberta": ("encoder.layer.%d.attention.self", "query", "key"),
    "electra": ("encoder.layer.%d.attention.self", "query", "key"),
    "albert": ("encoder.albert_layer_groups.0.albert_layers.0.attention", "query", "key"),
    "distilbert": ("transformer.layer.%d.attention", "q_lin", "k_lin"),
    "deberta": ("encoder.layer.%d.attention.self", "in_proj", "in_proj"),
    "deberta_relative": ("encoder.layer.%d.attention.self", "in_proj", "in_proj"),
    "deberta_v2": ("encoder.layer.%d.attention.self", "query_proj", "key_proj"),
    "deberta_v3": ("encoder.layer.%d.attention.self", "query_proj", "key_proj"),
    "mpnet": ("encoder.layer.%d.attention.attn", "q", "k"),
    "bart": ("layers.%d.self_attn", "q_proj", "k_proj"),
}
# Where the attention is softmax(q k / sqrt(head_dim)) and nothing else, which the model can be asked for.
WITHOUT_POSITIONS = ("bert", "roberta", "electra", "albert", "distilbert", "deberta", "deberta_v2", "bart")

Observed = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    return functools.cache(
        lambda kind, **fields: write_transformer(tmp_path_factory.mktemp("transformers") / kind, kind, **fields)
    )


def block(folder: Path, **fields: Any) -> dict[str, Any]:
    encoder = {"sub_module": "encoder"} if folder.name in ("bart", "t5") else {}
    embedder = {"type": "pretrained_transformer", "model_name": str(folder), **encoder, **fields}
    return {"token_embedders": {"tokens": embedder}}


def aligned(embedder: dict[str, Any], regularizer: dict[str, Any] | None, **fields: Any) -> TextFieldEmbedder:
    config = {"type": "aligned_transformers", "text_field_embedder": embedder, "alignment_regularizer": regularizer}
    return TextFieldEmbedder.from_params(Params(copy.deepcopy(config | fields)))


def plain(embedder: dict[str, Any]) -> TextFieldEmbedder:
    return TextFieldEmbedder.from_params(Params(copy.deepcopy(embedder)))


def tensors(folder: Path, sentences: list[str] = SENTENCES, **fields: Any) -> TextFieldTensors:
    tokenizer = PretrainedTransformerTokenizer(str(folder))
    indexer = TokenIndexer.from_params(Params({"type": "pretrained_transformer", "model_name": str(folder), **fields}))
    texts = [TextField(tokenizer.tokenize(sentence), {"tokens": indexer}) for sentence in sentences]
    batch = Batch(Instance({"text": text}) for text in texts)
    batch.index_instances(Vocabulary())
    return batch.as_tensor_dict()["text"]


def regularizers_of(module: torch.nn.Module) -> list[AlignmentRegularizer]:
    return [part for part in module.modules() if isinstance(part, AlignmentRegularizer)]


def observed(embedder: TextFieldEmbedder, inputs: TextFieldTensors) -> Observed:
    """By the order of the layers."""
    for regularizer in regularizers_of(embedder):
        regularizer.start_observation()
    embedder(inputs)
    return [seen for regularizer in regularizers_of(embedder) for seen in regularizer.end_observation()]


def hugging_face(folder: Path, inputs: TextFieldTensors, **wanted: bool) -> tuple[torch.nn.Module, Any]:
    """The model as the transformers library alone has it, and what it says of itself."""
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    model = model.encoder if folder.name == "bart" else model
    words = inputs["tokens"]
    return model, model(input_ids=words["token_ids"], attention_mask=words["mask"].float(), **wanted)


def heads(vectors: torch.Tensor) -> torch.Tensor:
    size = vectors.size(-1) // NUM_HEADS
    return torch.stack([vectors[..., head * size : (head + 1) * size] for head in range(NUM_HEADS)], dim=1)


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_queries_and_keys_are_what_the_weights_make_of_the_layers_inputs(folder_of, kind):
    folder = folder_of(kind)
    inputs = tensors(folder)
    model, output = hugging_face(folder, inputs, output_hidden_states=True)
    seen = observed(aligned(block(folder), {"type": "mmd"}).eval(), inputs)
    assert len(seen) == NUM_LAYERS
    name, *projections = PROJECTIONS[kind]
    for number, (queries, keys, mask) in enumerate(seen):
        layer = model.get_submodule(name.replace("%d", str(number)))
        states = output.hidden_states[number]
        if "in_proj" in projections:
            # Of each head the rows for its queries, for its keys and for its values, one after the other.
            rows = layer.in_proj.weight.unflatten(0, (NUM_HEADS, 3, HEAD_DIM))
            expected = [torch.einsum("hdi,bni->bhnd", rows[:, part], states) for part in (0, 1)]
            expected[0] = expected[0] + layer.q_bias.view(NUM_HEADS, 1, HEAD_DIM)
        else:
            weights = [layer.get_submodule(projection) for projection in projections]
            expected = [heads(states @ linear.weight.T + linear.bias) for linear in weights]
        assert queries.shape == (len(SENTENCES), NUM_HEADS, states.size(1), HEAD_DIM)
        torch.testing.assert_close([queries, keys], expected, rtol=1e-4, atol=1e-5)
        assert mask.dtype == torch.bool and mask.equal(inputs["tokens"]["mask"]) and not mask.all()


@pytest.mark.parametrize("kind", [*WITHOUT_POSITIONS, "t5"])
def test_queries_and_keys_explain_the_attention_that_the_model_reports(folder_of, kind):
    folder = folder_of(kind)
    inputs = tensors(folder)
    embedder = plain(block(folder)).eval()
    if kind == "t5":
        # Its attention is softmax(q k + b), with a bias for each relative position: here the same for all.
        # Transformers 5 reports attention of this implementation alone.
        model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").encoder.eval()
        for transformer in (model, embedder.token_embedder_tokens.transformer_model):
            transformer.block[0].layer[0].SelfAttention.relative_attention_bias.weight.data.zero_()
        words = inputs["tokens"]
        output = model(words["token_ids"], words["mask"].float(), output_attentions=True)
    else:
        _, output = hugging_face(folder, inputs, output_attentions=True)
    wrapped = aligned(block(folder), {"type": "mmd"}).eval()
    wrapped._text_field_embedder.load_state_dict(embedder.state_dict())
    seen = observed(wrapped, inputs)
    assert len(seen) == NUM_LAYERS
    for (queries, keys, mask), attention in zip(seen, output.attentions, strict=True):
        scores = queries @ keys.transpose(-1, -2) / (1 if kind == "t5" else HEAD_DIM**0.5)
        weights = scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(dim=-1)
        there = mask[:, None, :, None]  # padding attends to other things in DeBERTa
        torch.testing.assert_close(weights * there, attention * there, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [*PROJECTIONS, "t5", "gpt2"])
def test_attention_is_recorded_and_nothing_changes(folder_of, kind):
    folder = folder_of(kind)
    inputs = tensors(folder)
    embedder = (plain(block(folder)) if kind == "gpt2" else aligned(block(folder), {"type": "mmd"})).eval()
    transformer = next(module for module in embedder.modules() if isinstance(module, transformers.PreTrainedModel))
    implementation = transformer.config._attn_implementation

    with observe_alignment(embedder) as unrecorded:
        output = embedder(inputs)
    with recording_self_attention(embedder) as record, observe_alignment(embedder) as observation:
        assert embedder(inputs).equal(output)
    assert kind == "gpt2" or observation.losses()[1].equal(unrecorded.losses()[1])
    assert transformer.config._attn_implementation == implementation
    assert {layer.name: layer.weights.size(1) for layer in record} == self_attention_layers(embedder)
    assert [layer.name.rpartition(".")[2] for layer in record] == [str(number) for number in range(len(record))]
    mask = inputs["tokens"]["mask"]
    for layer in record:
        assert layer.mask.equal(mask) and layer.token_ids.equal(inputs["tokens"]["token_ids"])
        weights = layer.weights * mask[:, None, :, None]
        torch.testing.assert_close(weights.sum(dim=-1), mask[:, None, :].expand(weights.shape[:3]).float())
        assert (weights * ~mask[:, None, None, :] == 0).all()
    if kind in WITHOUT_POSITIONS:
        # The queries and keys are those of the transformer's weights, see above.
        seen = observed(embedder, inputs)
        for layer, (queries, keys, _) in zip(record, seen, strict=True):
            scores = (queries @ keys.transpose(-1, -2) / HEAD_DIM**0.5).masked_fill(~mask[:, None, None], -torch.inf)
            expected = scores.softmax(dim=-1) * mask[:, None, :, None]
            torch.testing.assert_close(layer.weights * mask[:, None, :, None], expected, rtol=1e-3, atol=1e-5)


def test_attention_of_a_transformer_that_trains_is_not_recorded(folder_of):
    embedder = plain(block(folder_of("bert"))).train()
    message = r'"token_embedder_tokens.transformer_model".*model\.eval\(\)'
    with pytest.raises(ConfigurationError, match=message), recording_self_attention(embedder):
        pass


@pytest.mark.parametrize("kind", PROJECTIONS)
@pytest.mark.parametrize("training", [False, True])
def test_the_output_is_bit_for_bit_what_it_is(folder_of, kind, training):
    folder = folder_of(kind)
    inputs = tensors(folder)
    outputs = []
    for embedder in plain(block(folder)), aligned(block(folder), {"type": "mmd", "weight": 1.0}):
        torch.manual_seed(5)
        with observe_alignment(embedder) as observation:
            outputs.append(embedder.train(training)(inputs))
    assert outputs[0].equal(outputs[1])
    assert observation.losses()[1] > 0.1
    if training:
        torch.manual_seed(6)
        assert not embedder(inputs).equal(outputs[0]), "there is no dropout"


def trained(embedder: TextFieldEmbedder, inputs: TextFieldTensors) -> dict[str, torch.Tensor]:
    """The weights of the embedder proper after some steps."""
    torch.manual_seed(7)
    embedder.train()
    optimizer = torch.optim.AdamW(embedder.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        with observe_alignment(embedder) as observation:
            loss = embedder(inputs).square().mean()
        alignment = observation.losses()
        (loss if alignment is None else loss + alignment[0]).backward()
        optimizer.step()
    return getattr(embedder, "_text_field_embedder", embedder).state_dict()


@pytest.mark.parametrize("kind", ["bert", "albert", "deberta_v3"])
def test_with_weight_0_training_is_bit_for_bit_that_of_the_plain_model(folder_of, kind):
    folder = folder_of(kind)
    inputs = tensors(folder)
    expected = trained(plain(block(folder)), inputs)

    def same(regularizer: dict[str, Any] | None) -> bool:
        weights = trained(aligned(block(folder), regularizer), inputs)
        assert weights.keys() == expected.keys()
        return all(weights[name].equal(expected[name]) for name in weights)

    assert same(None)
    for regularizer in REGULARIZERS:
        assert same({"type": regularizer, "weight": 0.0})
        assert not same({"type": regularizer, "weight": 0.1})


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_the_weights_of_queries_and_keys_have_gradients_of_the_distance(folder_of, kind):
    folder = folder_of(kind)
    embedder = aligned(block(folder), {"type": "mmd", "weight": 0.5})
    with observe_alignment(embedder) as observation:
        embedder(tensors(folder))
    observation.losses()[0].backward()
    name, query, key = PROJECTIONS[kind]
    transformer = embedder._text_field_embedder.token_embedder_tokens.transformer_model
    for number in range(NUM_LAYERS):
        layer = transformer.get_submodule(name.replace("%d", str(number)))
        for projection in layer.get_submodule(query), layer.get_submodule(key):
            assert projection.weight.grad.abs().sum() > 0
    # The distance is of what the last layer multiplies, not of what comes after it.
    assert all(parameter.grad is None for name, parameter in transformer.named_parameters() if "pooler" in name)


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_padding_does_not_matter(folder_of, kind):
    folder = folder_of(kind)
    embedder = aligned(block(folder), {"type": "mmd"}).eval()

    def distance(sentences: list[str]) -> torch.Tensor:
        with observe_alignment(embedder) as observation:
            embedder(tensors(folder, sentences))
        return observation.losses()[1]

    alone = [distance([sentence]) for sentence in SENTENCES]
    assert len({round(value.item(), 3) for value in alone}) > 1
    torch.testing.assert_close(distance(SENTENCES), sum(alone) / len(alone))


def test_the_pattern_chooses_layers(folder_of):
    folder = folder_of("bert")
    inputs = tensors(folder)
    whole = observed(aligned(block(folder), {"type": "mmd"}).eval(), inputs)
    for pattern, numbers in {r"layer\.(0|2)\.": [0, 2], r"^encoder\.layer\.1\.attention\.self$": [1]}.items():
        embedder = aligned(block(folder), {"type": "mmd"}, layers=pattern).eval()
        assert len(regularizers_of(embedder)) == len(numbers)
        for seen, number in zip(observed(embedder, inputs), numbers, strict=True):
            assert all(tensor.equal(expected) for tensor, expected in zip(seen, whole[number], strict=True))


def test_layers_that_share_weights_share_a_regularizer_which_counts_each_application(folder_of):
    embedder = aligned(block(folder_of("albert")), {"type": "mmd"}).eval()
    (regularizer,) = regularizers_of(embedder)
    inputs = tensors(folder_of("albert"))
    seen = observed(embedder, inputs)
    assert len(seen) == NUM_LAYERS and not seen[0][0].equal(seen[1][0])
    with observe_alignment(embedder) as observation:
        embedder(inputs)
    torch.testing.assert_close(observation.losses()[1], sum(regularizer(*tensors) for tensors in seen))


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "distilbert", "bart"])
def test_implementations_of_attention_agree(folder_of, kind):
    folder = folder_of(kind)
    inputs = tensors(folder)
    seen, classes = {}, set()
    for implementation in "sdpa", "eager":
        kwargs = {"transformer_kwargs": {"attn_implementation": implementation}}
        # Folders of their own, with the same weights: AllenNLP keeps models by their names alone.
        embedder = aligned(block(folder_of(kind, of=implementation), **kwargs), {"type": "mmd"}).eval()
        seen[implementation] = observed(embedder, inputs)
        classes.add(embedder._text_field_embedder.token_embedder_tokens.config._attn_implementation)
    assert classes == {"sdpa", "eager"}
    torch.testing.assert_close(seen["sdpa"], seen["eager"], rtol=1e-3, atol=1e-4)


def test_decoders_and_cross_attention_are_left_out(folder_of):
    folder = folder_of("bart")
    inputs = tensors(folder)
    expected = observed(aligned(block(folder), {"type": "mmd"}).eval(), inputs)
    whole = {"token_embedders": {"tokens": {"type": "pretrained_transformer", "model_name": str(folder)}}}
    seen = observed(aligned(whole, {"type": "mmd"}).eval(), inputs)
    assert len(seen) == NUM_LAYERS
    for tensors_seen, others in zip(seen, expected, strict=True):
        assert all(tensor.equal(other) for tensor, other in zip(tensors_seen, others, strict=True))

    config = transformers.BertConfig(**SIZES, is_decoder=True, add_cross_attention=True)
    found = [module.name for module in self_attention_modules(transformers.BertModel(config))]
    assert found == [f"encoder.layer.{number}.attention.self" for number in range(NUM_LAYERS)]
    decoder = transformers.AutoModel.from_pretrained(folder).decoder
    found = [module.name for module in self_attention_modules(decoder)]
    assert found == [f"layers.{number}.self_attn" for number in range(NUM_LAYERS)]


def test_folded_sentences_are_masked_as_they_are_folded(folder_of):
    folder = folder_of("bert")
    inputs = tensors(folder, max_length=8)
    seen = observed(aligned(block(folder, max_length=8), {"type": "mmd"}).eval(), inputs)
    mask = inputs["tokens"]["segment_concat_mask"]
    padded = torch.nn.functional.pad(mask, (0, -mask.size(1) % 8))
    for queries, _, folded in seen:
        assert queries.shape[::2] == (padded.numel() // 8, 8)
        assert folded.equal(padded.view(-1, 8))


def test_words_of_several_pieces_and_several_embedders(folder_of):
    fields = {
        kind: {"type": "pretrained_transformer_mismatched", "model_name": str(folder_of(kind))}
        for kind in ("bert", "albert")
    }
    indexers = {name: TokenIndexer.from_params(Params(dict(config))) for name, config in fields.items()}
    text = TextField([Token(word) for word in ["A", "small", "dog", "sleeps", "."]], indexers)
    batch = Batch([Instance({"text": text})])
    batch.index_instances(Vocabulary())
    inputs = batch.as_tensor_dict()["text"]
    embedder = {"token_embedders": fields}
    wrapped = aligned(embedder, {"type": "mmd"}).eval()
    assert wrapped.get_output_dim() == 32
    assert wrapped(inputs).equal(plain(embedder).eval()(inputs)) and wrapped(inputs).shape == (1, 5, 32)
    assert len(observed(wrapped, inputs)) == 2 * NUM_LAYERS
    for queries, _, mask in observed(wrapped, inputs):
        assert mask.all() and queries.size(2) > 5 + 2
    # The names of the one transformer are not those of the other.
    assert len(observed(aligned(embedder, {"type": "mmd"}, layers="albert").eval(), inputs)) == NUM_LAYERS


def test_sentences_in_lists(folder_of):
    folder = folder_of("bert")
    inputs = tensors(folder)
    lists = {"tokens": {name: tensor.unsqueeze(0) for name, tensor in inputs["tokens"].items()}}
    embedder = aligned(block(folder), {"type": "mmd"}).eval()
    assert embedder(lists, num_wrapping_dims=1).equal(embedder(inputs).unsqueeze(0))


def test_a_copy_observes_by_itself(folder_of):
    folder = folder_of("bert")
    embedder = aligned(block(folder), {"type": "mmd"}).eval()
    other = copy.deepcopy(embedder)
    other._text_field_embedder.token_embedder_tokens.transformer_model.encoder.layer[
        0
    ].attention.self.query.weight.data.zero_()
    inputs = tensors(folder)
    for regularizer in regularizers_of(embedder):
        regularizer.start_observation()
    seen = observed(other, inputs)
    assert all(regularizer.end_observation() == [] for regularizer in regularizers_of(embedder))
    assert len(seen) == NUM_LAYERS
    assert not seen[0][0].equal(observed(embedder, inputs)[0][0]) and seen[0][1].equal(
        observed(embedder, inputs)[0][1]
    )


def test_where_nothing_observes_the_work_is_spared(folder_of, monkeypatch):
    monkeypatch.setattr(SelfAttentionModule, "queries_and_keys", lambda *args: pytest.fail("not spared"))
    embedder, inputs = aligned(block(folder_of("bert")), {"type": "mmd"}), tensors(folder_of("bert"))
    embedder(inputs)
    with pytest.raises(pytest.fail.Exception, match="not spared"):
        observed(embedder, inputs)


def test_modules_that_are_replaced_later_are_missed(folder_of):
    folder = folder_of("bert")
    embedder = aligned(block(folder), {"type": "mmd"})
    # As BigBird does where sentences are short.
    attention = embedder._text_field_embedder.token_embedder_tokens.transformer_model.encoder.layer[1].attention
    other = copy.deepcopy(attention.self)
    other.query, other.key = attention.self.query, attention.self.key
    for hooks in other._forward_hooks, other._forward_pre_hooks:
        hooks.clear()
    attention.self = other
    with pytest.raises(
        ConfigurationError, match=r'"encoder.layer.1.attention.self", .* has replaced it; leave it out'
    ):
        observed(embedder, tensors(folder))


@pytest.mark.parametrize(
    "kind, fields, message",
    [
        ("gpt2", {}, "knows no self-attention .* in GPT2Model"),
        ("bert", {"layers": "layer\\.9"}, r'"layer\\.9", is found in none of .*: encoder.layer.0.attention.self, '),
        ("bert", {"layers": "layer("}, r'"layers" must be a regular expression, but is "layer\("'),
        ("bert", {"text_field_embedder": {"token_embedders": {"tokens": {"type": "pass_through", "hidden_dim": 2}}}},
         "finds no transformer"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(folder_of, kind, fields, message):
    with pytest.raises(ConfigurationError, match=message):
        aligned(block(folder_of(kind)), {"type": "mmd"}, **fields)
    if kind == "gpt2":
        assert aligned(block(folder_of(kind)), None).get_output_dim() == 16


@pytest.mark.parametrize(
    "in_config, fields, message",
    [
        ({}, {"train_parameters": False}, 'BertModel is frozen: leave out "train_parameters"'),
        # Of these two the first has no effect any more; who asks for it should know all the same.
        ({}, {"gradient_checkpointing": True}, "gradient checkpointing of BertModel"),
        ({"gradient_checkpointing": True}, {}, "gradient checkpointing of BertModel"),
    ],
    ids=["frozen", "checkpointed by AllenNLP", "checkpointed by its config"],
)
def test_what_cannot_be_trained_is_refused_unless_the_weight_is_0(tmp_path, in_config, fields, message):
    # A folder of its own: AllenNLP keeps models by their names alone.
    folder = write_transformer(tmp_path / "bert", "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | in_config))
    with pytest.raises(ConfigurationError, match=message):
        aligned(block(folder, **fields), {"type": "mmd", "weight": 0.1})
    embedder = aligned(block(folder, **fields), {"type": "mmd", "weight": 0.0})
    transformer = embedder._text_field_embedder.token_embedder_tokens.transformer_model
    assert transformer.is_gradient_checkpointing == bool(in_config)
    inputs = tensors(folder)
    assert len(observed(embedder, inputs)) == NUM_LAYERS
    if transformer.embeddings.word_embeddings.weight.requires_grad:
        expected = trained(plain(block(folder, **fields)), inputs)
        weights = trained(embedder, inputs)
        assert all(weights[name].equal(expected[name]) for name in expected)
