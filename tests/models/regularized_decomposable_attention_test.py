import copy
from statistics import fmean

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.nn import util

import regattn_allennlp.data.dataset_readers
import regattn_allennlp.models
import regattn_allennlp.modules.seq2seq_encoders  # noqa: F401  (registers what the configs name)
from regattn_allennlp.data.token_links import WordLinks
from tests.training.metrics.attention_statistics_test import measured_one_by_one

DIM = 6
ATTENTIONS = [
    {"type": "softmax"},
    {"type": "sparsemax", "gamma": 0.5},
    {"type": "fusedmax", "lam": 0.2},
    {"type": "oscarmax", "lam": 0.2},
    {"type": "fusedmax", "similarity": {"type": "bilinear", "matrix_1_dim": DIM, "matrix_2_dim": DIM}},
]
PAIRS = [
    ("a cat sleeps on the old sofa", "an animal sleeps", "entailment"),
    ("two dogs run", "the dogs are asleep in the garden", "contradiction"),
    ("a man reads", "a man reads a long letter", "neutral"),
]


def feedforward(input_dim: int) -> dict:
    return {"input_dim": input_dim, "num_layers": 1, "hidden_dims": DIM, "activations": "tanh"}


def config(dim: int = DIM, **changes) -> dict:
    return {
        "type": "regularized_decomposable_attention",
        "text_field_embedder": {"token_embedders": {"tokens": {"embedding_dim": DIM}}},
        "attention": {"type": "fusedmax"},
        "attend_feedforward": feedforward(dim),
        "compare_feedforward": feedforward(2 * dim),
        "aggregate_feedforward": feedforward(2 * DIM),
        **changes,
    }


def read(pairs=PAIRS, **reader_config):
    reader = DatasetReader.from_params(Params({"type": "entailment", **reader_config}))
    instances = [reader.text_to_instance(*pair) for pair in pairs]
    for instance in instances:
        reader.apply_token_indexers(instance)
    return instances


def build(instances, vocab=None, **changes) -> Model:
    torch.manual_seed(0)
    vocab = vocab or Vocabulary.from_instances(instances)
    return Model.from_params(Params(copy.deepcopy(config(**changes))), vocab=vocab).eval()


def run(model: Model, instances) -> dict:
    batch = Batch(instances)
    batch.index_instances(model.vocab)
    return model(**batch.as_tensor_dict())


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_the_attention_block_alone_makes_the_variant(attention):
    instances = read()
    model = build(instances, attention=attention)
    output = run(model, instances)
    output["loss"].backward()
    for key, (tokens, other_tokens) in {
        "premise_to_hypothesis_attention": ("premise_tokens", "hypothesis_tokens"),
        "hypothesis_to_premise_attention": ("hypothesis_tokens", "premise_tokens"),
    }.items():
        for weights, words, others in zip(output[key], output[tokens], output[other_tokens], strict=True):
            # Each word's weights sum to 1 over the other sentence; padding has none and gets none.
            torch.testing.assert_close(weights[: len(words), : len(others)].sum(-1), torch.ones(len(words)))
            assert weights[len(words) :].eq(0).all() and weights[:, len(others) :].eq(0).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_follows_the_papers_equations():
    """Attend, compare and aggregate, word by word and without a batch."""
    instances = read(PAIRS[:1])
    model = build(instances, attention={"type": "softmax"})
    output = run(model, instances)
    batch = Batch(instances)
    batch.index_instances(model.vocab)
    tensors = batch.as_tensor_dict()
    premise = model._text_field_embedder(tensors["premise"])[0]
    hypothesis = model._text_field_embedder(tensors["hypothesis"])[0]

    def averaged(word, others):
        scores = torch.stack([model._attend_feedforward(word) @ model._attend_feedforward(other) for other in others])
        return sum(weight * other for weight, other in zip(scores.softmax(0), others, strict=True))

    def compared(words, others):
        return sum(model._compare_feedforward(torch.cat([word, averaged(word, others)])) for word in words)

    both = torch.cat([compared(premise, hypothesis), compared(hypothesis, premise)])
    aggregated = model._aggregate_feedforward(both)
    torch.testing.assert_close(output["label_logits"][0], model._label_layer(aggregated))
    expected_loss = -model._label_layer(aggregated).log_softmax(0)[tensors["label"][0]]
    torch.testing.assert_close(output["loss"], expected_loss)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "dim": 2 * DIM,
            "intra_sentence_attention": {
                "type": "intra_sentence_attention",
                "input_dim": DIM,
                "feedforward": feedforward(DIM),
                "attention": {"type": "oscarmax"},
            },
        },
        {
            "dim": 8,
            "encoder": {"type": "lstm", "input_size": DIM, "hidden_size": 2, "bidirectional": True},
            "intra_sentence_attention": {
                "type": "intra_sentence_attention",
                "input_dim": 4,
                "feedforward": feedforward(4),
                "attention": {"type": "fusedmax"},
            },
        },
    ],
    ids=["plain", "intra-sentence attention", "encoder and intra-sentence attention"],
)
def test_a_pair_is_predicted_alike_alone_and_among_others(changes):
    instances = read()
    model = build(instances, **changes)
    together = model.forward_on_instances(instances)
    for instance, prediction in zip(instances, together, strict=True):
        alone = model.forward_on_instance(instance)
        for key in ("label_logits", "premise_to_hypothesis_attention", "hypothesis_to_premise_attention"):
            torch.testing.assert_close(torch.tensor(alone[key]), torch.tensor(prediction[key]), rtol=1e-4, atol=1e-5)


