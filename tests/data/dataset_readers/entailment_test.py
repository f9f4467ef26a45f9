import csv
import itertools
import json
import logging
import pickle
import zipfile

import datasets
import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, DatasetReader, Vocabulary
from allennlp.data.data_loaders import MultiProcessDataLoader
from allennlp.data.data_loaders.multiprocess_data_loader import WorkerError
from allennlp.data.dataset_readers.dataset_reader import DistributedInfo, WorkerInfo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertTokenizerFast

import regattn_allennlp.data.dataset_readers  # noqa: F401  (registers the reader)
from regattn_allennlp.data.data_loaders import CachedDataLoader
from regattn_allennlp.data.example import Example

PAIRS = [
    ("Two women are hugging.", "Women are close to each other.", "entailment"),
    ("A man plays the guitar.", "The man is famous.", "neutral"),
    ('She said "hello, world" to us.', "Nobody spoke.", "contradiction"),
]
SNLI_COLUMNS = ("sentence1", "sentence2", "gold_label")
HUB_COLUMNS = ("premise", "hypothesis", "label")


def reader(**params):
    return DatasetReader.from_params(Params({"type": "entailment", "tokenizer": {"type": "whitespace"}, **params}))


def pair_of(instance):
    metadata = instance["metadata"].metadata
    return metadata["premise"], metadata["hypothesis"], instance["label"].label


def read(path, **params):
    return [pair_of(instance) for instance in reader(**params).read(str(path))]


def error_of(path, **params):
    with pytest.raises(ConfigurationError) as error:
        read(path, **params)
    return str(error.value)


def as_records(pairs, columns=SNLI_COLUMNS):
    return [dict(zip(columns, pair, strict=True)) for pair in pairs]


def write_json_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def numbered_pairs(count):
    return [(f"premise {number}", f"hypothesis {number}", "neutral") for number in range(count)]


# ---- what can be read ----


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_json_lines(tmp_path, suffix):
    assert read(write_json_lines(tmp_path / f"pairs{suffix}", as_records(PAIRS))) == PAIRS


