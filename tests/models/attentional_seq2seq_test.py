import copy
import itertools
import math
from statistics import fmean

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, DatasetReader, Vocabulary
from allennlp.models import Model

import regattn_allennlp.data.dataset_readers
import regattn_allennlp.models  # noqa: F401  (registers what the configs name)
from regattn_allennlp.data.token_links import WordLinks
from regattn_allennlp.models import attentional_seq2seq
from tests.training.metrics.attention_statistics_test import measured_one_by_one

DIM = 6
PAIRS = [("x y z x", "a b"), ("y", "b"), ("z z x", "a a b a"), ("x y", "b a a")]
ALIGNMENTS = [
    {"type": "soft"},
    {"type": "exact"},
    {"type": "hard"},
    *({"type": "variational", "estimator": e} for e in ("enumeration", "reinforce", "gumbel_softmax", "wake_sleep")),
    {"type": "dirichlet"},
]
ATTENTIONS = [
    {"type": "softmax"},
    {"type": "sparsemax", "gamma": 0.2},
    {"type": "fusedmax", "similarity": {"type": "bilinear", "matrix_1_dim": DIM, "matrix_2_dim": DIM}},
    {"type": "oscarmax", "similarity": {"type": "additive", "vector_dim": DIM, "matrix_dim": DIM}},
    {"type": "dot_product"},
    {"type": "bilinear", "vector_dim": DIM, "matrix_dim": DIM},
    {"type": "additive", "vector_dim": DIM, "matrix_dim": DIM},
]


def read(pairs=PAIRS):
    reader = DatasetReader.from_params(Params({"type": "sequence_pairs"}))
    instances = [reader.text_to_instance(*pair) for pair in pairs]
    for instance in instances:
        reader.apply_token_indexers(instance)
    return instances


VOCAB = Vocabulary.from_instances(read())
# Padding, unknown, start, end, "a" and "b".
NUM_TOKENS = 6


def build(**changes) -> Model:
    torch.manual_seed(0)
    config = {
        "type": "attentional_seq2seq",
        "source_text_field_embedder": {
            "token_embedders": {"tokens": {"embedding_dim": DIM, "vocab_namespace": "source_tokens"}}
        },
        "encoder": {"type": "lstm", "input_size": DIM, "hidden_size": DIM // 2, "bidirectional": True},
        "attention": {"type": "softmax"},
        "target_embedding_dim": DIM,
        "decoder_hidden_dim": DIM,
        **changes,
    }
    model = Model.from_params(Params(copy.deepcopy(config)), vocab=VOCAB).double().eval()
    for parameter in model.parameters():  # far from uniform, so that differences show
        torch.nn.init.normal_(parameter, std=0.7)
    return model


def tensors(instances) -> dict:
    batch = Batch(instances)
    batch.index_instances(VOCAB)
    return batch.as_tensor_dict()


def run(model: Model, pairs=PAIRS) -> dict:
    return model(**tensors(read(pairs)))


def index(token: str) -> int:
    return VOCAB.get_token_index(token, "target_tokens")


def stepwise_log_prob(model: Model, source: str, tokens: list[str], ended: bool = True) -> float:
    """log p of the tokens (and the end), by the function that the beam search calls, one token at a time."""
    batch = tensors(read([(source,)]))
    total, last, found = 0.0, "@start@", {}

    def search(start, state, step):
        nonlocal total, last
        for token in [*tokens, "@end@"] if ended else tokens:
            log_probs, state = step(torch.tensor([index(last)]), state)
            torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(1, dtype=torch.float64))
            total, last = total + log_probs[0, index(token)].item(), token
        found["total"] = total
        raise StopIteration

    original, model._beam_search.search = model._beam_search.search, search
    try:
        with torch.no_grad(), pytest.raises(StopIteration):
            model(**batch)
    finally:
        model._beam_search.search = original
    return found["total"]


