import csv
import itertools
import json
import logging
import pickle

import datasets
import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import END_SYMBOL, START_SYMBOL
from allennlp.data import Batch, DataLoader, DatasetReader, Vocabulary
from allennlp.data.data_loaders import MultiProcessDataLoader
from allennlp.data.dataset_readers.dataset_reader import DistributedInfo, WorkerInfo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import regattn_allennlp.data.data_loaders
import regattn_allennlp.data.dataset_readers  # noqa: F401  (registers the reader)
from regattn_allennlp.data.example import Example
from regattn_allennlp.data.sample_pronunciations import sample_pronunciations

PAIRS = [
    ("ein hund schläft", "a dog sleeps"),
    ('sie sagte "hallo , welt"', 'she said "hello , world"'),
    ("ja", "yes indeed"),
]


def reader(**params):
    return DatasetReader.from_params(Params({"type": "sequence_pairs", **params}))


def pair_of(instance):
    metadata = instance["metadata"].metadata
    return metadata["source"], metadata["target"]


def read(path, **params):
    return [pair_of(instance) for instance in reader(**params).read(str(path))]


def examples(path, **params):
    return list(reader(**params).read_examples(str(path)))


def error_of(path, **params):
    with pytest.raises(ConfigurationError) as error:
        read(path, **params)
    return str(error.value)


def as_records(pairs, columns=("source", "target")):
    return [dict(zip(columns, pair, strict=True)) for pair in pairs]


def write_json_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_tsv(path, rows):
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts_of(field):
    return [token.text for token in field.tokens]


# ---- layouts ----


@pytest.mark.parametrize(
    "layout", [("source", "target"), ("document", "summary"), ("article", "highlights"), ("text", "summary")]
)
@pytest.mark.parametrize("suffix", [".jsonl", ".tsv", ".parquet", "folder"])
def test_known_layouts(tmp_path, layout, suffix):
    path = tmp_path / f"pairs{suffix}"
    records = [{"id": str(number), **record} for number, record in enumerate(as_records(PAIRS, layout))]
    if suffix == ".jsonl":
        write_json_lines(path, records)
    elif suffix == ".tsv":
        write_tsv(path, [("id", *layout), *(record.values() for record in records)])
    elif suffix == ".parquet":
        datasets.Dataset.from_list(records).to_parquet(path)
    else:
        datasets.Dataset.from_list(records).save_to_disk(path)
    assert read(path) == PAIRS
    assert read(f"{path}[1:]") == PAIRS[1:]


def test_configured_columns_win_over_the_known_ones(tmp_path):
    path = write_json_lines(tmp_path / "pairs.jsonl", [{"source": "a", "target": "b", "de": "c", "en": "d"}])
    assert read(path, source_column="de", target_column="en") == [("c", "d")]
    assert read(path, source_column="target", target_column="source") == [("b", "a")]


TRANSLATIONS = [{"id": number, "translation": {"de": de, "en": en}} for number, (de, en) in enumerate(PAIRS)]
OF_TRANSLATION = {"source_column": "translation.de", "target_column": "translation.en"}


@pytest.fixture(params=["JSON lines", "Parquet", "folder", "folder of structs"])
def translations(request, tmp_path):
    """The rows of WMT and IWSLT as the hub has them."""
    if request.param == "JSON lines":
        return write_json_lines(tmp_path / "wmt.jsonl", TRANSLATIONS)
    features = datasets.Features(
        {"id": datasets.Value("int64"), "translation": datasets.Translation(languages=["de", "en"])}
    )
    table = datasets.Dataset.from_list(TRANSLATIONS, features=None if "structs" in request.param else features)
    if request.param == "Parquet":
        table.to_parquet(tmp_path / "wmt.parquet")
        return tmp_path / "wmt.parquet"
    table.save_to_disk(tmp_path / "wmt")
    return tmp_path / "wmt"


def test_columns_within_a_column(translations):
    assert read(translations, **OF_TRANSLATION) == PAIRS
    swapped = {"source_column": "translation.en", "target_column": "translation.de"}
    assert read(f"{translations}[:1]", **swapped) == [PAIRS[0][::-1]]
    assert reader(**OF_TRANSLATION).fingerprint(str(translations)) == reader(**OF_TRANSLATION).fingerprint(
        str(translations)
    )


def test_languages_that_are_not_named_are_told(translations):
    for params in ({}, {"source_column": "translation.de"}):
        message = error_of(translations, **params)
        assert str(translations) in message and "languages de, en" in message
        assert "source_column and target_column" in message and '"translation.de"' in message
    message = error_of(translations, source_column="translation.fr", target_column="translation.en")
    assert '"translation.fr"' in message and "translation.de, translation.en" in message


