import json
import pickle
import random
from copy import deepcopy

import pytest
import torch
from allennlp.common import Params
from allennlp.data import DataLoader, DatasetReader, Vocabulary

import regattn_allennlp.data.data_loaders
import regattn_allennlp.data.dataset_readers  # noqa: F401  (registers the reader)

COUNT = 203
BUCKET = {"type": "bucket", "batch_size": 8, "sorting_keys": ["premise", "hypothesis"]}


@pytest.fixture
def pairs(tmp_path):
    # Premises of 2 to 30 tokens, in no order.
    records = [
        {"sentence1": f"{row} " + "word " * (1 + row * 37 % 29), "sentence2": "a b", "gold_label": "neutral"}
        for row in range(COUNT)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def loader(path, kind="cached", **params):
    reader = DatasetReader.from_params(Params({"type": "entailment", "tokenizer": {"type": "whitespace"}}))
    if kind == "cached":
        params = {"max_instances_in_memory": 48, **params}
    # A copy, for Params empties what it is given.
    params = deepcopy({"type": kind, "quiet": True, **params})
    one = DataLoader.from_params(Params(params), reader=reader, data_path=path)
    one.index_with(Vocabulary.from_instances(one.iter_instances()))
    return one


def rows(batch):
    return [int(metadata["premise"].split()[0]) for metadata in batch["metadata"]]


def passes(one, count):
    return [[row for batch in one for row in rows(batch)] for _ in range(count)]


@pytest.mark.parametrize(
    "params",
    [
        {"batch_sampler": BUCKET},
        {"batch_size": 8, "shuffle": True},
        {"batch_sampler": BUCKET, "num_workers": 2},
        {"batch_size": 8, "shuffle": True, "num_workers": 2},
        {"batch_sampler": BUCKET, "max_instances_in_memory": 10_000},
    ],
    ids=str,
)
def test_every_row_once_in_each_pass_and_the_order_changes(pairs, params):
    one = loader(pairs, **params)
    random.seed(7)
    orders = passes(one, 3)
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert len(set(map(tuple, orders))) == 3


@pytest.mark.parametrize("params", [{"batch_sampler": BUCKET}, {"batch_size": 8, "shuffle": True}], ids=str)
def test_the_order_depends_on_the_random_seed(pairs, params):
    orders = []
    for seed in (7, 7, 8):
        one = loader(pairs, **params)
        random.seed(seed)
        orders.append(passes(one, 2))
    assert orders[0] == orders[1] != orders[2]


def test_the_first_batches_draw_from_all_rows(pairs):
    one = loader(pairs, batch_sampler=BUCKET)
    random.seed(7)
    first = [row for _, batch in zip(range(6), one, strict=False) for row in rows(batch)]
    assert len(first) == 48, "what is in memory at a time"
    assert min(first) < COUNT / 5 and max(first) > COUNT * 4 / 5


def test_bucketed_batches_hold_pairs_of_like_length(pairs):
    one = loader(pairs, batch_sampler={**BUCKET, "padding_noise": 0.0})
    random.seed(7)
    spreads = []
    for batch in one:
        lengths = [len(metadata["premise_tokens"]) for metadata in batch["metadata"]]
        spreads.append(max(lengths) - min(lengths))
    # 48 lengths between 2 and 30 in six buckets: about 5 each. Unsorted batches of eight spread over 20 and more.
    assert sum(spreads) / len(spreads) < 9


@pytest.mark.parametrize(
    "params",
    [{"batch_size": 8}, {"batch_sampler": {**BUCKET, "shuffle": False}, "max_instances_in_memory": 8}],
    ids=str,
)
def test_unshuffled_batches_come_in_the_order_of_the_data(pairs, params):
    one = loader(pairs, **params)
    for batch, start in zip(one, range(0, COUNT, 8), strict=True):
        assert sorted(rows(batch)) == list(range(start, min(start + 8, COUNT)))


def test_batches_are_those_of_the_loader_of_allennlp(pairs):
    cached, in_memory = (loader(pairs, kind, batch_size=8) for kind in ("cached", "multiprocess"))
    for one, other in zip(cached, in_memory, strict=True):
        assert one["metadata"] == other["metadata"]
        assert one["label"].equal(other["label"])
        for field in ("premise", "hypothesis"):
            assert one[field]["tokens"]["tokens"].equal(other[field]["tokens"]["tokens"])


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize(
    "params",
    [
        {"batch_size": 8},
        {"batch_size": 8, "drop_last": True},
        {"batch_sampler": BUCKET},
        {"batch_sampler": {**BUCKET, "drop_last": True}},
        {"batch_sampler": BUCKET, "max_instances_in_memory": 45},
        {"batch_sampler": BUCKET, "batches_per_epoch": 4},
    ],
    ids=str,
)
def test_length_is_the_number_of_batches(pairs, params, workers):
    one = loader(pairs, **params, num_workers=workers)
    assert len(one) == sum(1 for _ in one)


def test_no_length_where_it_depends_on_the_instances(pairs):
    one = loader(pairs, batch_sampler={"type": "max_tokens_sampler", "max_tokens": 100})
    with pytest.raises(TypeError):
        len(one)
    assert sorted(passes(one, 1)[0]) == list(range(COUNT))


def test_batches_per_epoch_go_on_where_the_last_epoch_ended(pairs):
    one = loader(pairs, batch_size=8, batches_per_epoch=15)
    assert passes(one, 2) == [list(range(120)), [*range(120, COUNT), *range(32)]]


def test_what_a_spawned_worker_gets(pairs):
    one = loader(pairs, batch_sampler=BUCKET)
    copy = pickle.loads(pickle.dumps(one))
    orders = []
    for each in (one, copy):
        random.seed(7)
        orders.append(passes(each, 1))
    assert orders[0] == orders[1]


def test_batches_go_to_the_device(pairs):
    one = loader(pairs, batch_size=8)
    one.set_target_device(torch.device("meta"))
    assert next(iter(one))["label"].device.type == "meta"
