import json

import pytest
import sentencepiece
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.commands.train_subwords import train_subwords
from regattn_allennlp.data.tokenizers import SentencepieceTokenizer

PAIRS = [
    ("der hund läuft im park", "the dog runs in the park"),
    ("die katze schläft im garten", "the cat sleeps in the garden"),
    ("ein hund und eine katze", "a dog and a cat"),
]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join("\t".join(pair) + "\n" for pair in PAIRS))
    return path


@pytest.fixture
def train(allennlp, data, tmp_path):
    """Trains subwords, and returns the pieces."""

    def run(*arguments, source=data, size=60):
        out = tmp_path / "subwords.model"
        allennlp("train-subwords", source, "-s", out, "--vocab-size", size, *arguments)
        processor = sentencepiece.SentencePieceProcessor(model_file=str(out))
        return [processor.id_to_piece(index) for index in range(processor.get_piece_size())]

    return run


def letters(pieces):
    return set("".join(pieces[1:]).replace("▁", " "))


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_as_many_subwords_as_wanted_and_always_the_same(train, tmp_path, model_type):
    pieces = train("--model-type", model_type, size=32)
    assert len(pieces) == len(set(pieces)) == 32 and pieces[0] == "<unk>"
    first = (tmp_path / "subwords.model").read_bytes()
    assert train("--model-type", model_type, size=32) == pieces
    assert (tmp_path / "subwords.model").read_bytes() == first


def test_byte_pairs_are_the_commonest():
    model = train_subwords(["xy xy xy ab"], vocab_size=8, model_type="bpe")
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    # <unk>, two merges, and the characters.
    assert {processor.id_to_piece(index) for index in (1, 2)} == {"xy", "▁xy"}


@pytest.mark.parametrize("side, column", [("source", 0), ("target", 1), ("both", None)])
def test_sides(train, side, column):
    texts = [text for pair in PAIRS for text in (pair if column is None else pair[column : column + 1])]
    assert letters(train("--side", side, size=50)) == set("".join(texts))


def test_columns(train, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"translation": {"de": de, "en": en}}) + "\n" for de, en in PAIRS))
    columns = ("--source-column", "translation.de", "--target-column", "translation.en")
    assert letters(train(*columns, source=path)) == set("".join(map("".join, PAIRS)))
    with pytest.raises(ConfigurationError, match="languages de, en"):
        train(source=path)


def test_sources_alone_are_enough_for_the_source_side(train, tmp_path):
    path = tmp_path / "texts.tsv"
    path.write_text("".join(f"{source}\n" for source, _ in PAIRS))
    assert letters(train("--side", "source", source=path, size=50)) == set("".join(source for source, _ in PAIRS))
    with pytest.raises(ConfigurationError, match=r"texts\.tsv"):
        train(source=path)


def test_long_texts_are_not_left_out():
    # By default sentencepiece passes over what is longer than 4192 bytes.
    assert "ж".encode() in train_subwords(["ab " * 3000 + "ж"], vocab_size=6)


def test_rare_characters_may_be_left_out():
    texts = ["ab " * 1000 + "ж"]
    assert "ж".encode() not in train_subwords(texts, vocab_size=5, character_coverage=0.99)


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_too_many_or_too_few_subwords(train, tmp_path, model_type):
    train()
    before = (tmp_path / "subwords.model").read_bytes()
    with pytest.raises(ConfigurationError, match=r"--vocab-size 5000 is too large .* possible is \d+\.") as error:
        train("--model-type", model_type, size=5000)
    assert (tmp_path / "subwords.model").read_bytes() == before
    largest = int(str(error.value).removesuffix(".").split()[-1])
    assert len(train("--model-type", model_type, size=largest)) == largest
    characters = len(set("".join(map("".join, PAIRS)))) + 1  # the space is one, and <unk>
    with pytest.raises(ConfigurationError, match=f"--vocab-size 3 is too small .* possible is {characters},"):
        train("--model-type", model_type, size=3)


def test_an_error_in_the_data_is_told_as_it_is_and_nothing_is_lost(train, data, tmp_path):
    train()
    before = (tmp_path / "subwords.model").read_bytes()
    data.write_text("a\tb\nc\t \n")
    with pytest.raises(ConfigurationError, match=r"^[^\n]*pairs\.tsv, line 2: \"target\" is ' '"):
        train()
    assert (tmp_path / "subwords.model").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.tsv", "subwords.model"}
    assert letters(train("--skip-empty", size=4)) == {" ", "a", "b"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--vocab-size", "0"), "--vocab-size must be 1 or more, but is 0"),
        (("--character-coverage", "0.5"), "--character-coverage must be from 0.98 to 1, but is 0.5"),
        (("-s", "no/such/folder/a.model"), 'folder of -s "no/such/folder/a.model" does not exist'),
        (("-s", "."), '-s "." is a folder'),
    ],
)
def test_mistakes_in_the_arguments(train, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        train(*arguments)


def test_the_tokenizer_reads_what_was_written(train, tmp_path):
    train()
    pieces = [token.text for token in SentencepieceTokenizer(str(tmp_path / "subwords.model")).tokenize(PAIRS[0][0])]
    assert "".join(pieces) == "▁" + PAIRS[0][0].replace(" ", "▁")