def test_human_readable_output_has_names_and_real_lengths():
    instances = read()
    model = build(instances)
    for prediction, (premise, hypothesis, _) in zip(model.forward_on_instances(instances), PAIRS, strict=True):
        assert prediction["premise_tokens"] == premise.split()
        assert prediction["hypothesis_tokens"] == hypothesis.split()
        shape = len(premise.split()), len(hypothesis.split())
        assert prediction["premise_to_hypothesis_attention"].shape == shape
        assert prediction["hypothesis_to_premise_attention"].shape == shape[::-1]
        probabilities = prediction["probabilities"]
        assert set(probabilities) == {"entailment", "neutral", "contradiction"}
        assert sum(probabilities.values()) == pytest.approx(1.0)
        assert prediction["label"] == max(probabilities, key=probabilities.get)


def test_metrics_are_reported_and_reset():
    instances = read()
    model = build(instances, attention={"type": "sparsemax", "gamma": 0.001})
    run(model, instances)
    metrics = model.get_metrics(reset=True)
    assert 0.0 <= metrics["accuracy"] <= 1.0
    # At so small a gamma each word attends to one other word.
    lengths = [(len(premise.split()), len(hypothesis.split())) for premise, hypothesis, _ in PAIRS]
    num_weights = sum(premise * hypothesis for premise, hypothesis in lengths)
    fraction = 1 - sum(premise for premise, _ in lengths) / num_weights
    assert metrics["premise_to_hypothesis_zeros"] == pytest.approx(fraction, abs=0.2)
    assert metrics["hypothesis_to_premise_zeros"] > 0.5
    # An accuracy of nothing there is none.
    assert set(model.get_metrics()) == {"premise_to_hypothesis_zeros", "hypothesis_to_premise_zeros"}
    assert model.get_metrics(reset=True) == dict.fromkeys(metrics.keys() - {"accuracy"}, 0.0)
    run(model, instances)
    assert set(model.get_metrics()) == {"accuracy", "premise_to_hypothesis_zeros", "hypothesis_to_premise_zeros"}


LINKS = [
    ({(0, 0), (1, 1), (2, 2)}, {(3, 2)}),
    ({(1, 1)}, {(0, 0), (0, 6)}),
    ({(0, 0), (1, 1), (2, 2)}, set()),
]


