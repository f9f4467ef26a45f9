import tempfile
from pathlib import Path

import pytest
from packaging.version import Version

from regattn_allennlp.compatibility.nltk_files import copy_that_nltk_reads

TREE = "( (S (NP (DT the) (NN dog)) (VP (VBZ barks))) )\n"

nltk = pytest.importorskip("nltk", minversion="3.10", reason="before 3.10 NLTK reads any file")


@pytest.fixture
def treebank(tmp_path, monkeypatch):
    """A file that NLTK refuses thrice: for its folder, because it is a link, and because a group may change it."""
    # NLTK allows the folder for temporary files, in which tests run, where it is not open to all.
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    temporary.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk_data"))  # a change makes NLTK ask again
    (tmp_path / "shared.trees").write_text(TREE)
    (tmp_path / "shared.trees").chmod(0o664)
    (tmp_path / "wsj.trees").symlink_to(tmp_path / "shared.trees")
    return tmp_path / "wsj.trees"


def words(path: Path) -> list[list[str]]:
    """As the reader of allennlp-models reads."""
    from nltk.corpus.reader.bracket_parse import BracketParseCorpusReader

    corpus = BracketParseCorpusReader(root=str(path.parent), fileids=[path.name])
    return [tree.leaves() for tree in corpus.parsed_sents()]


def in_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "wsj.trees").write_text(TREE)
    return folder / "wsj.trees"


def is_refused(path: Path) -> bool:
    try:
        words(path)
    except (PermissionError, ValueError) as error:
        assert "Security Violation" in str(error)
        return True
    return False


def test_nltk_reads_the_copy_and_nothing_else(treebank):
    assert is_refused(treebank)
    with copy_that_nltk_reads(str(treebank)) as copy:
        assert words(Path(copy)) == [["the", "dog", "barks"]]
        assert is_refused(treebank)
    assert not Path(copy).exists()
    assert str(Path(copy).parent) not in nltk.data.path
    # Before 3.10.3 NLTK lets in the folder for temporary files even where it is open to all.
    never_let_in = in_folder(Path(tempfile.gettempdir(), "other"))
    is_strict = Version(nltk.__version__) >= Version("3.10.3")
    assert is_refused(in_folder(Path(copy).parent)) == is_refused(never_let_in) == is_strict


def test_a_treebank_of_any_folder_is_read(treebank):
    pytest.importorskip("allennlp_models", reason="allennlp-models is not installed")
    import allennlp_models.structured_prediction  # noqa: F401
    from allennlp.common import Params
    from allennlp.data import DatasetReader

    import regattn_allennlp.compatibility  # noqa: F401

    reader = DatasetReader.from_params(Params({"type": "ptb_trees"}))
    [instance] = reader.read(str(treebank))
    assert [token.text for token in instance["tokens"].tokens] == ["the", "dog", "barks"]
    assert instance["pos_tags"].labels == ["DT", "NN", "VBZ"]
    assert is_refused(treebank)
    with pytest.raises(FileNotFoundError, match=r"absent\.trees"):
        list(reader.read(str(treebank.with_name("absent.trees"))))
