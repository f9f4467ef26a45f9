"""Gold links as the dataset readers read them, from every kind of file."""

import copy
import json
import pickle

import datasets
import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, DatasetReader
from allennlp.data.dataset_readers.dataset_reader import WorkerInfo

import regattn_allennlp.data.data_loaders
import regattn_allennlp.data.dataset_readers  # noqa: F401  (registers what the configs name)
from regattn_allennlp.data.gold_links import links_file
from regattn_allennlp.data.token_links import TokenLinks

PAIRS = [("der große Hund schläft", "the big dog is asleep"), ("ja", "yes indeed"), ("nein danke", "no")]
# Of a word of the source and one of the target.
SURE = [[[0, 0], [1, 1], [2, 2]], [], [[0, 0]]]
POSSIBLE = [[[3, 3], [3, 4]], [[0, 0], [0, 1]], []]
PHARAOH = "1-1 0-0 2-2 3?3\t3?4 \n 0?1 0?0\n0-0\n"
JSON = [{"sure": sure, "possible": possible} for sure, possible in zip(SURE, POSSIBLE, strict=True)]


def swapped(links):
    return [[[j, i] for i, j in of_pair] for of_pair in links]


def sets(links):
    return [{tuple(link) for link in of_pair} for of_pair in links]


def reader(kind="sequence_pairs", **params):
    return DatasetReader.from_params(Params(copy.deepcopy({"type": kind, **params})))


def links_of(instances) -> list[TokenLinks]:
    return [instance["metadata"]["gold_links"] for instance in instances]


def read(path, gold_links, **params) -> list[TokenLinks]:
    return links_of(reader(gold_links=gold_links, **params).read(str(path)))


def error_of(path, gold_links, **params) -> str:
    with pytest.raises(ConfigurationError) as error:
        read(path, gold_links, **params)
    return str(error.value)


def assert_all(found: list[TokenLinks], rows=range(3)) -> None:
    assert [set(links.sure) for links in found] == [sets(SURE)[row] for row in rows]
    assert [set(links.possible) for links in found] == [sets(SURE)[row] | sets(POSSIBLE)[row] for row in rows]


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "dev.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS))
    return path


def records(links=JSON, **columns):
    return [
        {"source": source, "target": target, **of_pair, **columns}
        for (source, target), of_pair in zip(PAIRS, links, strict=True)
    ]


COLUMNS = {"order": "source-target"}


# ---- formats ----


@pytest.mark.parametrize("form", ["JSON lines", "Parquet", "folder"])
def test_columns_of_the_data(tmp_path, form):
    if form == "JSON lines":
        path = write_lines(tmp_path / "pairs.jsonl", records(id="x"))
        path.write_text("\n" + path.read_text().replace("\n", "\n\n"))
    elif form == "Parquet":
        path = tmp_path / "pairs.parquet"
        datasets.Dataset.from_list(records()).to_parquet(path)
    else:
        path = tmp_path / "pairs"
        datasets.Dataset.from_list(records()).save_to_disk(path)
    assert_all(read(path, COLUMNS))
    assert_all(read(f"{path}[1:]", COLUMNS), [1, 2])
    found = read(path, {"order": "target-source"}, source_column="target", target_column="source")
    assert_all([links.transposed() for links in found])


def test_the_possible_links_may_be_missing(tmp_path):
    of_pairs = [{"sure": sure} for sure in SURE]
    for path in (tmp_path / "pairs.jsonl", tmp_path / "pairs.parquet"):
        if path.suffix == ".jsonl":
            write_lines(path, records(of_pairs))
        else:
            datasets.Dataset.from_list(records(of_pairs)).to_parquet(path)
        assert [links.possible for links in read(path, COLUMNS)] == sets(SURE)


@pytest.mark.parametrize("order", ["source-target", "target-source"])
def test_json_lines_beside_the_data(pairs, tmp_path, order):
    sure, possible = (links if order == "source-target" else swapped(links) for links in (SURE, POSSIBLE))
    beside = [{"text": "x", "sure": s, "possible": p} for s, p in zip(sure, possible, strict=True)]
    write_lines(tmp_path / "dev_alignment.jsonl", beside)
    assert_all(read(pairs, {"order": order, "path": "{stem}_alignment.jsonl"}))
    assert_all(read(f"{pairs}[1:2]", {"order": order, "path": "{stem}_alignment.jsonl"}), [1])
    assert_all(read(pairs, {"order": order, "path": str(tmp_path / "dev_alignment.jsonl")}))


def test_pharaoh_beside_the_data(pairs, tmp_path):
    (tmp_path / "dev.pharaoh").write_text(PHARAOH)
    assert_all(read(pairs, {"order": "source-target", "path": "{stem}.pharaoh"}))
    # A line without links is one of a pair.
    (tmp_path / "dev.pharaoh").write_text("0-0\n\n0-0")
    assert [links.sure for links in read(pairs, {**COLUMNS, "path": "{stem}.pharaoh"})] == [{(0, 0)}, set(), {(0, 0)}]