@pytest.mark.parametrize("attention", ATTENTIONS, ids=lambda block: "-".join(map(str, block.values()))[:30])
@pytest.mark.parametrize(
    "feeding",
    [{}, {"input_feeding": False}, {"input_feeding": "context", "first_state": "zeros"}],
    ids=lambda changes: "_".join(map(str, changes.values())) or "default",
)
def test_a_whole_target_at_once_is_as_step_by_step(attention, feeding):
    model = build(attention=attention, num_decoder_layers=2, dropout=0.5, **feeding)
    total = 0.0
    for source, target in PAIRS:
        expected = stepwise_log_prob(model, source, target.split())
        output = run(model, [(source, target)])
        length = len(target.split()) + 1
        assert -output["loss"].item() * length == pytest.approx(expected)
        assert output["item_scores"].item() == pytest.approx(math.exp(expected / length))
        total += expected
    # exp of the nats of all tokens by their number, the ends counted: 2 + 1 + 4 + 3 words and 4 ends.
    assert model.get_metrics(reset=True)["perplexity"] == pytest.approx(math.exp(-total / 14))
    run(model)["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("alignment", ALIGNMENTS, ids=lambda block: "_".join(block.values()))
def test_every_alignment_learns_and_is_scored_by_its_marginal(alignment):
    model = build(latent_alignment=alignment, dropout=0.3)
    output = run(model)
    by_step = sum(stepwise_log_prob(model, source, target.split()) for source, target in PAIRS)
    tolerance = {"rel": 0.02} if alignment["type"] == "dirichlet" else {}  # of which samples are drawn
    assert -output["loss"].item() * 14 == pytest.approx(by_step, **tolerance)
    model.train()
    output = run(model)
    output["loss"].backward()
    missing = {name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()}
    assert missing == set()
    assert model.get_metrics(reset=True).keys() >= {"target_to_source_zeros"}


@pytest.mark.parametrize(
    "attention", [{"type": "softmax"}, {"type": "sparsemax", "gamma": 0.2}], ids=lambda a: a["type"]
)
def test_the_marginal_is_the_sum_over_alignments(attention):
    """Against a sum written out for each token: with weight 1 on z, and the expected vector fed all the same."""
    exact = build(attention=attention, latent_alignment={"type": "exact"})
    soft = build(attention=attention)
    output = run(soft)
    weights = output["target_to_source_attention"]
    log_probs = {}

    class Pinned(torch.nn.Module):
        inference_network = None

        def log_marginal(self, queries):
            for z in range(queries.weights.size(1)):
                one_hot = torch.zeros_like(queries.weights)
                one_hot[:, z] = 1
                log_probs[z] = queries.log_likelihood_of_mixture(one_hot)
            self.items = queries.items
            return log_probs[0]

    pinned = build(attention=attention)
    pinned._latent_alignment = Pinned()
    run(pinned)
    nats = []
    step_of = dict.fromkeys(range(len(PAIRS)), 0)
    for number, item in enumerate(pinned._latent_alignment.items.tolist()):
        row = weights[item, step_of[item]]
        step_of[item] += 1
        nats.append(math.log(sum(row[z].item() * log_probs[z][number].exp().item() for z in range(len(row)))))
    assert run(exact)["loss"].item() == pytest.approx(-sum(nats) / 14)


@pytest.mark.parametrize("attention", ["softmax", "sparsemax"])
@pytest.mark.parametrize("alignment", ["soft", "exact", "variational", "dirichlet"])
def test_a_given_target_is_scored_alike_alone_and_among_others(attention, alignment):
    if (attention, alignment) == ("sparsemax", "dirichlet"):
        return  # which it refuses
    model = build(attention={"type": attention}, latent_alignment={"type": alignment})
    together = model.score_target(**tensors(read()))
    for number, (source, target) in enumerate(PAIRS):
        length, source_length = len(target.split()) + 1, len(source.split())
        alone = model.score_target(**tensors(read([(source, target)])))
        torch.testing.assert_close(together.log_probs[number, :length], alone.log_probs[0])
        assert alone.log_probs.sum().item() == pytest.approx(
            stepwise_log_prob(model, source, target.split()), rel=0.05
        )
        for many, one in zip(together[1:], alone[1:], strict=True):
            assert (many is None) == (one is None)
            if many is not None:
                torch.testing.assert_close(many[number, :length, :source_length], one[0])
                torch.testing.assert_close(one[0].sum(-1), torch.ones(length, dtype=torch.float64))
                assert (many[number, :length, source_length:] == 0).all()
    told = {"soft": 1, "exact": 2}.get(alignment, 3)
    assert sum(one is not None for one in together[1:]) == told == len(model.given_distributions)


@pytest.mark.parametrize("attention", ["softmax", "sparsemax"])
def test_the_posterior_of_a_token_is_that_of_bayes_rule(attention):
    """The likelihood of a token at each position: what a model says whose attention is pinned to that position."""
    model = build(attention={"type": attention}, latent_alignment={"type": "exact"}, input_feeding=False)
    scores = model.score_target(**tensors(read()))
    pinned = build(input_feeding=False)
    pinned.load_state_dict(model.state_dict())
    joint = torch.zeros_like(scores.weights)
    for position in range(joint.size(2)):

        class Pinned(torch.nn.Module):
            def forward(self, query, keys, mask, position=position):
                return (torch.arange(keys.size(1)) == position).double().repeat(len(keys), 1)

        pinned._decoder.attention = Pinned()
        joint[..., position] = scores.weights[..., position] * pinned.score_target(**tensors(read())).log_probs.exp()
    marginal = joint.sum(-1)
    for number, (_, target) in enumerate(PAIRS):
        steps = slice(len(target.split()) + 1)
        torch.testing.assert_close(scores.log_probs[number, steps].exp(), marginal[number, steps])
        torch.testing.assert_close(
            scores.posterior[number, steps], joint[number, steps] / marginal[number, steps].unsqueeze(1)
        )


@pytest.mark.parametrize("input_feeding", [True, "context", False])
def test_padding_and_other_items_change_nothing(input_feeding):
    model = build(attention={"type": "fusedmax", "lam": 0.05}, input_feeding=input_feeding, text_metrics=["bleu"])
    together = run(model)
    readable = model.make_output_human_readable(dict(together))
    for number, pair in enumerate(PAIRS):
        alone = run(model, [pair])
        words, source = len(pair[1].split()), len(pair[0].split())
        torch.testing.assert_close(
            alone["target_to_source_attention"][0],
            together["target_to_source_attention"][number, : words + 1, :source],
        )
        assert together["target_to_source_attention"][number, :, source:].sum() == 0
        torch.testing.assert_close(alone["predicted_log_probs"][0], together["predicted_log_probs"][number])
        best = model.make_output_human_readable(alone)["predictions"][0][0]
        assert best["text"] == readable["predictions"][number][0]["text"]
        assert best["attention"].shape == (len(best["tokens"]), source)
        assert readable["target_to_source_attention"][number].shape == (words, source)


def test_the_metrics_of_attention_are_those_of_the_targets_words():
    model = build(attention={"type": "sparsemax", "gamma": 0.2})
    rows = []
    for pairs in (PAIRS[:3], PAIRS[3:]):
        weights = run(model, pairs)["target_to_source_attention"]
        for (source, target), item in zip(pairs, weights, strict=True):
            rows += [row[: len(source.split())].tolist() for row in item[: len(target.split())]]
    metrics = model.get_metrics(reset=True)
    measured = [measured_one_by_one(row, [True] * len(row)) for row in rows]
    zeros, positions = sum(row.count(0.0) for row in rows), sum(map(len, rows))
    assert metrics["target_to_source_zeros"] == pytest.approx(zeros / positions)
    assert zeros > 0
    for name in ("support_size", "entropy", "segments", "distinct_weights"):
        expected = fmean(of_row[name] for of_row in measured)
        assert metrics[f"target_to_source_{name}"] == pytest.approx(expected, rel=1e-5)


# Of a word of the source and one of the target, for each of the PAIRS; not all of their possible links are sure.
LINKS = [
    WordLinks(frozenset(sure), frozenset({*sure, *possible}))
    for sure, possible in [
        ({(0, 0), (3, 1)}, {(1, 1), (2, 0)}), ({(0, 0)}, set()), ({(1, 0)}, {(0, 3), (2, 2)}), (set(), {(0, 2)}),
    ]
]  # fmt: skip


def error_rate_by_sets(matrices, threshold=None) -> dict[str, float]:
    """Of matrices with a row for each word of a target, and a column for each of the source."""
    made, sure, possible = set(), set(), set()
    for item, (matrix, links) in enumerate(zip(matrices, LINKS, strict=True)):
        for row, weights in enumerate(matrix.tolist()):
            for column, weight in enumerate(weights):
                if weight >= threshold if threshold else weights.index(max(weights)) == column:
                    made.add((item, column, row))
        sure |= {(item, *link) for link in links.sure}
        possible |= {(item, *link) for link in links.possible}
    right = len(made & sure), len(made & possible)
    return {
        "alignment_error_rate": 1 - sum(right) / (len(made) + len(sure)),
        "alignment_precision": right[1] / len(made),
        "alignment_recall": right[0] / len(sure),
    }


@pytest.mark.parametrize("alignment", ALIGNMENTS, ids=lambda block: "_".join(block.values()))
@pytest.mark.parametrize("threshold", [None, 0.3])
def test_alignments_are_measured_by_gold_links(alignment, threshold):
    block = {} if threshold is None else {"alignment_error_rate": {"threshold": threshold}}
    model = build(latent_alignment=alignment, **block)
    linked = [(*pair, links) for pair, links in zip(PAIRS, LINKS, strict=True)]
    for some in (linked[:3], linked[3:]):  # batches of different lengths
        run(model, some)
    metrics = model.get_metrics(reset=True)
    scores = model.score_target(**tensors(read()))
    for prefix, weights in {"": scores.weights, "posterior_": scores.posterior}.items():
        names = {name for name in metrics if name.startswith(f"{prefix}alignment_")} - {*model.alignment_metrics()}
        if weights is None:
            assert alignment["type"] == "soft" and not names
            continue
        matrices = [
            matrix[: len(target.split()), : len(source.split())]
            for (source, target), matrix in zip(PAIRS, weights, strict=True)
        ]
        expected = error_rate_by_sets(matrices, threshold)
        assert {name.removeprefix(prefix): metrics[name] for name in names} == pytest.approx(expected)
    # What is known only once all is evaluated, is reported then; without links, and in training, nothing is.
    run(model, linked)
    assert not any("error_rate" in name for name in model.get_metrics())
    model.get_metrics(reset=True)
    run(model)
    assert not any("error_rate" in name for name in model.get_metrics(reset=True))
    model.train()
    run(model, linked)
    assert not any("error_rate" in name for name in model.get_metrics(reset=True))


def test_a_large_beam_finds_what_trying_all_finds():
    # As large as AllenNLP's may be, the vocabulary: of two steps nothing is lost by it.
    model = build(
        beam_search={"beam_size": NUM_TOKENS, "max_steps": 2}, num_best=NUM_TOKENS, latent_alignment={"type": "exact"}
    )
    tokens = [VOCAB.get_token_from_index(number, "target_tokens") for number in range(NUM_TOKENS)]
    words = [token for token in tokens if token != "@end@"]
    log_probs = {(): stepwise_log_prob(model, "x y z", [])}
    log_probs |= {(word,): stepwise_log_prob(model, "x y z", [word]) for word in words}
    log_probs |= {
        pair: stepwise_log_prob(model, "x y z", list(pair), ended=False) for pair in itertools.product(words, words)
    }
    predictions = model.make_output_human_readable(model(**tensors(read([("x y z",)]))))["predictions"][0]
    best = sorted(log_probs, key=log_probs.__getitem__, reverse=True)[:NUM_TOKENS]
    assert [tuple(one["tokens"]) for one in predictions] == best
    assert [one["log_prob"] for one in predictions] == pytest.approx([log_probs[text] for text in best])
    assert all(one["attention"].sum(1) == pytest.approx(1) for one in predictions)


def test_the_length_penalty_orders_predictions():
    scorer = {"type": "length-normalized-sequence-log-prob", "length_penalty": 2.0}
    beam_search = {"beam_size": 6, "max_steps": 8}
    plain = build(beam_search=beam_search, num_best=6)
    model = build(beam_search={**beam_search, "final_sequence_scorer": scorer}, num_best=6)
    batch = tensors(read([("x y z",)]))
    predictions, unordered = (m.make_output_human_readable(m(**batch))["predictions"][0] for m in (model, plain))
    # The log probability is that of the text, whatever the order is by.
    assert sorted(one["log_prob"] for one in predictions) == pytest.approx(
        sorted(one["log_prob"] for one in unordered)
    )
    lengths = [min(len(one["tokens"]) + 1, 8) for one in predictions]
    scores = [one["log_prob"] / length**2 for one, length in zip(predictions, lengths, strict=True)]
    assert scores == sorted(scores, reverse=True)
    assert [one["log_prob"] for one in predictions] != sorted((one["log_prob"] for one in predictions), reverse=True)


@pytest.mark.parametrize("fed", ["attentional_vector", "context"])
@pytest.mark.parametrize("top_k", [None, 2])
def test_what_is_fed_is_as_written_out(fed, top_k):
    """Against the equations, item by item, with PyTorch's LSTM cell of the same weights."""
    alignment = {"type": "exact", "marginal_top_k": top_k}
    model = build(input_feeding=fed, first_state="zeros", latent_alignment=alignment)
    decoder = model._decoder
    cell = torch.nn.LSTMCell(2 * DIM, DIM).double()
    weights = {name.removesuffix("_l0"): tensor for name, tensor in decoder._lstm.state_dict().items()}
    cell.load_state_dict(weights)
    for source, target in PAIRS:
        batch = tensors(read([(source, target)]))
        expected = run(model, [(source, target)])["target_to_source_attention"][0]
        with torch.no_grad():
            embedded = model._source_text_field_embedder(batch["source_tokens"])
            rows = model._encoder(embedded, torch.ones(embedded.shape[:2], dtype=torch.bool))[0]
            state, vector = (torch.zeros(1, DIM).double(),) * 2, torch.zeros(DIM).double()
            for step, token in enumerate(["@start@", *target.split()]):
                inputs = torch.cat([model._target_embedding.weight[index(token)], vector])
                state = cell(inputs.unsqueeze(0), state)
                query = state[0][0]
                prior = [math.exp(row @ query) for row in rows]
                prior = [one / sum(prior) for one in prior]
                assert expected[step].tolist() == pytest.approx(prior)
                kept = sorted(prior)[-top_k:] if top_k else prior
                prior = [one / sum(kept) if one in kept else 0.0 for one in prior]
                vector = sum(one * row for one, row in zip(prior, rows, strict=True))
                if fed == "attentional_vector":
                    vector = (decoder._value_layer(vector) + decoder._state_layer(query)).tanh()


def test_in_training_all_positions_are_fed():
    with_top_k, without = (
        build(latent_alignment={"type": "exact", "marginal_top_k": top_k}).train() for top_k in (1, None)
    )
    assert run(with_top_k)["loss"].item() == pytest.approx(run(without)["loss"].item())
    assert run(with_top_k.eval())["loss"].item() != pytest.approx(run(without.eval())["loss"].item())


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_of_sentences_is_the_sum_of_their_tokens(training):
    by_token, by_sentence = (
        run(build(loss_normalization=normalization).train(training))["loss"].item()
        for normalization in ("tokens", "sentences")
    )
    assert by_sentence * len(PAIRS) == pytest.approx(by_token * 14)


def test_end_normalization_makes_targets_longer_as_trying_all_finds():
    found = []
    for weight in (0.0, 1.5):
        model = build(
            beam_search={"beam_size": NUM_TOKENS, "max_steps": 2}, num_best=NUM_TOKENS, end_normalization=weight
        )
        tokens = [VOCAB.get_token_from_index(number, "target_tokens") for number in range(NUM_TOKENS)]
        words = [token for token in tokens if token != "@end@"]
        plain = build()
        # Of two steps; the source has three tokens.
        scores = {(): stepwise_log_prob(plain, "x y z", []) - weight * 3 / 2}
        scores |= {(word,): stepwise_log_prob(plain, "x y z", [word]) - weight * 3 / 3 for word in words}
        scores |= {
            pair: stepwise_log_prob(plain, "x y z", list(pair), ended=False)
            for pair in itertools.product(words, words)
        }
        predictions = model.make_output_human_readable(model(**tensors(read([("x y z",)]))))["predictions"][0]
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:NUM_TOKENS]
        assert [tuple(one["tokens"]) for one in predictions] == best
        # What is reported is the model's.
        ended = [text for text in best if len(text) < 2]
        reported = {tuple(one["tokens"]): one["log_prob"] for one in predictions}
        assert [reported[text] for text in ended] == pytest.approx(
            [stepwise_log_prob(plain, "x y z", list(text)) for text in ended]
        )
        found.append(sum(map(len, best)))
    assert found[1] > found[0]


