import re

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.data.tokenizers import CharacterTokenizer, PretrainedTransformerTokenizer, Token, WhitespaceTokenizer
from hypothesis import given
from hypothesis import strategies as st

from regattn_allennlp.data.tokenizers import SentencepieceTokenizer, SpacyLanguageTokenizer
from regattn_allennlp.data.tokenizers.words_of_tokens import words_of_tokens
from tests.tiny_transformers import SENTENCES, word_pieces

TEXT = " Two dogs' owner  didn't\tsee Großstadt "


def tokens(*texts: str) -> list[Token]:
    return [Token(text) for text in texts]


def test_whole_words_and_letters():
    assert words_of_tokens(TEXT, WhitespaceTokenizer().tokenize(TEXT)) == ((0,), (1,), (2,), (3,), (4,), (5,))
    # The spaces among the letters belong to no word.
    assert words_of_tokens("ab c", CharacterTokenizer().tokenize("ab c")) == ((0,), (0,), (), (1,))
    lower = CharacterTokenizer(lowercase_characters=True).tokenize("AB c")
    assert words_of_tokens("AB c", lower) == ((0,), (0,), (), (1,))
    assert words_of_tokens("New York City", tokens("New York", "City")) == ((0, 1), (2,))


@given(st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=6), min_size=1, max_size=5))
def test_pieces_of_words_are_of_their_words(words):
    pieces = [(number, letter) for number, word in enumerate(words) for letter in word]
    found = words_of_tokens("  ".join(words), tokens(*(letter for _, letter in pieces)))
    assert found == tuple((number,) for number, _ in pieces)


def test_spacy_says_where_its_tokens_are():
    tokenizer = SpacyLanguageTokenizer(start_tokens=["@"], end_tokens=["."])
    found = tokenizer.tokenize(TEXT)
    assert [token.text for token in found] == [
        "@", "Two", "dogs", "'", "owner", "did", "n't", "see", "Großstadt", ".",
    ]  # fmt: skip
    assert words_of_tokens(TEXT, found) == ((), (0,), (1,), (1,), (2,), (3,), (3,), (4,), (5,), ())


@pytest.fixture(scope="module")
def subwords(tmp_path_factory) -> SentencepieceTokenizer:
    import sentencepiece

    prefix = tmp_path_factory.mktemp("subwords") / "subwords"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_prefix=str(prefix), vocab_size=35, minloglevel=2
    )
    return SentencepieceTokenizer(f"{prefix}.model")


@pytest.mark.parametrize(
    "text",
    [
        "A small garden. Two women", "  two   gardens ", "xylophone x",
        # Sentencepiece writes these with other letters, three full stops and "fi".
        "small… ﬁre",
    ],
)  # fmt: skip
def test_sentencepiece_marks_where_words_begin(subwords, text):
    pieces = subwords.tokenize(text)
    found = words_of_tokens(text, pieces)
    words: dict[int, str] = {}
    for piece, (word,) in zip(pieces, found, strict=True):
        words[word] = words.get(word, "") + piece.text
    expected = [f"▁{word}" for word in text.replace("…", "...").replace("ﬁ", "fi").split()]
    assert [words[number] for number in range(len(words))] == expected


def test_pieces_with_spaces_within_are_of_several_words():
    assert words_of_tokens("of the end", tokens("▁of▁the", "▁", "end")) == ((0, 1), (2,), (2,))


def test_transformers_say_where_their_tokens_are(tmp_path):
    from transformers import BertConfig, BertModel

    word_pieces(tmp_path, SENTENCES).save_pretrained(tmp_path)
    BertModel(
        BertConfig(vocab_size=80, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ).save_pretrained(tmp_path)
    tokenizer = PretrainedTransformerTokenizer(str(tmp_path))
    pieces = tokenizer.tokenize("small gardens.")
    found = words_of_tokens("small gardens.", pieces)
    assert (pieces[0].text, found[0], found[-1]) == ("[CLS]", (), ())
    letters = {0: "", 1: ""}
    for piece, words in zip(pieces[1:-1], found[1:-1], strict=True):
        letters[words[0]] += piece.text.removeprefix("##")
    assert letters == {0: "small", 1: "gardens."}


@pytest.mark.parametrize(
    "text, of_text",
    [
        ("ab c", tokens("a", "c")),
        ("ab c", tokens("ab")),
        ("ab c", tokens("ab", "d")),
        ("ab c", tokens("▁a", "b")),
        ("ab c", tokens("▁a", "▁b", "▁c")),
        ("ab c", [Token("ab", idx=0, idx_end=2), Token("[UNK]")]),
    ],
)
def test_what_cannot_be_told_is_said(text, of_text):
    shown = re.escape(f"the words are ['ab', 'c'], the tokens {[token.text for token in of_text]}")
    with pytest.raises(ConfigurationError, match=shown):
        words_of_tokens(text, of_text)