def test_csv_with_quotes_commas_and_line_ends_in_a_field(tmp_path):
    pairs = [*PAIRS, ("Over\ntwo lines, 'quoted'", "One line.", "neutral")]
    with open(tmp_path / "pairs.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HUB_COLUMNS, *pairs])
    assert read(tmp_path / "pairs.csv") == pairs


def test_tsv_as_sick_writes_it(tmp_path):
    (tmp_path / "sick.tsv").write_text(
        "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n"
        '1\tHe reads a "quoted word\tHe reads\t4.5\tENTAILMENT\n'
        '2\t"A whole sentence"\tIt\'s whole\t3\tNEUTRAL\n'
    )
    assert read(tmp_path / "sick.tsv") == [
        ('He reads a "quoted word', "He reads", "entailment"),
        ('"A whole sentence"', "It's whole", "neutral"),
    ]


def test_tsv_as_multinli_writes_it(tmp_path):
    header = ["index", "promptID", "genre", "sentence1_parse", "sentence1", "sentence2", "label1", "gold_label"]
    row = ["0", "31193", "government", "(ROOT)", "Conceptually, yes.", "No.", "neutral", "contradiction"]
    (tmp_path / "dev.tsv").write_text("\t".join(header) + "\n" + "\t".join(row) + "\n")
    assert read(tmp_path / "dev.tsv") == [("Conceptually, yes.", "No.", "contradiction")]


def test_parquet_with_named_labels(tmp_path):
    features = datasets.Features(
        # Not in the order of the reader's own labels: the names of the column have to be used.
        {"label": datasets.ClassLabel(names=["contradiction", "entailment", "neutral"])}
        | dict.fromkeys(HUB_COLUMNS[:2], datasets.Value("string"))
    )
    folder = tmp_path / "folder [1] *"  # the datasets library takes such a name for a pattern
    folder.mkdir()
    datasets.Dataset.from_list(as_records(PAIRS, HUB_COLUMNS), features=features).to_parquet(folder / "pairs.parquet")
    assert read(folder / "pairs.parquet") == PAIRS


def test_folder_of_one_dataset(tmp_path):
    datasets.Dataset.from_list(as_records(PAIRS, HUB_COLUMNS)).save_to_disk(tmp_path / "folder")
    assert read(tmp_path / "folder") == PAIRS
    assert read(f"{tmp_path}/folder[1:]") == PAIRS[1:]


def test_folder_with_splits(tmp_path):
    datasets.DatasetDict(
        train=datasets.Dataset.from_list(as_records(PAIRS)), dev=datasets.Dataset.from_list(as_records(PAIRS[:1]))
    ).save_to_disk(tmp_path / "folder")
    assert read(f"{tmp_path}/folder:train") == PAIRS
    assert read(f"{tmp_path}/folder:dev") == PAIRS[:1]
    assert read(f"{tmp_path}/folder:train[-1:]") == PAIRS[-1:]


class TinyPairs(datasets.GeneratorBasedBuilder):
    """A data set of the hub, as far as a cache of the datasets library holds it."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name="mnli")]  # noqa: RUF012

    def _info(self):
        label = datasets.ClassLabel(names=["entailment", "neutral", "contradiction"])
        sentence = datasets.Value("string")
        return datasets.DatasetInfo(
            features=datasets.Features({"premise": sentence, "hypothesis": sentence, "label": label})
        )

    def _split_generators(self, dl_manager):
        return [
            datasets.SplitGenerator("train", gen_kwargs={"pairs": PAIRS}),
            datasets.SplitGenerator("validation_matched", gen_kwargs={"pairs": [("no", "label", -1), *PAIRS[1:]]}),
        ]

    def _generate_examples(self, pairs):
        yield from enumerate(as_records(pairs, HUB_COLUMNS))


def test_dataset_of_the_hub():
    # Offline, the datasets library takes what it fetched before from its cache.
    TinyPairs(dataset_name="tiny_pairs", repo_id="example/tiny_pairs", hash="0").download_and_prepare()
    assert read("example/tiny_pairs:train") == PAIRS
    assert read("example/tiny_pairs:train[:34%]", config_name="mnli") == PAIRS[:1]
    assert read("example/tiny_pairs:validation_matched", config_name="mnli") == PAIRS[1:]
    assert "validation_matched" in error_of("example/tiny_pairs:tset")
    assert "other" in error_of("example/tiny_pairs:train", config_name="other")


def test_sample_corpus():
    train = read("sample:train[:10%]")
    assert {label for _, _, label in train} == {"entailment", "neutral", "contradiction"}
    assert read("sample:train[:5]") == train[:5]
    assert "'tset'" in error_of("sample:tset") and "validation" in error_of("sample:tset")


def test_file_in_an_archive(tmp_path):
    write_json_lines(tmp_path / "dev.jsonl", as_records(PAIRS))
    with zipfile.ZipFile(tmp_path / "snli.zip", "w") as archive:
        archive.write(tmp_path / "dev.jsonl", "snli_1.0/dev.jsonl")
    assert read(f"{tmp_path}/snli.zip!snli_1.0/dev.jsonl") == PAIRS
    assert "tset.jsonl" in error_of(f"{tmp_path}/snli.zip!snli_1.0/tset.jsonl")


@pytest.mark.parametrize(
    "brackets, expected",
    [("[:3]", range(3)), ("[5:8]", range(5, 8)), ("[-2:]", range(18, 20)), ("[:10%]", range(2)), ("[:99]", range(20))],
)
def test_slices(tmp_path, brackets, expected):
    pairs = numbered_pairs(20)
    path = write_json_lines(tmp_path / "pairs.jsonl", as_records(pairs))
    assert read(f"{path}{brackets}") == [pairs[index] for index in expected]


def test_a_file_that_changed_is_read_again(tmp_path):
    path = write_json_lines(tmp_path / "pairs.jsonl", as_records([("before", "x", "neutral")]))
    assert read(path) == [("before", "x", "neutral")]
    # The same number of bytes.
    write_json_lines(path, as_records([("after!", "x", "neutral")]))
    assert read(path) == [("after!", "x", "neutral")]


def test_the_cache_depends_on_the_columns(tmp_path):
    path = write_json_lines(tmp_path / "pairs.jsonl", [{**as_records(PAIRS)[0], "other": "Another."}])
    assert read(path) == PAIRS[:1]
    assert read(path, premise_column="other") == [("Another.", *PAIRS[0][1:])]


# ---- characters ----


def test_line_separators_within_a_sentence_end_no_line(tmp_path):
    pair = ("a\u2028b\u2029c\x85d\x0be", "f \U0001f469\u200d\U0001f680 g", "neutral")
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(as_records([pair])[0], ensure_ascii=False), encoding="utf-8")
    assert read(path) == [pair]


@pytest.mark.parametrize("suffix, separator", [(".csv", ","), (".tsv", "\t")])
def test_tables_with_byte_order_mark_windows_line_ends_and_blank_lines(tmp_path, suffix, separator):
    lines = [separator.join(row) for row in (HUB_COLUMNS, ("a b", "c", "neutral"))]
    path = tmp_path / f"pairs{suffix}"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([lines[0], "", lines[1], "", ""]).encode())
    assert read(path) == [("a b", "c", "neutral")]


def test_json_lines_with_byte_order_mark_windows_line_ends_and_blank_lines(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n".join(json.dumps(record).encode() for record in as_records(PAIRS)))
    assert read(path) == PAIRS


sentences = st.text(min_size=1).filter(str.strip)
labels = st.sampled_from(["entailment", "neutral", "contradiction"])


# The fixtures are shared by all examples, and may be: each example has a file of its own.
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(sentences, sentences, labels), min_size=1), st.booleans())
def test_any_sentences_round_trip_through_json_lines(tmp_path_factory, pairs, ensure_ascii):
    path = tmp_path_factory.mktemp("round_trip") / "pairs.jsonl"
    path.write_bytes(
        "\n".join(json.dumps(record, ensure_ascii=ensure_ascii) for record in as_records(pairs)).encode("utf-8")
    )
    assert read(path) == pairs


# ---- labels and columns ----


def test_pairs_without_gold_label_are_skipped_and_counted(tmp_path, caplog):
    records = as_records([("a", "b", "-"), *PAIRS, ("c", "d", "-"), ("e", "f", -1)])
    path = write_json_lines(tmp_path / "snli.jsonl", records)
    with caplog.at_level(logging.INFO, logger="regattn_allennlp"):
        assert read(path) == PAIRS
    assert [record.getMessage() for record in caplog.records if "gold label" in record.getMessage()] == [
        f"Skipped 3 pairs without a gold label in {path}."
    ]


@pytest.mark.parametrize("loader", [None, MultiProcessDataLoader, CachedDataLoader])
def test_data_whose_pairs_are_all_skipped_are_refused(tmp_path, loader):
    path = write_json_lines(tmp_path / "test.jsonl", as_records([("a", "b", "-"), ("c", "d", -1), *PAIRS]))
    message = f"{path}: all 2 pairs to read were skipped, for they have no gold label"
    if loader is None:
        assert message in error_of(f"{path}[:2]")
        return
    for workers in 0, 2:
        with pytest.raises((ConfigurationError, WorkerError), match=message):
            loader(reader(), f"{path}[:2]", batch_size=2, num_workers=workers, quiet=True)


@pytest.mark.parametrize("label", ["entailment", "-", "an unknown one", None, "no column"])
def test_to_predict_each_pair_is_read_without_its_label(tmp_path, label):
    pairs = [(f"premise {number}", f"hypothesis {number}", label) for number in range(5)]
    columns = SNLI_COLUMNS[:2] if label == "no column" else SNLI_COLUMNS
    records = [dict(zip(columns, pair, strict=False)) for pair in pairs]
    path = write_json_lines(tmp_path / "pairs.jsonl", records)
    for_training = reader()
    instances = list(for_training.to_predict().read(str(path)))
    assert [instance["metadata"]["premise"] for instance in instances] == [premise for premise, _, _ in pairs]
    assert not any("label" in instance.fields for instance in instances)
    assert [instance.place for instance in instances] == [f"line {number}" for number in range(1, 6)]
    # The reader itself stays as it was.
    if label == "entailment":
        assert all("label" in instance.fields for instance in for_training.read(str(path)))
    else:
        assert str(path) in error_of(path)


def test_nothing_is_logged_when_nothing_is_skipped(tmp_path, caplog):
    path = write_json_lines(tmp_path / "snli.jsonl", as_records(PAIRS))
    with caplog.at_level(logging.INFO, logger="regattn_allennlp"):
        read(path)
    assert not [record for record in caplog.records if record.name.startswith("regattn_allennlp")]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_integer_is_an_index_into_the_labels(tmp_path, suffix):
    records = as_records([("a", "b", 2), ("c", "d", 0), ("e", "f", -1)], HUB_COLUMNS)
    path = tmp_path / f"pairs{suffix}"
    if suffix == ".jsonl":
        write_json_lines(path, records)
    else:
        datasets.Dataset.from_list(records).to_parquet(path)
    assert read(path) == [("a", "b", "contradiction"), ("c", "d", "entailment")]
    assert read(path, labels=["yes", "perhaps", "no"]) == [("a", "b", "no"), ("c", "d", "yes")]


def test_aliases(tmp_path):
    path = write_json_lines(tmp_path / "anli.jsonl", as_records([("a", "b", "E"), ("c", "d", "n")]))
    aliases = {"e": "entailment", "n": "neutral", "c": "contradiction"}
    assert [label for _, _, label in read(path, label_aliases=aliases)] == ["entailment", "neutral"]


def test_configured_columns_win_over_the_known_ones(tmp_path):
    record = {"premise": "no", "hypothesis": "b", "label": "no", "context": "a", "verdict": "neutral"}
    path = write_json_lines(tmp_path / "pairs.jsonl", [record])
    assert read(path, premise_column="context", label_column="verdict") == [("a", "b", "neutral")]


def test_gold_answers_are_found_beside_the_texts_of_another_layout(tmp_path):
    records = [{"premise": "a", "hypothesis": "b", "gold_label": "neutral"}]
    path = write_json_lines(tmp_path / "mixed.jsonl", records)
    assert read(path) == [("a", "b", "neutral")]
    assert [example.gold for example in reader().read_examples(str(path))] == ["neutral"]


# ---- items as they stand in the source ----


def test_examples_with_and_without_labels(tmp_path):
    pairs = [*PAIRS, ("a", "b", "-"), ("c", "d", None), ("e", "f", "ENTAILMENT")]
    path = write_json_lines(tmp_path / "pairs.jsonl", as_records(pairs))
    expected = [*(label for _, _, label in PAIRS), None, None, "entailment"]
    assert list(reader().read_examples(str(path))) == [
        Example({"premise": premise, "hypothesis": hypothesis}, gold)
        for (premise, hypothesis, _), gold in zip(pairs, expected, strict=True)
    ]


def test_examples_of_a_source_without_labels(tmp_path):
    path = write_json_lines(tmp_path / "pairs.jsonl", [{"premise": "a", "hypothesis": "b"}])
    assert list(reader().read_examples(path)) == [Example({"premise": "a", "hypothesis": "b"}, None)]
    assert "no known layout of premise, hypothesis and label" in error_of(path)


# ---- what is wrong with the data ----


def test_unknown_label(tmp_path):
    path = write_json_lines(tmp_path / "pairs.jsonl", as_records([*PAIRS, ("a", "b", "Maybe")]))
    message = error_of(path)
    assert f"{path}, line 4" in message and "\"gold_label\" is 'Maybe'" in message
    assert "entailment, neutral, contradiction" in message


def test_unknown_name_of_a_class_label(tmp_path):
    table = datasets.Dataset.from_list(as_records([("a", "b", 1)], HUB_COLUMNS))
    names = datasets.ClassLabel(names=["entailment", "not_entailment"])
    table.cast_column("label", names).save_to_disk(tmp_path / "rte")
    assert f"{tmp_path}/rte, row 0" in error_of(tmp_path / "rte") and "not_entailment" in error_of(tmp_path / "rte")
    assert read(tmp_path / "rte", labels=["entailment", "not_entailment"]) == [("a", "b", "not_entailment")]


def test_a_label_alias_for_no_label():
    with pytest.raises(ConfigurationError, match='"e" stands for "entailed"'):
        reader(label_aliases={"e": "entailed"})


def test_missing_columns_are_told_with_those_that_exist(tmp_path):
    path = write_json_lines(tmp_path / "pairs.jsonl", [{"text": "a", "sentence2": "b", "gold_label": "neutral"}])
    message = error_of(path)
    assert str(path) in message and "text, sentence2, gold_label" in message and "premise_column" in message
    assert '"txet"' in error_of(path, premise_column="txet")
    assert read(path, premise_column="text") == [("a", "b", "neutral")]


def test_json_object_without_a_key(tmp_path):
    records = [*as_records(PAIRS), {"sentence1": "a", "gold_label": "neutral"}]
    path = write_json_lines(tmp_path / "pairs.jsonl", records)
    assert f'{path}, line 4: "sentence2" is missing; there are: sentence1, gold_label' in error_of(path)


@pytest.mark.parametrize("sentence", ["", " \t\u00a0", None, 17, ["a"], "half a pair: \ud83d"])
@pytest.mark.parametrize("column", ["sentence1", "sentence2"])
def test_sentence_that_is_none_in_json(tmp_path, sentence, column):
    records = as_records(PAIRS)
    records[1][column] = sentence
    path = write_json_lines(tmp_path / "pairs.jsonl", records)
    assert f'{path}, line 2: "{column}" is {sentence!r}' in error_of(path)


@pytest.mark.parametrize("premises", [["a", ""], ["a", None], [1, 2]])
def test_sentence_that_is_none_in_parquet(tmp_path, premises):
    path = tmp_path / "pairs.parquet"
    columns = {"premise": premises, "hypothesis": ["a", "b"], "label": ["neutral", "neutral"]}
    datasets.Dataset.from_dict(columns).to_parquet(path)
    row = 0 if premises == [1, 2] else 1
    assert f'{path}, row {row} (counted from 0): "premise" is {premises[row]!r}' in error_of(path)


def test_rows_of_a_slice_are_counted_from_the_start_of_the_data(tmp_path):
    datasets.Dataset.from_list(as_records([*PAIRS, ("a", "", "neutral")])).save_to_disk(tmp_path / "folder")
    assert f"{tmp_path}/folder, row 3" in error_of(f"{tmp_path}/folder[2:]")


@pytest.mark.parametrize("line, problem", [('{"sentence1": "a"', "not JSON"), ('["a", "b"]', "not a JSON object")])
@pytest.mark.parametrize("lines_before", [0, 2])
def test_malformed_json_line(tmp_path, line, problem, lines_before):
    path = write_json_lines(tmp_path / "pairs.jsonl", as_records(PAIRS[:lines_before]))
    with open(path, "a") as file:
        file.write(line + "\n")
    message = error_of(path)
    assert f"{path}, line {lines_before + 1}: {problem}" in message and line in message


@pytest.mark.parametrize("row", [("a", "b"), ("a", "b", "neutral", "too many")])
@pytest.mark.parametrize("suffix, separator", [(".csv", ","), (".tsv", "\t")])
def test_wrong_number_of_fields(tmp_path, suffix, separator, row):
    path = tmp_path / f"pairs{suffix}"
    path.write_text("\n".join(separator.join(fields) for fields in (HUB_COLUMNS, ("c", "d", "neutral"), row)))
    message = error_of(path)
    assert f"{path}, line 3: {len(row)} fields" in message and "header has 3" in message and row[-1] in message


def test_line_of_a_record_after_one_that_goes_over_two_lines(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('premise,hypothesis,label\n"a\nb",c,neutral\nd,e,perhaps\n')
    assert f"{path}, line 4" in error_of(path)


def test_quotation_mark_that_is_never_closed(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('premise,hypothesis,label\na,b,neutral\n"c,d,neutral\ne,f,neutral\n')
    assert f"{path}, line 3" in error_of(path)


def test_line_that_is_not_utf_8(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes("premise\thypothesis\tlabel\na\tb\tneutral\ncaf\u00e9\tb\tneutral\n".encode("latin-1"))
    assert f"{path}, line 3: not UTF-8" in error_of(path)


@pytest.mark.parametrize("content", ["", "premise,hypothesis,label\n"])
def test_file_without_pairs(tmp_path, content):
    (tmp_path / "pairs.csv").write_text(content)
    message = error_of(tmp_path / "pairs.csv")
    assert f"{tmp_path}/pairs.csv: the file holds no pairs: it is empty, or has but a header." in message


def test_file_that_is_no_parquet(tmp_path):
    (tmp_path / "pairs.parquet").write_text("premise")
    assert f"{tmp_path}/pairs.parquet" in error_of(tmp_path / "pairs.parquet")


# ---- what is wrong with the path ----


def test_misspelled_file_name(tmp_path):
    write_json_lines(tmp_path / "train.jsonl", as_records(PAIRS))
    message = error_of(tmp_path / "trian.jsonl")
    assert f'"{tmp_path}/trian.jsonl"' in message and f"Is {tmp_path}/train.jsonl meant?" in message


def test_misspelled_file_name_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert '"trian.jsonl"' in error_of("trian.jsonl")
    assert '"trian.jsonl:train" is neither a file nor a folder' in error_of("trian.jsonl:train")


def test_unknown_suffix(tmp_path):
    (tmp_path / "pairs.xlsx").write_text("x")
    message = error_of(tmp_path / "pairs.xlsx")
    assert f"{tmp_path}/pairs.xlsx" in message and '".xlsx"' in message and ".jsonl" in message


@pytest.mark.parametrize("path", ["stanfordnlp/snli", "stanfordnlp/snli:", "/no/such/folder:train"])
def test_neither_a_path_nor_a_dataset_with_its_split(path):
    message = error_of(path)
    assert f'"{path}"' in message and '"stanfordnlp/snli:train"' in message


def test_dataset_of_the_hub_that_cannot_be_fetched():
    with pytest.raises(ConfigurationError, match=r'"example/nothing" .* "train"') as error:
        read("example/nothing:train")
    assert error.value.__cause__ is not None


@pytest.mark.parametrize("brackets", ["[abc]", "[3]", "[1:2:3]", "[]"])
def test_invalid_slice(tmp_path, brackets):
    path = write_json_lines(tmp_path / "pairs.jsonl", as_records(PAIRS))
    message = error_of(f"{path}{brackets}")
    assert f'"{brackets}" at the end of "{path}{brackets}"' in message and "[:1000]" in message


@pytest.mark.parametrize("brackets", ["[3:]", "[2:1]", "[:0]"])
def test_slice_without_pairs(tmp_path, brackets):
    path = write_json_lines(tmp_path / "pairs.jsonl", as_records(PAIRS))
    assert f'"{path}{brackets}" selects none of the 3 pairs' in error_of(f"{path}{brackets}")


def test_split_of_a_folder(tmp_path):
    table = datasets.Dataset.from_list(as_records(PAIRS))
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=table, dev=table).save_to_disk(tmp_path / "splits")
    assert 'leave out ":train"' in error_of(f"{tmp_path}/one:train")
    for path in (tmp_path / "splits", f"{tmp_path}/splits:tset"):
        assert f'"{tmp_path}/splits:train" or "{tmp_path}/splits:dev"' in error_of(path)


def test_folder_of_something_else(tmp_path):
    assert f'"{tmp_path}"' in error_of(tmp_path)


# ---- shares of several processes ----


@pytest.fixture
def long_file(tmp_path):
    pairs = [(*pair[:2], "-") if index % 5 == 0 else pair for index, pair in enumerate(numbered_pairs(2500))]
    return write_json_lines(tmp_path / "pairs.jsonl", as_records(pairs))


def test_each_pair_is_read_by_exactly_one_process(long_file):
    shares = []
    for rank in range(2):
        for worker in range(2):
            one = reader()
            one._set_distributed_info(DistributedInfo(world_size=2, global_rank=rank))
            one._set_worker_info(WorkerInfo(num_workers=2, id=worker))
            shares.append([pair_of(instance) for instance in one.read(str(long_file))])
    assert [len(share) for share in shares] == [500] * 4
    assert sorted(itertools.chain(*shares)) == sorted(read(long_file))


def test_max_instances(long_file):
    assert read(long_file, max_instances=7) == read(long_file)[:7]
    shares = []
    for worker in range(2):
        one = reader(max_instances=7)
        one._set_worker_info(WorkerInfo(num_workers=2, id=worker))
        shares += [pair_of(instance) for instance in one.read(str(long_file))]
    assert sorted(shares) == sorted(read(long_file)[:7])


def test_workers_of_a_data_loader(long_file):
    loader = MultiProcessDataLoader(reader(), str(long_file), batch_size=32, num_workers=2, quiet=True)
    instances = list(loader.iter_instances())
    assert sorted(map(pair_of, instances)) == sorted(read(long_file))
    loader.index_with(Vocabulary.from_instances(instances))
    batch = next(iter(loader))
    assert batch["premise"]["tokens"]["tokens"].shape == (32, 2)
    assert batch["label"].shape == (32,)


def test_a_pickled_reader_reads_the_same_share(long_file):
    # So does a worker that is spawned get it: such a process is in no process group that would know its rank.
    rank_1_reader = reader(tokenizer={"type": "spacy_language"})
    rank_1_reader._set_distributed_info(DistributedInfo(world_size=2, global_rank=1))
    copy = pickle.loads(pickle.dumps(rank_1_reader))
    assert [pair_of(instance) for instance in copy.read(str(long_file))] == read(long_file)[1::2]


def test_the_error_of_a_worker_says_what_is_wrong(tmp_path):
    path = write_json_lines(tmp_path / "pairs.jsonl", as_records([*PAIRS, ("a", "b", "maybe")]))
    with pytest.raises(WorkerError) as error:
        MultiProcessDataLoader(reader(), str(path), batch_size=8, num_workers=2, quiet=True)
    assert f"{path}, line 4" in str(error.value) and "'maybe'" in str(error.value)


# ---- instances ----


def test_fields():
    instance = reader().text_to_instance("a b", "c", "neutral")
    assert [token.text for token in instance["premise"].tokens] == ["a", "b"]
    assert [token.text for token in instance["hypothesis"].tokens] == ["c"]
    assert instance["label"].label == "neutral"
    assert instance["metadata"].metadata == {
        "premise": "a b",
        "hypothesis": "c",
        "premise_tokens": ["a", "b"],
        "hypothesis_tokens": ["c"],
    }
    assert "label" not in reader().text_to_instance("a b", "c").fields


def test_by_default_spacy_splits_the_sentences():
    default = DatasetReader.from_params(Params({"type": "entailment"}))
    tokens = default.text_to_instance("It isn't.", "No.")["premise"].tokens
    assert [token.text for token in tokens] == ["It", "is", "n't", "."]


@pytest.fixture
def tiny_bert(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "two", "dogs", "play", "##ing", "a", "dog"]
    (tmp_path / "vocabulary.txt").write_text("\n".join(words))
    folder = tmp_path / "tiny_bert"
    BertTokenizerFast(str(tmp_path / "vocabulary.txt")).save_pretrained(folder)
    BertConfig(vocab_size=len(words)).save_pretrained(folder)
    return str(folder)


def tensors_of(one):
    instance = one.text_to_instance("Two dogs playing", "A dog")
    one.apply_token_indexers(instance)
    batch = Batch([instance])
    batch.index_instances(Vocabulary.empty())
    return batch.as_tensor_dict()


def test_pretrained_transformer(tiny_bert):
    transformer = {"type": "pretrained_transformer", "model_name": tiny_bert}
    tensors = tensors_of(reader(tokenizer=dict(transformer), token_indexers={"tokens": dict(transformer)}))
    # [CLS] two dogs play ##ing [SEP]; [CLS] a dog [SEP]
    assert tensors["premise"]["tokens"]["token_ids"].tolist() == [[2, 5, 6, 7, 8, 3]]
    assert tensors["hypothesis"]["tokens"]["token_ids"].tolist() == [[2, 9, 10, 3]]


def test_pretrained_transformer_mismatched(tiny_bert):
    indexer = {"type": "pretrained_transformer_mismatched", "model_name": tiny_bert}
    tensors = tensors_of(reader(tokenizer={"type": "spacy_language"}, token_indexers={"tokens": indexer}))
    assert tensors["premise"]["tokens"]["token_ids"].tolist() == [[2, 5, 6, 7, 8, 3]]
    # "playing" is word pieces 3 to 4
    assert tensors["premise"]["tokens"]["offsets"].tolist() == [[[1, 1], [2, 2], [3, 4]]]
    assert tensors["premise"]["tokens"]["mask"].tolist() == [[True, True, True]]
