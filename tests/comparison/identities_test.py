import json
import os
import shutil
import zipfile

import pytest

from regattn_allennlp.comparison import identities
from regattn_allennlp.comparison.identities import Identities, same_data, why_anew

CONFIG = {
    "dataset_reader": {"type": "softmax", "tokenizer": {"end_tokens": ["."]}},
    "train_data_path": "train.jsonl[:2]",
    "validation_data_path": "data.zip!validation.jsonl",
    "model": {"embedder": {"pretrained_file": "(data.zip)#vectors.txt"}, "name": "transformer", "type": "train.jsonl"},
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text("a train of thought")
    (tmp_path / "softmax").mkdir()  # a registered name, not data
    (tmp_path / "transformer" / "inner").mkdir(parents=True)
    (tmp_path / "transformer" / "inner" / "weights").write_text("1 2 3")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("validation.jsonl", "a")
    return tmp_path


def of_training(folder) -> dict:
    return Identities(folder / "comparison").of_training(CONFIG)


def test_whatever_a_config_names_belongs_to_a_training(data):
    before = of_training(data)
    assert list(before["files"]) == [
        "train.jsonl[:2]", "data.zip!validation.jsonl", "(data.zip)#vectors.txt", "transformer",
    ]  # fmt: skip
    for file, named in {
        "train.jsonl": "train.jsonl[:2]",
        "transformer/inner/weights": "transformer",
        "data.zip": "data.zip!validation.jsonl",
    }.items():
        content = (data / file).read_bytes()
        (data / file).write_bytes(content + b" ")
        assert f"{named} has changed" in why_anew({"identity": before}, of_training(data))
        (data / file).write_bytes(content)
        assert of_training(data) == before
    shutil.rmtree(data / "transformer")
    assert why_anew({"identity": before}, of_training(data)) == "trained anew: transformer is gone"
    assert "regattn_allennlp was 0.0.1" in why_anew({"identity": {**before, "version": "0.0.1"}}, before)


def test_the_comparison_itself_is_no_data(data):
    folder = data / "transformer" / "comparison"
    assert "transformer" not in Identities(folder).of_training(CONFIG)["files"]


def test_gold_links_beside_the_test_data(data):
    (data / "test.links").write_text("0-0")
    reader = {"type": "sequence_pairs", "gold_links": {"order": "source-target", "path": "{stem}.links"}}
    found = Identities(data / "comparison")
    of_file = found.of_data("test.links")
    assert "sha256" in of_file
    assert found.of_gold_links({"dataset_reader": reader}, "test.tsv[:10]") == of_file
    assert found.of_gold_links({"validation_dataset_reader": reader, "dataset_reader": {}}, "test.tsv") == of_file
    assert found.of_gold_links({"dataset_reader": reader, "validation_dataset_reader": {"type": "x"}}, "t.tsv") is None
    assert found.of_gold_links({"dataset_reader": {"gold_links": {"order": "source-target"}}}, "test.jsonl") is None
    assert found.of_gold_links(CONFIG, "test.tsv") is None


def test_a_content_is_read_once(data, monkeypatch):
    folder = data / "comparison"
    folder.mkdir()
    first = Identities(folder)
    before = first.of_data("train.jsonl")
    first.save()
    # By size and time alone: what is there now is not read.
    times = os.stat(data / "train.jsonl")
    (data / "train.jsonl").write_text("A TRAIN OF THOUGHT")
    os.utime(data / "train.jsonl", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Identities(folder).of_data("train.jsonl") == before
    os.utime(data / "train.jsonl", (1, 1))
    assert Identities(folder).of_data("train.jsonl") != before
    # A large one is never read.
    monkeypatch.setattr(identities, "LARGEST_DIGESTED", 5)
    assert Identities(folder).of_data("train.jsonl") == {"path": "train.jsonl", "size": 18, "modified": 10**9}
    assert json.loads((folder / ".digests.json").read_text()).keys() == {str(data / "train.jsonl")}


def test_the_same_data_may_have_two_paths(data):
    shutil.copy(data / "train.jsonl", data / "copy.jsonl")
    found = Identities(data / "comparison")
    assert same_data(found.of_data("train.jsonl"), found.of_data("copy.jsonl"))
    assert not same_data(found.of_data("train.jsonl"), found.of_data("copy.jsonl[:2]"))
    assert not same_data(found.of_data("train.jsonl"), None)
    assert not same_data(found.of_data("sample:train"), found.of_data("sample:validation"))