@pytest.mark.parametrize("threshold", [None, 0.2])
def test_alignments_are_measured_by_gold_links(threshold):
    links = [WordLinks(frozenset(sure), frozenset(sure | possible)) for sure, possible in LINKS]
    linked = read([(*pair, of_pair) for pair, of_pair in zip(PAIRS, links, strict=True)])
    block = {} if threshold is None else {"alignment_error_rate": {"threshold": threshold}}
    model = build(linked, **block)
    output = model.make_output_human_readable(run(model, linked))
    metrics = model.get_metrics(reset=True)
    for direction in ("premise_to_hypothesis", "hypothesis_to_premise"):
        made, sure, possible = set(), set(), set()
        for item, (matrix, of_pair) in enumerate(zip(output[f"{direction}_attention"], links, strict=True)):
            for row, weights in enumerate(matrix.tolist()):
                for column, weight in enumerate(weights):
                    if weight >= threshold if threshold else weights.index(max(weights)) == column:
                        link = (row, column) if direction == "premise_to_hypothesis" else (column, row)
                        made.add((item, *link))
            sure |= {(item, *link) for link in of_pair.sure}
            possible |= {(item, *link) for link in of_pair.possible}
        right = len(made & sure), len(made & possible)
        expected = {
            "error_rate": 1 - sum(right) / (len(made) + len(sure)),
            "precision": right[1] / len(made),
            "recall": right[0] / len(sure),
        }
        for name, value in expected.items():
            assert metrics[f"{direction}_alignment_{name}"] == pytest.approx(value)
    instances = read()
    run(model, instances)
    model.train()
    run(model, linked)
    assert not any("error_rate" in name for name in model.get_metrics(reset=True))


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_attention_is_measured_as_word_by_word_in_what_is_predicted(attention):
    instances = read()
    model = build(instances, attention=attention)
    predictions = model.make_output_human_readable(run(model, instances))
    metrics = model.get_metrics(reset=True)
    for direction in ("premise_to_hypothesis", "hypothesis_to_premise"):
        rows = [row.tolist() for matrix in predictions[f"{direction}_attention"] for row in matrix]
        measured = [measured_one_by_one(row, [True] * len(row)) for row in rows]
        for name in ("support_size", "entropy", "segments", "distinct_weights"):
            expected = fmean(of_row[name] for of_row in measured)
            assert metrics[f"{direction}_{name}"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mismatched", [False, True])
def test_a_transformer_embeds_the_words(mismatched, tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizer

    words = sorted({word for premise, hypothesis, _ in PAIRS for word in f"{premise} {hypothesis}".split()})
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(words) + 5, **size)).save_pretrained(tmp_path)
    name = "pretrained_transformer_mismatched" if mismatched else "pretrained_transformer"
    transformer = {"type": name, "model_name": str(tmp_path)}
    tokenizer = {} if mismatched else {"tokenizer": dict(transformer)}

    instances = read(token_indexers={"tokens": dict(transformer)}, **tokenizer)
    model = build(instances, dim=8, text_field_embedder={"token_embedders": {"tokens": dict(transformer)}})
    run(model, instances)["loss"].backward()
    assert any("bert" in name or "transformer" in name for name, _ in model.named_parameters())
    prediction = model.forward_on_instances(instances)[0]
    num_special_tokens = 0 if mismatched else 2
    expected = tuple(len(sentence.split()) + num_special_tokens for sentence in PAIRS[0][:2])
    assert prediction["premise_to_hypothesis_attention"].shape == expected


def test_what_attentions_learn_is_a_metric_by_the_attentions_name():
    instances = read()
    inner = {
        "type": "intra_sentence_attention",
        "input_dim": DIM,
        "feedforward": feedforward(DIM),
        "attention": {"type": "softmax", "gamma": 3, "learn_gamma": True},
    }
    model = build(
        instances,
        attention={"type": "fusedmax", "lam": 0.03, "learn_lam": True},
        intra_sentence_attention=inner,
        dim=2 * DIM,
    )
    metrics = model.get_metrics()
    assert metrics["attention_lam"] == pytest.approx(0.03)
    assert metrics["encoders.0.attention_gamma"] == pytest.approx(3)
    assert "attention_gamma" not in metrics
    run(model, instances)["loss"].backward()
    assert model._attention.regularized_max.log_lam.grad != 0


def test_an_attention_of_another_package_is_refused_by_name():
    instances = read()
    with pytest.raises(ConfigurationError, match=r"sparsemax.*DotProductAttention"):
        build(instances, attention={"type": "dot_product"})


def test_an_initializer_is_applied():
    instances = read()
    initializer = {"regexes": [[".*_label_layer.*", {"type": "constant", "val": 0.25}]]}
    model = build(instances, initializer=initializer)
    assert model._label_layer.weight.eq(0.25).all()


def test_state_moves_to_another_device():
    instances = read()
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    model = build(instances)
    expected = run(model, instances)["label_logits"]
    batch = Batch(instances)
    batch.index_instances(model.vocab)
    output = model.cuda()(**util.move_to_device(batch.as_tensor_dict(), 0))
    torch.testing.assert_close(output["label_logits"].cpu(), expected, rtol=1e-4, atol=1e-4)
