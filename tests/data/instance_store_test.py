import gc
import itertools
import json
from collections import defaultdict
from copy import deepcopy

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, DatasetReader, Token, Tokenizer, Vocabulary
from allennlp.data.dataset_readers.dataset_reader import DistributedInfo, WorkerInfo
from allennlp.data.tokenizers import WhitespaceTokenizer

import regattn_allennlp.data.dataset_readers  # noqa: F401  (registers the reader)
from regattn_allennlp.data.instance_store import InstanceStore

TOKENIZED: list[str] = []


@Tokenizer.register("observed")
class ObservedTokenizer(WhitespaceTokenizer):
    """Tells the tests which texts were tokenized."""

    def __init__(self, suffix: str = "") -> None:
        super().__init__()
        self.suffix = suffix

    def tokenize(self, text: str) -> list[Token]:
        TOKENIZED.append(text)
        return super().tokenize(text + self.suffix)


@Tokenizer.register("observed_with_a_generator")
class ObservedTokenizerWithAGenerator(ObservedTokenizer):
    """Has a state that cannot be told."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = (number for number in range(3))


class LocalToken(Token):
    """A kind of token that pickle does not find by its name."""

    __qualname__ = "nowhere.LocalToken"


@Tokenizer.register("of_local_tokens")
class TokenizerOfLocalTokens(WhitespaceTokenizer):
    def tokenize(self, text: str) -> list[Token]:
        return [LocalToken(token.text) for token in super().tokenize(text)]


@pytest.fixture(autouse=True)
def nothing_tokenized():
    TOKENIZED.clear()


def reader(**params):
    # A copy, for Params empties what it is given.
    params = deepcopy({"type": "entailment", "tokenizer": {"type": "observed"}, **params})
    return DatasetReader.from_params(Params(params))


def store(path, **params):
    return InstanceStore(reader(**params), str(path), quiet=True)


def write(path, count=20, premise="premise"):
    labels = ("entailment", "neutral", "contradiction")
    records = [
        {"sentence1": f"{premise} {row}", "sentence2": f"The hypothesis {row} !", "gold_label": labels[row % 3]}
        for row in range(count)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def pairs(tmp_path):
    return write(tmp_path / "pairs.jsonl")


def premises(instances):
    return [instance["metadata"]["premise"] for instance in instances]


def contents(instances):
    return [
        (
            instance["premise"].tokens,
            instance["hypothesis"].tokens,
            instance["label"].label,
            instance["metadata"].metadata,
            sorted(instance["premise"].token_indexers),
        )
        for instance in instances
    ]


def counts(instances):
    counter = defaultdict(lambda: defaultdict(int))
    for instance in instances:
        instance.count_vocab_items(counter)
    return counter


INDEXERS = {
    "words": {"type": "single_id", "namespace": "words", "lowercase_tokens": True},
    "characters": {"type": "characters", "namespace": "characters", "min_padding_length": 3},
}


# ---- the instances are those of the reader ----


@pytest.mark.parametrize(
    "tokenizer", [{"type": "spacy_language", "start_tokens": ["@@"]}, {"type": "whitespace"}, {"type": "character"}]
)
def test_instances_are_those_of_the_reader(pairs, tokenizer):
    expected = contents(reader(tokenizer=dict(tokenizer), token_indexers=INDEXERS).read(str(pairs)))
    for _ in ("written", "found"):
        one = store(pairs, tokenizer=dict(tokenizer), token_indexers=INDEXERS)
        # Tokens compare by all their attributes.
        assert contents(one.read(str(pairs))) == expected
        assert contents(one.instances_to_count()) == expected


def test_vocabulary_counts_are_those_of_the_reader(pairs):
    expected = counts(reader(token_indexers=INDEXERS).read(str(pairs)))
    assert expected["words"]["the"] == 20 and expected["characters"]["T"] == 20 and expected["labels"]["neutral"] == 7
    assert counts(store(pairs, token_indexers=INDEXERS).instances_to_count()) == expected


def test_instances_to_count_make_a_batch(pairs):
    # As `allennlp train --dry-run` does with them in distributed training.
    batches = []
    vocabulary = Vocabulary.from_instances(reader(token_indexers=INDEXERS).read(str(pairs)))
    for instances in (
        reader(token_indexers=INDEXERS).read(str(pairs)),
        store(pairs, token_indexers=INDEXERS).instances_to_count(),
    ):
        batch = Batch(instances)
        batch.index_instances(vocabulary)
        batches.append(batch.as_tensor_dict())
    for field in ("premise", "hypothesis"):
        for indexer, name in (("words", "tokens"), ("characters", "token_characters")):
            assert batches[0][field][indexer][name].equal(batches[1][field][indexer][name])


def test_counting_the_vocabulary_unpickles_no_fields(pairs, monkeypatch):
    one = store(pairs)
    monkeypatch.setattr("regattn_allennlp.data.instance_store._unpickle", lambda pickled: pytest.fail("unpickled"))
    assert counts(one.instances_to_count())["tokens"]["premise"] == 20


# ---- what is tokenized again ----


def test_the_second_time_nothing_is_tokenized(pairs):
    first = contents(store(pairs).read(str(pairs)))
    assert len(TOKENIZED) == 40
    assert contents(store(pairs).read(str(pairs))) == first
    assert len(TOKENIZED) == 40


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer": {"type": "observed", "suffix": " ."}},
        {"tokenizer": {"type": "observed_with_a_generator"}},
        {"token_indexers": {"tokens": {"type": "single_id", "lowercase_tokens": True}}},
        {"label_aliases": {"e": "entailment"}},
        {"labels": ["contradiction", "neutral", "entailment"]},
        {"premise_column": "sentence2"},
        {"max_instances": 7},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_configuration_is_tokenized_anew(pairs, change):
    before = contents(store(pairs).read(str(pairs)))
    TOKENIZED.clear()
    expected = reader(**change)
    assert contents(store(pairs, **change).read(str(pairs))) == contents(expected.read(str(pairs)))
    assert len(TOKENIZED) >= 2 * change.get("max_instances", 20) * 2  # the store's and the expected reader's
    assert contents(store(pairs).read(str(pairs))) == before


def test_a_file_that_changed_is_tokenized_anew(pairs):
    assert premises(store(pairs).read(str(pairs)))[0] == "premise 0"
    write(pairs, premise="PREMISE")  # the same number of bytes
    assert premises(store(pairs).read(str(pairs)))[0] == "PREMISE 0"


def test_only_a_slice_is_tokenized(pairs):
    assert premises(store(f"{pairs}[3:5]").read("")) == ["premise 3", "premise 4"]
    assert len(TOKENIZED) == 4
    assert premises(store(f"{pairs}[4:6]").read("")) == ["premise 4", "premise 5"]


@pytest.mark.parametrize("sample", ["sample:train[:30]", "sample:validation[:30]"])
def test_the_sample_is_found_again(sample):
    first = contents(store(sample).read(""))
    tokenized = len(TOKENIZED)
    assert tokenized == 60 and contents(store(sample).read("")) == first and len(TOKENIZED) == tokenized


def test_a_tokenizer_that_has_seen_texts_has_the_same_fingerprint(pairs):
    # A run that finds the training pairs has tokenized nothing when it comes to the validation pairs.
    other = write(pairs.with_name("other.jsonl"), count=5)
    fresh, used = (reader(tokenizer={"type": "spacy_language"}) for _ in range(2))
    used.fingerprint(str(pairs))
    list(used.read(str(pairs)))
    assert used.fingerprint(str(other)) == fresh.fingerprint(str(other)) != fresh.fingerprint(str(pairs))


def test_the_language_of_the_spacy_tokenizer_is_part_of_the_fingerprint(pairs):
    fingerprints = {
        reader(tokenizer={"type": "spacy_language", **state}).fingerprint(str(pairs))
        for state in ({}, {"language": "de"}, {"start_tokens": ["@@"]}, {"end_tokens": ["@@"]})
    }
    assert len(fingerprints) == 4 and None not in fingerprints


def test_a_state_that_cannot_be_told_is_said_in_a_line_of_the_log(pairs, caplog):
    assert reader(tokenizer={"type": "observed_with_a_generator"}).fingerprint(str(pairs)) is None
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith('No instances are kept for other runs: "tokenizer" of the dataset reader') and (
        "generator" in warning and "\n" not in warning
    )


def test_a_state_that_cannot_be_told_is_for_one_store_alone(pairs):
    params = {"tokenizer": {"type": "observed_with_a_generator"}}
    one, other = store(pairs, **params), store(pairs, **params)
    assert len(TOKENIZED) == 80
    assert premises(one.read("")) == premises(other.read("")) == [f"premise {row}" for row in range(20)]
    folder = one._path.parent
    assert len(list(folder.glob("*.sqlite"))) == 2
    del one, other
    gc.collect()
    assert not list(folder.iterdir())


# ---- what goes wrong ----


def test_an_error_of_the_data_leaves_nothing_behind(pairs):
    whole = pairs.read_text()
    pairs.write_text(whole + '{"sentence1": "a", "sentence2": "b", "gold_label": "maybe"}\n')
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=f"{pairs}, line 21: .*maybe"):
            store(pairs)
    pairs.write_text(whole)
    one = store(pairs)
    assert len(one) == 20
    assert [path for path in one._path.parent.iterdir() if path.suffix != ".lock"] == [one._path]


def test_what_a_killed_process_left_is_overwritten(pairs):
    one = store(pairs)
    one._path.rename(one._path.with_suffix(".incomplete"))
    assert premises(store(pairs).read("")) == [f"premise {row}" for row in range(20)]
    assert len(TOKENIZED) == 80 and not one._path.with_suffix(".incomplete").exists()


def test_a_reader_without_fingerprint(tmp_path):
    with pytest.raises(ConfigurationError, match=r'SequenceTaggingDatasetReader .* fingerprint.*"multiprocess"'):
        InstanceStore(DatasetReader.from_params(Params({"type": "sequence_tagging"})), str(tmp_path))


def test_tokens_that_cannot_be_pickled(pairs):
    with pytest.raises(ConfigurationError, match=r'(?s)LocalToken.*"multiprocess"'):
        store(pairs, tokenizer={"type": "of_local_tokens"})


# ---- orders and shares ----


def test_orders_depend_on_the_seed_alone(pairs):
    one = store(pairs)
    orders = []
    for seed in (None, 1, 1, 2):
        one.shuffle_seed = seed
        orders.append(premises(one.read("")))
    assert orders[0] == [f"premise {row}" for row in range(20)]
    assert orders[1] == orders[2] and len(set(map(tuple, orders))) == 3
    assert all(sorted(order) == sorted(orders[0]) for order in orders)


@pytest.mark.parametrize("seed", [None, 5])
def test_each_row_is_in_the_share_of_one_process(pairs, seed):
    shares = []
    for rank in range(2):
        for worker in range(3):
            one = store(pairs)
            one._set_distributed_info(DistributedInfo(world_size=2, global_rank=rank))
            one._set_worker_info(WorkerInfo(num_workers=3, id=worker))
            one.shuffle_seed = seed
            shares.append(premises(one.read("")))
            assert len(shares[-1]) == len(one)
    assert {len(share) for share in shares} == {3, 4}
    assert sorted(itertools.chain(*shares)) == sorted(f"premise {row}" for row in range(20))
    assert len(TOKENIZED) == 40


def test_one_process_of_a_group_writes_everything(pairs):
    # Where the file is gone when a distributed training starts: the first writes it for all.
    rank_1 = reader()
    rank_1._set_distributed_info(DistributedInfo(world_size=2, global_rank=1))
    assert len(InstanceStore(rank_1, str(pairs), quiet=True)) == 20
    assert len(TOKENIZED) == 40
    assert len(list(rank_1.read(str(pairs)))) == 10, "the reader itself keeps to its share"