def test_a_header_has_no_line(tmp_path):
    path = tmp_path / "dev.csv"
    path.write_text("source,target\n" + "".join(f"{source},{target}\n" for source, target in PAIRS))
    (tmp_path / "dev.links").write_text(PHARAOH)
    assert_all(read(path, {**COLUMNS, "path": "{stem}.links"}))


def test_links_of_pairs_that_lack_a_text_are_passed_over(tmp_path, pairs):
    pairs.write_text(pairs.read_text().replace("ja\tyes indeed", "ja\t"))
    (tmp_path / "dev.links").write_text(PHARAOH)
    assert_all(read(pairs, {**COLUMNS, "path": "{stem}.links"}, skip_empty=True), [0, 2])


def test_the_file_beside():
    assert links_file("{stem}_alignment.jsonl", "data/dev.v1.tsv[:10%]") == "data/dev.v1_alignment.jsonl"
    assert links_file("/other/links.txt", "data/dev.tsv") == "/other/links.txt"


def test_textual_entailment(tmp_path):
    labels = ["entailment", "-", "neutral"]
    pairs = [
        {"premise": source, "hypothesis": target, "label": label, **links}
        for (source, target), links, label in zip(PAIRS, JSON, labels, strict=True)
    ]
    path = write_lines(tmp_path / "pairs.jsonl", pairs)
    order = {"order": "premise-hypothesis"}
    assert_all(read(path, order, kind="entailment"), [0, 2])  # whose label is not missing
    assert_all(read(path, order, kind="entailment", has_labels=False))
    other = {"order": "hypothesis-premise"}
    swap = {"premise_column": "hypothesis", "hypothesis_column": "premise"}
    assert_all([links.transposed() for links in read(path, other, kind="entailment", has_labels=False, **swap)])
    unlabelled = write_lines(tmp_path / "unlabelled.jsonl", [{**pair, "label": None} for pair in pairs])
    for one in pairs:
        del one["label"]
    write_lines(unlabelled, pairs)
    instances = list(reader("entailment", gold_links=order, has_labels=False).read(str(unlabelled)))
    assert_all(links_of(instances))
    assert all("label" not in instance.fields for instance in instances)
    with pytest.raises(ConfigurationError, match="label"):
        list(reader("entailment", gold_links=order).read(str(unlabelled)))
    assert reader("entailment", has_labels=False).fingerprint(str(unlabelled)) is not None


# ---- tokens ----


def test_tokens_are_of_words_and_what_is_cut_is_still_gold(tmp_path):
    path = write_lines(tmp_path / "pairs.jsonl", records())
    whole = read(path, COLUMNS)
    assert whole[0].first_words == ((0,), (1,), (2,), (3,)) and whole[0].second_words == ((0,), (1,), (2,), (3,), (4,))
    first, *_ = read(path, COLUMNS, max_source_tokens=2, max_target_tokens=1)
    assert first == TokenLinks(whole[0].sure, whole[0].possible, ((0,), (1,)), ((0,),))
    first, *_ = read(path, COLUMNS, source_tokenizer={"type": "character"}, max_source_tokens=5)
    assert first.first_words == ((0,), (0,), (0,), (), (1,)) and first.second_words[:4] == ((0,), (0,), (0,), ())
    # The words are white space's, whatever spaCy makes of them.
    pairs = [{"premise": "It's red.", "hypothesis": "A red one.", "label": "neutral", "sure": [[1, 1]]}]
    (links,) = read(write_lines(path, pairs), {"order": "premise-hypothesis"}, kind="entailment")
    assert links == TokenLinks(
        frozenset({(1, 1)}), frozenset({(1, 1)}), ((0,), (0,), (1,), (1,)), ((0,), (1,), (2,), (2,))
    )


def test_tokens_of_other_letters_are_told_with_their_line(tmp_path, monkeypatch):
    path = write_lines(tmp_path / "pairs.jsonl", records())
    one = reader(gold_links=COLUMNS)
    tokenize = one._target_tokenizer.tokenize
    monkeypatch.setattr(one._target_tokenizer, "tokenize", lambda text: tokenize(text.replace("indeed", "")))
    with pytest.raises(ConfigurationError) as error:
        list(one.read(str(path)))
    assert f"{path}, line 2: gold links are between words" in str(error.value)
    assert "the words are ['yes', 'indeed'], the tokens ['yes']" in str(error.value)


# ---- processes, predictions, caches ----


def test_each_process_reads_the_links_of_its_own_pairs(pairs, tmp_path):
    (tmp_path / "dev.links").write_text(PHARAOH)
    for worker in range(2):
        one = reader(gold_links={**COLUMNS, "path": "{stem}.links"})
        one._set_worker_info(WorkerInfo(num_workers=2, id=worker))
        assert_all(links_of(one.read(str(pairs))), range(worker, 3, 2))


def test_predictions_need_no_links(pairs):
    one = reader(gold_links={**COLUMNS, "path": "{stem}.links"}).to_predict()
    assert ["gold_links" in instance["metadata"].metadata for instance in one.read(str(pairs))] == [False] * 3