def test_a_translation_into_one_language_missing_in_a_line(tmp_path):
    path = write_json_lines(tmp_path / "wmt.jsonl", [*TRANSLATIONS, {"translation": {"de": "nur dies"}}])
    assert f'{path}, line 4: "translation.en" is missing' in error_of(path, **OF_TRANSLATION)
    assert examples(path, **OF_TRANSLATION)[-1] == Example({"source": "nur dies"}, None)


# ---- headers ----


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
def test_table_without_a_header(tmp_path, suffix):
    path = tmp_path / f"pairs{suffix}"
    with open(path, "w", newline="", encoding="utf-8") as file:
        if suffix == ".csv":
            csv.writer(file).writerows(PAIRS)
        else:
            file.writelines("\t".join(pair) + "\n" for pair in PAIRS)
    assert read(path) == PAIRS
    assert read(path, header=False) == PAIRS
    assert read(f"{path}[:1]") == PAIRS[:1]
    assert [example.gold for example in examples(path)] == [target for _, target in PAIRS]
    assert read(path, source_column="target", target_column="source") == [pair[::-1] for pair in PAIRS]


@pytest.mark.parametrize("header, skipped", [(None, 1), (True, 1), (False, 0)])
def test_a_first_line_that_names_the_columns(tmp_path, header, skipped):
    rows = [("article", "highlights"), *PAIRS]
    path = write_tsv(tmp_path / "pairs.tsv", rows)
    assert read(path, header=header) == rows[skipped:]
    assert [example.gold for example in examples(path, header=header)] == [gold for _, gold in rows[skipped:]]


def test_a_first_line_is_a_header_only_by_all_of_its_columns(tmp_path):
    rows = [("source", "Quelle"), *PAIRS]
    path = write_tsv(tmp_path / "pairs.tsv", rows)
    assert read(path) == rows
    assert len(examples(path)) == len(rows)


def test_a_header_of_given_columns(tmp_path):
    path = write_tsv(tmp_path / "pairs.tsv", [("de", "en"), *PAIRS])
    assert read(path, source_column="de", target_column="en") == PAIRS
    # Not known for one, it is a pair.
    assert read(path) == [("de", "en"), *PAIRS]
    message = error_of(path, source_column="de", target_column="english")
    assert 'no column "english"' in message and "the columns are: de, en." in message
    assert "the columns are: source, target." in error_of(path, source_column="de", header=False)


def test_three_columns_have_to_be_named(tmp_path):
    path = write_tsv(tmp_path / "pairs.tsv", [("1", *pair) for pair in PAIRS])
    assert "the columns are: 1, ein hund schläft, a dog sleeps" in error_of(path)
    message = error_of(path, header=False)
    assert f"{path}: 3 fields" in message and "2: source, target" in message


def test_wrong_number_of_fields_without_a_header(tmp_path):
    path = write_tsv(tmp_path / "pairs.tsv", [*PAIRS, ("a", "b", "c")])
    message = error_of(path)
    assert f"{path}, line 4: 3 fields" in message and "the first line has 2" in message


words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1)


# The fixtures are shared by all examples, and may be: each example has a file of its own.
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(words, words), min_size=1))
def test_any_pairs_round_trip_through_a_table_without_header(tmp_path_factory, pairs):
    path = write_tsv(tmp_path_factory.mktemp("round_trip") / "pairs.tsv", pairs)
    instances = list(reader().read(str(path)))
    assert [pair_of(instance) for instance in instances] == pairs
    assert [texts_of(instance["source_tokens"]) for instance in instances] == [[source] for source, _ in pairs]


# ---- missing targets ----


@pytest.mark.parametrize("target", ["", " \u00a0", None])
def test_a_missing_target_is_a_mistake_in_training_alone(tmp_path, target):
    path = write_json_lines(tmp_path / "pairs.jsonl", [*as_records(PAIRS), {"source": "a", "target": target}])
    assert f'{path}, line 4: "target" is {target!r}' in error_of(path)
    assert examples(path) == [
        *(Example({"source": source}, target) for source, target in PAIRS), Example({"source": "a"}, None)
    ]  # fmt: skip


@pytest.mark.parametrize("empty", ["", " \u00a0", None])
def test_pairs_that_lack_a_text_may_be_skipped(tmp_path, caplog, empty):
    pairs = [("a", empty), *PAIRS, (empty, "b"), (empty, empty)]
    path = write_json_lines(tmp_path / "pairs.jsonl", as_records(pairs))
    with caplog.at_level(logging.INFO, logger="regattn_allennlp"):
        assert read(path, skip_empty=True) == PAIRS
    message = f"Skipped 3 pairs without a source or a target in {path}."
    assert [record.getMessage() for record in caplog.records if "Skipped" in record.getMessage()] == [message]
    shares = []
    for worker in range(3):
        one = reader(skip_empty=True)
        one._set_worker_info(WorkerInfo(num_workers=3, id=worker))
        shares.append([pair_of(instance) for instance in one.read(str(path))])
    assert shares == [[pair] for pair in PAIRS]