def test_a_network_with_encoders_of_its_own_reads_embeddings():
    network = {"type": "separate_encoders", "num_layers": 1}
    model = build(latent_alignment={"type": "variational", "inference_network": network}).train()
    parameters = dict(model.named_parameters())
    run(model)["loss"].backward()
    assert all(parameter.grad is not None for parameter in parameters.values())
    # With the embeddings detached, q's scores depend on its own weights alone.
    network["detach"] = ["memory", "targets"]
    model = build(latent_alignment={"type": "variational", "inference_network": network}).train()
    seen = []
    model._latent_alignment.objective = lambda queries, scores: seen.append(scores) or scores.sum(1)
    run(model)
    seen[0].square().sum().backward()
    learned = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learned == {name for name in parameters if name.startswith("_latent_alignment.inference_network")}


@pytest.mark.parametrize("alignment", [{"type": "soft"}, {"type": "exact"}], ids=lambda block: block["type"])
def test_work_in_pieces_has_the_same_gradient(alignment, monkeypatch):
    losses, gradients = [], []
    for limit in (attentional_seq2seq.MAX_LOGITS, 5 * NUM_TOKENS):
        monkeypatch.setattr(attentional_seq2seq, "MAX_LOGITS", limit)
        model = build(latent_alignment=alignment, dropout=0.4).train()
        torch.manual_seed(1)
        loss = run(model)["loss"]
        loss.backward()
        losses.append(loss.item())
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert losses[0] == pytest.approx(losses[1])
    torch.testing.assert_close(*gradients)