def test_the_cached_data_loader_knows_when_links_change(pairs, tmp_path):
    beside = tmp_path / "dev.links"

    def load():
        one = reader(gold_links={**COLUMNS, "path": "{stem}.links"})
        params = Params({"type": "cached", "batch_size": 2, "quiet": True})
        loader = DataLoader.from_params(params, reader=one, data_path=str(pairs))
        return links_of(loader.iter_instances()), one.fingerprint(str(pairs))

    beside.write_text(PHARAOH)
    found, before = load()
    assert_all(found)
    beside.write_text("0-0\n" * 3)
    found, after = load()
    assert [links.sure for links in found] == [{(0, 0)}] * 3
    assert len({before, after, reader().fingerprint(str(pairs))}) == 3
    assert pickle.loads(pickle.dumps(found)) == found


# ---- mistakes ----


@pytest.mark.parametrize("order", ["source-premise", "target", "source target"])
def test_the_order_is_checked(order):
    with pytest.raises(
        ConfigurationError, match=f'"order" of "gold_links" is \'{order}\'.*"source-target" or "target-'
    ):
        reader(gold_links={"order": order})
    with pytest.raises(ConfigurationError, match='"premise-hypothesis" or "hypothesis-premise"'):
        reader("entailment", gold_links={"order": order})


@pytest.mark.parametrize("suffix", ["jsonl", "txt"])
def test_an_index_that_is_no_words_is_told(pairs, tmp_path, suffix):
    beside = tmp_path / f"dev.{suffix}"
    beside.write_text(PHARAOH) if suffix == "txt" else write_lines(beside, JSON)
    message = error_of(pairs, {"order": "target-source", "path": "{stem}." + suffix})
    assert f'{beside}, line 1: "possible" has a link of word 4 of the source and word 3 of the target' in message
    assert "but the source has 4 words, counted from 0" in message and '"target-source"' in message


def test_an_index_in_columns_is_told_by_its_row(tmp_path):
    links = [*JSON[:2], {"sure": [[0, 1]], "possible": []}]
    datasets.Dataset.from_list(records(links)).to_parquet(tmp_path / "pairs.parquet")
    message = error_of(tmp_path / "pairs.parquet", COLUMNS)
    assert "pairs.parquet, row 2 (counted from 0)" in message and "but the target has 1 word, counted" in message


@pytest.mark.parametrize("number", [1, 2, 4])
def test_files_of_another_number_of_lines(pairs, tmp_path, number):
    beside = tmp_path / "dev.links"
    beside.write_text("0-0\n" * number)
    message = error_of(pairs, {**COLUMNS, "path": "{stem}.links"})
    assert f"{beside}: gold links for {number} pairs, where {pairs} has 3" in message


@pytest.mark.parametrize("suffix, content", [("jsonl", ""), ("jsonl", "\n\n"), ("links", "")])
def test_an_empty_file(pairs, tmp_path, suffix, content):
    (tmp_path / f"dev.{suffix}").write_text(content)
    message = error_of(pairs, {**COLUMNS, "path": "{stem}." + suffix})
    assert f"dev.{suffix}: the file holds no gold links: it is empty" in message


@pytest.mark.parametrize("word", ["0_0", "-1-0", "0-", "1-2-3", "0:0", "٣-0", "0-99999999999999999999", '{"sure":'])
def test_malformed_pharaoh_links(pairs, tmp_path, word):
    (tmp_path / "dev.links").write_text(f"0-0\n0-0 {word}\n0-0\n")
    message = error_of(pairs, {**COLUMNS, "path": "{stem}.links"})
    assert f"dev.links, line 2: {word!r} is no link" in message and "0?0" in message


@pytest.mark.parametrize(
    "value", [[0, 1], [[0]], [[0, 1, 2]], [[0, -1]], [[0, 0.0]], [[0, True]], "0-0", [[0, 2**64]]]
)
@pytest.mark.parametrize("column", ["sure", "possible"])
def test_malformed_json_links(tmp_path, column, value):
    path = write_lines(tmp_path / "pairs.jsonl", [*records()[:2], {**records()[2], column: value}])
    message = error_of(path, COLUMNS)
    assert f'{path}, line 3: "{column}"' in message and "is no link" in message and "[[0, 0], [1, 2]]" in message


def test_links_that_are_missing(pairs, tmp_path):
    assert "stand in a file beside it" in error_of(pairs, COLUMNS)
    message = error_of(pairs, {**COLUMNS, "path": "{stem}.links"})
    assert f'"{tmp_path / "dev.links"}" could not be opened' in message
    path = write_lines(tmp_path / "pairs.jsonl", [*records()[:2], {"source": "a", "target": "b"}])
    message = error_of(path, COLUMNS)
    assert f'{path}, line 3: "sure", the gold links, is missing; there are: source, target' in message
    assert 'no column "sure" with gold links; the columns are: source, target' in error_of("sample:train", COLUMNS)