def test_data_whose_pairs_are_all_skipped_are_refused(tmp_path):
    path = write_json_lines(tmp_path / "pairs.jsonl", as_records([("a", ""), ("", "b"), *PAIRS]))
    message = f"{path}: all 2 pairs to read were skipped, for they lack a source or a target"
    assert message in error_of(f"{path}[:2]", skip_empty=True)


@pytest.mark.parametrize("skip_empty", [True, False])
def test_to_predict_each_source_is_read_with_its_target_if_it_has_one(tmp_path, skip_empty):
    without = [{"source": "e", "target": ""}, {"source": "f", "target": " \t"}, {"source": "g", "target": None}]
    path = write_json_lines(tmp_path / "pairs.jsonl", [*as_records(PAIRS), *without, {"source": "h"}])
    instances = list(reader(skip_empty=skip_empty).to_predict().read(str(path)))
    expected = [*PAIRS, *((source, None) for source in "efgh")]
    assert [(one["metadata"]["source"], one["metadata"].metadata.get("target")) for one in instances] == expected
    assert ["target_tokens" in one.fields for one in instances] == [target is not None for _, target in expected]


def test_to_predict_a_target_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "pairs.parquet"
    datasets.Dataset.from_dict({"source": ["a", "b"], "target": [["c"], ["d"]]}).to_parquet(path)
    with pytest.raises(ConfigurationError, match=r"pairs\.parquet, row 0 .*: \"target\" is \['c'\], and should be"):
        list(reader().to_predict().read(str(path)))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".tsv"])
def test_sources_alone(tmp_path, suffix):
    path = tmp_path / f"sources{suffix}"
    if suffix == ".jsonl":
        write_json_lines(path, [{"source": source} for source, _ in PAIRS])
    elif suffix == ".parquet":
        datasets.Dataset.from_list([{"source": source} for source, _ in PAIRS]).to_parquet(path)
    else:
        write_tsv(path, [(source,) for source, _ in PAIRS])
    assert examples(path) == [Example({"source": source}, None) for source, _ in PAIRS]
    assert "source_column and target_column" in error_of(path)


@pytest.mark.parametrize("source", ["", None, 5])
def test_a_source_is_always_needed(tmp_path, source):
    path = write_json_lines(tmp_path / "pairs.jsonl", [*as_records(PAIRS), {"source": source, "target": "b"}])
    assert f'{path}, line 4: "source" is {source!r}' in error_of(path)
    with pytest.raises(ConfigurationError, match="line 4"):
        examples(path)


# ---- instances ----


def test_fields():
    instance = reader().text_to_instance("ein  hund", "a dog")
    assert texts_of(instance["source_tokens"]) == ["ein", "hund"]
    assert texts_of(instance["target_tokens"]) == [START_SYMBOL, "a", "dog", END_SYMBOL]
    assert instance["metadata"].metadata == {
        "source": "ein  hund",
        "source_tokens": ["ein", "hund"],
        "target": "a dog",
        "target_tokens": ["a", "dog"],
    }
    instance = reader().text_to_instance("ein hund")
    assert set(instance.fields) == {"source_tokens", "metadata"}
    assert set(instance["metadata"].metadata) == {"source", "source_tokens"}


def test_tokenizers_and_indexers_of_each_side():
    one = reader(source_tokenizer={"type": "character"})
    assert texts_of(one.text_to_instance("ab", "cd")["target_tokens"])[1:-1] == ["c", "d"]
    one = reader(
        source_tokenizer={"type": "character"},
        target_tokenizer={"type": "whitespace"},
        source_token_indexers={"letters": {"type": "single_id", "namespace": "letters"}},
    )
    instance = one.text_to_instance("ab", "cd ef")
    assert texts_of(instance["source_tokens"]) == ["a", "b"]
    assert texts_of(instance["target_tokens"])[1:-1] == ["cd", "ef"]
    one.apply_token_indexers(instance)
    vocabulary = Vocabulary.from_instances([instance])
    assert set(vocabulary.get_token_to_index_vocabulary("letters")) >= {"a", "b"}
    assert set(vocabulary.get_token_to_index_vocabulary("target_tokens")) >= {"cd", "ef", START_SYMBOL, END_SYMBOL}


def test_namespaces_by_default():
    one = reader()
    instances = [one.text_to_instance(*pair) for pair in PAIRS]
    for instance in instances:
        one.apply_token_indexers(instance)
    vocabulary = Vocabulary.from_instances(instances)
    assert "hund" in vocabulary.get_token_to_index_vocabulary("source_tokens")
    assert "dog" not in vocabulary.get_token_to_index_vocabulary("source_tokens")
    batch = Batch(instances)
    batch.index_instances(vocabulary)
    tensors = batch.as_tensor_dict()
    assert tensors["source_tokens"]["tokens"]["tokens"].shape == (3, 5)
    assert tensors["target_tokens"]["tokens"]["tokens"].shape == (3, 7)


