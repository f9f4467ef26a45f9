import warnings

from allennlp.data import Vocabulary

import regattn_allennlp.compatibility  # noqa: F401
from regattn_allennlp.compatibility.vocabularies import open_as_codecs_did

# Some tokens end a line in one sense or another. Only the line feed is written otherwise.
TOKENS = ["dog", "é", "a\nb", "a\u2028b", "a\x85b", "\U0001f415"]


def test_a_vocabulary_is_written_and_read_without_a_warning(tmp_path):
    vocabulary = Vocabulary(tokens_to_add={"tokens": TOKENS})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vocabulary.save_to_files(str(tmp_path))
        read = Vocabulary.from_files(str(tmp_path))
    lines = ["@@UNKNOWN@@", *(token.replace("\n", "@@NEWLINE@@") for token in TOKENS)]
    assert (tmp_path / "tokens.txt").read_bytes() == "".join(f"{line}\n" for line in lines).encode()
    assert read.get_token_to_index_vocabulary() == vocabulary.get_token_to_index_vocabulary()


def test_line_ends_stay_as_they_are(tmp_path):
    text = "one\r\ntwo\rthree\n"
    with open_as_codecs_did(str(tmp_path / "file"), "w", "utf-8") as file:
        file.write(text)
    assert (tmp_path / "file").read_bytes() == text.encode()
    with open_as_codecs_did(str(tmp_path / "file"), "r", "utf-8") as file:
        assert file.read() == text
