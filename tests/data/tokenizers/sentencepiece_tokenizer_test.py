import json
import pickle

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regattn_allennlp.commands.train_subwords import train_subwords
from regattn_allennlp.data.sample_corpus import sample_pairs
from tests.conftest import PROJECT_ROOT, SMALL

TEXTS = ["der hund läuft im park", "die katze schläft im garten", "ein hund und eine katze"]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("subwords") / "subwords.model"
    path.write_bytes(train_subwords(TEXTS, vocab_size=60))
    return path


def tokenizer(path, **extras):
    return Tokenizer.from_params(Params({"type": "sentencepiece", "model_path": str(path)}), **extras)


def texts_of(tokens):
    return [token.text for token in tokens]


def text_again(tokens):
    return "".join(texts_of(tokens)).replace("▁", " ").removeprefix(" ")


def test_pieces_are_written_with_the_space_before_them(model_path):
    pieces = texts_of(tokenizer(model_path).tokenize("der hund schläft"))
    assert "".join(pieces) == "▁der▁hund▁schläft"
    assert "▁hund" in pieces and len(pieces) > 3


def test_white_space_of_any_kind_is_one_space(model_path):
    one = tokenizer(model_path)
    expected = texts_of(one.tokenize("der hund"))
    for text in ("der  hund", " der\u00a0hund\n", "der\thund\r\n", "der\u2028hund"):
        assert texts_of(one.tokenize(text)) == expected
    assert one.tokenize(" ") == []


def test_batches(model_path):
    one = tokenizer(model_path)
    assert list(map(texts_of, one.batch_tokenize(TEXTS))) == [texts_of(one.tokenize(text)) for text in TEXTS]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from("derhundläftimpakzsgcQ語"), min_size=1), min_size=1))
def test_pieces_give_their_text_back(model_path, words):
    # Also characters without a subword: Q and the last one.
    assert text_again(tokenizer(model_path).tokenize(" ".join(words))) == " ".join(words)


def test_nothing_is_normalized(tmp_path):
    text = "ﬁn x² ﾊﾟ ʰa …"  # all but the a and the x would become other characters by NFKC
    (tmp_path / "subwords.model").write_bytes(train_subwords([text], vocab_size=len(set(text)) + 1))
    assert text_again(tokenizer(tmp_path / "subwords.model").tokenize(text)) == text


def test_a_pickled_tokenizer_needs_no_file(model_path, tmp_path):
    path = tmp_path / "copy.model"
    path.write_bytes(model_path.read_bytes())
    pickled = pickle.dumps(tokenizer(path))
    path.unlink()
    assert texts_of(pickle.loads(pickled).tokenize(TEXTS[0])) == texts_of(tokenizer(model_path).tokenize(TEXTS[0]))


def test_the_fingerprint_of_a_reader_tells_the_subwords_and_not_their_path(model_path, tmp_path):
    (tmp_path / "same.model").write_bytes(model_path.read_bytes())
    (tmp_path / "other.model").write_bytes(train_subwords(TEXTS, vocab_size=50))
    same, again, other = (
        DatasetReader.from_params(
            Params({"type": "sequence_pairs", "source_tokenizer": {"type": "sentencepiece", "model_path": str(path)}})
        ).fingerprint("sample:validation")
        for path in (model_path, tmp_path / "same.model", tmp_path / "other.model")
    )
    assert None is not same == again != other


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nothing\.model.*train-subwords"):
        tokenizer(tmp_path / "nothing.model")
    with pytest.raises(ConfigurationError, match=r"nothing\.model"):
        tokenizer(tmp_path / "nothing.model", serialization_dir=str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"subwords"])
def test_a_file_that_is_no_model_is_named(tmp_path, content):
    (tmp_path / "text.model").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"text\.model.* is no sentencepiece model"):
        tokenizer(tmp_path / "text.model")


@pytest.fixture
def trained(allennlp, tmp_path):
    """The folder of a small trained model, and its sentencepiece model."""
    path = tmp_path / "subwords.model"
    sentences = [sentence for pair in sample_pairs("train")[:192] for sentence in (pair.premise, pair.hypothesis)]
    path.write_bytes(train_subwords(sentences, vocab_size=300))
    config = PROJECT_ROOT / "training_configs" / "sample" / "softmax.jsonnet"
    # Not by overrides: AllenNLP merges them into the block that is there, and its language would stay.
    params = Params.from_file(config, json.dumps(SMALL)).as_dict()
    params["dataset_reader"]["tokenizer"] = {"type": "sentencepiece", "model_path": str(path)}
    (tmp_path / "config.json").write_text(json.dumps(params))
    allennlp("train", tmp_path / "config.json", "-s", tmp_path / "run", "--include-package", "regattn_allennlp")
    return tmp_path / "run", path


def test_an_archive_predicts_by_the_subwords_of_its_training(allennlp, trained, tmp_path):
    folder, path = trained
    (tmp_path / "pairs.jsonl").write_text('{"premise": "a man sleeps", "hypothesis": "nobody sleeps"}\n')

    def predict(archive):
        out = tmp_path / "out.jsonl"
        allennlp(
            "predict", archive, tmp_path / "pairs.jsonl", "--predictor", "entailment", "--silent",
            "--output-file", out, "--include-package", "regattn_allennlp",
        )  # fmt: skip
        return json.loads(out.read_text())

    expected = predict(folder / "model.tar.gz")
    assert "".join(expected["premise_tokens"]) == "▁a▁man▁sleeps"
    path.unlink()
    assert predict(folder / "model.tar.gz") == expected
    assert predict(folder) == expected
    # Another file in its place is of no account: the model's vocabulary is that of the training.
    path.write_bytes(train_subwords(TEXTS, vocab_size=50))
    assert predict(folder / "model.tar.gz") == expected
    # Also what reads the data that is shown takes the archive's own.
    picture = tmp_path / "attention.svg"
    allennlp("show-attention", folder / "model.tar.gz", "--input", tmp_path / "pairs.jsonl", "--out", picture)
    drawn = picture.read_text(encoding="utf-8")
    assert all(f">{token}<" in drawn for token in expected["premise_tokens"])