def test_long_texts_are_cut_and_counted(tmp_path, caplog):
    path = write_tsv(tmp_path / "pairs.tsv", [("a b c d", "e f"), ("g h", "i j k"), ("l m n o p", "q")])
    with caplog.at_level(logging.INFO, logger="regattn_allennlp"):
        instances = list(reader(max_source_tokens=3, max_target_tokens=2).read(str(path)))
    assert [texts_of(instance["source_tokens"]) for instance in instances] == [list("abc"), list("gh"), list("lmn")]
    assert [texts_of(instance["target_tokens"])[1:-1] for instance in instances] == [list("ef"), list("ij"), ["q"]]
    assert all(texts_of(instance["target_tokens"])[-1] == END_SYMBOL for instance in instances)
    assert instances[1]["metadata"]["target"] == "i j k" and instances[1]["metadata"]["target_tokens"] == ["i", "j"]
    assert sorted(record.getMessage() for record in caplog.records if record.getMessage().startswith("Cut")) == [
        f"Cut 1 targets of {path} to max_target_tokens.",
        f"Cut 2 sources of {path} to max_source_tokens.",
    ]


@pytest.mark.parametrize("name", ["max_source_tokens", "max_target_tokens"])
def test_texts_cannot_be_cut_to_nothing(name):
    with pytest.raises(ConfigurationError, match=f"{name} must be 1 or more, but is 0"):
        reader(**{name: 0})


def test_a_text_without_tokens(tmp_path):
    path = write_json_lines(tmp_path / "pairs.jsonl", as_records([*PAIRS, ("a", "...")]))

    class NoPunctuation:
        def tokenize(self, text):
            return [] if text == "..." else reader()._source_tokenizer.tokenize(text)

    one = reader()
    one._target_tokenizer = NoPunctuation()
    with pytest.raises(ConfigurationError) as error:
        list(one.read(str(path)))
    assert f"{path}, line 4: the target '...' has no tokens" in str(error.value)


def test_sample():
    assert read("sample:validation") == [tuple(pair) for pair in sample_pronunciations("validation")]
    assert read("sample:train[:5]") == [tuple(pair) for pair in sample_pronunciations("train")[:5]]
    assert "validation" in error_of("sample:tset")


# ---- shares of several processes ----


@pytest.fixture
def long_file(tmp_path):
    return write_tsv(tmp_path / "pairs.tsv", [(f"source {number}", f"target {number}") for number in range(2501)])


def test_each_pair_is_read_by_exactly_one_process(long_file):
    shares = []
    for rank in range(2):
        for worker in range(2):
            one = reader()
            one._set_distributed_info(DistributedInfo(world_size=2, global_rank=rank))
            one._set_worker_info(WorkerInfo(num_workers=2, id=worker))
            shares.append([pair_of(instance) for instance in one.read(str(long_file))])
    assert sorted(map(len, shares)) == [625, 625, 625, 626]
    assert sorted(itertools.chain(*shares)) == sorted(read(long_file))
    assert read(long_file, max_instances=7) == read(long_file)[:7]


def test_workers_of_a_data_loader(long_file):
    loader = MultiProcessDataLoader(reader(), str(long_file), batch_size=32, num_workers=2, quiet=True)
    instances = list(loader.iter_instances())
    assert sorted(map(pair_of, instances)) == sorted(read(long_file))
    loader.index_with(Vocabulary.from_instances(instances))
    assert next(iter(loader))["target_tokens"]["tokens"]["tokens"].shape == (32, 4)


def test_the_cached_data_loader_gives_the_same_instances(long_file):
    params = {"type": "cached", "batch_size": 32, "quiet": True}
    loader = DataLoader.from_params(Params(params), reader=reader(), data_path=str(long_file))
    instances = list(loader.iter_instances())
    assert [pair_of(instance) for instance in instances] == read(long_file)
    loader.index_with(Vocabulary.from_instances(instances))
    assert next(iter(loader))["source_tokens"]["tokens"]["tokens"].shape == (32, 2)


def test_the_fingerprint_tells_the_instances(long_file, tmp_path):
    fingerprints = {
        reader(**params).fingerprint(str(path))
        for path in (long_file, f"{long_file}[:7]")
        for params in (
            {},
            {"max_source_tokens": 1},
            {"target_tokenizer": {"type": "character"}},
            {"source_column": "target", "target_column": "source"},
        )
    }
    assert len(fingerprints) == 8
    assert pickle.loads(pickle.dumps(reader())).fingerprint(str(long_file)) in fingerprints