def test_label_smoothing_spreads_probability():
    model = build(label_smoothing=0.3, target_embedding_dim=4, tied_embeddings=True)
    plain = -run(model)["loss"].item()  # in evaluation nothing is smoothed
    # By hand, of the log probabilities of all tokens at each step.
    captured = []
    original = model._output_layer.forward
    model._output_layer.forward = lambda x: captured.append(original(x)) or captured[-1]
    model.train()
    smoothed = run(model)["loss"].item()
    log_probs = captured[0].log_softmax(-1)
    assert smoothed == pytest.approx(-(0.7 * plain + 0.3 * log_probs.mean().item()))


def test_tied_embeddings_are_one_matrix():
    model = build(tied_embeddings=True, target_embedding_dim=4)
    assert model._output_layer.weight.data_ptr() == model._target_embedding.weight.data_ptr()
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    assert shapes.count((NUM_TOKENS, 4)) == 1
    run(model.train())["loss"].backward()


def test_dropout_is_the_same_for_all_alignments_of_a_token():
    """Else the exact marginal of one-hot weights would not be the likelihood of one network."""
    sources = [("x", "a b"), ("y", "b a a")]  # one position: exact is soft
    losses = []
    for alignment in ("soft", "exact"):
        model = build(latent_alignment={"type": alignment}, dropout=0.5).train()
        torch.manual_seed(2)
        losses.append(run(model, sources)["loss"].item())
    assert losses[0] == pytest.approx(losses[1])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"decoder_hidden_dim": 8}, 'dimension 8 \\("decoder_hidden_dim"\\).*dimension 6'),
        ({"attention": {"type": "softmax", "normalize": False}}, '"normalize": false'),
        ({"label_smoothing": 0.1, "latent_alignment": {"type": "exact"}}, '"soft" alone.*ExactAlignment'),
        ({"label_smoothing": 1.0}, "below 1"),
        ({"num_best": 7, "beam_search": {"beam_size": 4}}, "from 1 to the beam's size, 4, but is 7"),
        ({"beam_search": {"beam_size": 7}}, "size, 7, must be at most .* 6"),
        ({"target_units": "letters"}, 'but is "letters"'),
        ({"input_feeding": "states"}, r'"input_feeding" must be one of .*"states"'),
        ({"first_state": "ones"}, r'"first_state" must be one of .*"ones"'),
        ({"loss_normalization": "words"}, r'"loss_normalization" must be one of .*"words"'),
        ({"target_namespace": "source_tokens"}, 'namespace "source_tokens" has no "@start@"'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        build(**changes)


def test_text_metrics_without_targets_are_refused():
    model = build(text_metrics=["bleu"])
    batch = tensors(read())
    batch.pop("metadata")
    with pytest.raises(ConfigurationError, match='"target"'):
        model(**batch)
