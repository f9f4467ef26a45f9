"""What predictions tell of self-attention: of a model with transformers, an encoder of two layers, and one more."""

import json

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Vocabulary
from allennlp.models import Model

from regattn_allennlp.predictors import EntailmentPredictor
from tests.tiny_transformers import write_transformer

WORDS_DIM, PIECES_DIM = 4, 16
DIM = WORDS_DIM + PIECES_DIM
PAIRS = [
    {"premise": "A dog sleeps in the garden", "hypothesis": "A dog ☃ is in a gardens ."},
    {"premise": "Two women are reading under an old tree in the garden .", "hypothesis": "Two"},
]
WORDS = {"type": "single_id"}


def feedforward(input_dim: int) -> dict:
    return {"input_dim": input_dim, "num_layers": 1, "hidden_dims": 8, "activations": "relu"}


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = str(write_transformer(tmp_path_factory.mktemp("transformers") / "bert", "bert"))

    def build(**more) -> EntailmentPredictor:
        """More fields of the transformer's indexer and embedder."""
        pieces = {"type": "pretrained_transformer_mismatched", "model_name": folder, **more}
        reader = DatasetReader.from_params(
            Params({
                "type": "entailment", "tokenizer": {"type": "whitespace"},
                "token_indexers": {"words": dict(WORDS), "pieces": dict(pieces)},
            })
        )  # fmt: skip
        instance = reader.text_to_instance(PAIRS[0]["premise"], "A women is reading . here", "neutral")
        reader.apply_token_indexers(instance)
        vocab = Vocabulary.from_instances([instance])
        block = {
            "type": "regularized_decomposable_attention",
            "text_field_embedder": {
                "token_embedders": {
                    "words": {"type": "embedding", "embedding_dim": WORDS_DIM, "vocab_namespace": "tokens"},
                    "pieces": dict(pieces),
                }
            },
            "encoder": {"type": "multi_head_self_attention", "input_dim": DIM, "num_heads": 4, "num_layers": 2},
            "intra_sentence_attention": {
                "type": "intra_sentence_attention", "input_dim": DIM, "feedforward": feedforward(DIM),
                "attention": {"type": "sparsemax"},
            },
            "attention": {"type": "softmax"},
            "attend_feedforward": feedforward(2 * DIM),
            "compare_feedforward": feedforward(4 * DIM),
            "aggregate_feedforward": feedforward(16),
        }  # fmt: skip
        torch.manual_seed(0)
        return EntailmentPredictor(Model.from_params(Params(block), vocab=vocab), reader)

    return build


def test_every_layer_and_head_of_both_sentences(build):
    predictor = build()
    layers = predictor.self_attention_layers()
    assert list(layers) == ["premise_to_premise", "hypothesis_to_hypothesis"]
    assert layers["premise_to_premise"] == layers["hypothesis_to_hypothesis"]
    assert list(layers["premise_to_premise"].values()) == [2, 2, 2, 4, 4, 1]

    plain = predictor.predict_batch_json(PAIRS)
    predictor.self_attention = True
    batched = predictor.predict_batch_json(PAIRS)
    json.dumps(batched)
    for pair, of_batch, without in zip(PAIRS, batched, plain, strict=True):
        alone = predictor.predict_json(pair)
        recorded = of_batch.pop("self_attention")
        assert of_batch == without  # nothing else has changed
        for direction, of_direction in recorded.items():
            side = direction.split("_to_")[0]
            assert [layer["name"] for layer in of_direction] == list(layers[direction])
            for number, layer in enumerate(of_direction):
                tokens = layer["tokens"]
                if number < 3:  # the transformer's
                    assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
                    joined = "".join(piece.removeprefix("##") for piece in tokens[1:-1])
                    assert joined == pair[side].replace(" ", "").replace("☃", "[UNK]")
                    assert layer["unknown"] == [place for place, piece in enumerate(tokens) if piece == "[UNK]"]
                else:
                    assert tokens == pair[side].split()
                    assert (layer["unknown"], layer["same_as"]) == (
                        without[f"{side}_unknown"],
                        without[f"{side}_same_as"],
                    )
                weights = np.array(layer["weights"])
                assert weights.shape == (layers[direction][layer["name"]], len(tokens), len(tokens))
                np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-5)
                np.testing.assert_allclose(alone["self_attention"][direction][number]["weights"], weights, atol=1e-5)


def test_words_that_the_model_does_not_know(build):
    first, second = build().predict_batch_json(PAIRS)
    # The transformer has pieces for "gardens".
    assert (first["premise_unknown"], first["hypothesis_unknown"]) == ([], [2])
    assert second["hypothesis_unknown"] == [] and second["premise_same_as"][-2:] == [10, 11]


def test_maps_of_a_head_and_of_the_mean(build):
    predictor = build()
    predictor.self_attention = True
    prediction = predictor.predict_json(PAIRS[0])
    of_layer = prediction["self_attention"]["hypothesis_to_hypothesis"][3]
    drawn = predictor.self_attention_map(prediction, "hypothesis_to_hypothesis", layer=3, head=1)
    assert drawn["rows"] == drawn["columns"] == PAIRS[0]["hypothesis"].split()
    assert (drawn["rowTitle"], drawn["columnTitle"]) == ("hypothesis", "hypothesis")
    assert drawn["unknownRows"] == drawn["unknownColumns"] == [2]
    assert drawn["weights"] == of_layer["weights"][1]
    mean = predictor.self_attention_map(prediction, "hypothesis_to_hypothesis", layer=3)
    np.testing.assert_allclose(mean["weights"], sum(np.array(head) for head in of_layer["weights"]) / 4)
    last = predictor.self_attention_map(prediction, "hypothesis_to_hypothesis")
    assert last["weights"] == prediction["self_attention"]["hypothesis_to_hypothesis"][-1]["weights"][0]


def test_a_text_that_is_cut_into_pieces_has_no_weights_over_all(build):
    predictor = build(max_length=8)
    predictor.self_attention = True
    with pytest.raises(
        ConfigurationError, match=r'transformer_model\.0" attends within pieces of a text .*max_length'
    ):
        predictor.predict_json(PAIRS[1])


def test_self_attention_is_true_or_false(build):
    predictor = build()
    with pytest.raises(ConfigurationError, match='"self_attention" must be true or false, but is "yes"'):
        EntailmentPredictor(predictor._model, predictor._dataset_reader, self_attention="yes")
