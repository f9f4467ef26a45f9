import pytest
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.data.sample_lexicon import TAXONOMIES
from regattn_allennlp.interpret.attackers.synonyms import DEFAULT_SYNONYMS, read_synonyms


def test_a_word_has_all_others_of_its_groups(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text("# colours\n\n  Gray, grey\nbig,large , huge\nhuge, big, vast\n", encoding="utf-8")
    assert read_synonyms(path) == {
        "gray": ["grey"],
        "grey": ["gray"],
        "big": ["large", "huge", "vast"],
        "large": ["big", "huge"],
        "huge": ["big", "large", "vast"],
        "vast": ["huge", "big"],
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("big, large\n\nsmall\n", r'synonyms.txt, line 3: "small" is alone'),
        ("big, large,\n", "line 1: there is an empty word"),
        ("# none\nsofa, love seat\n", 'line 2: "love seat" is several words'),
        ("Big, large, big\n", 'line 1: "big" is there twice'),
        ("# nothing\n", "have no group of words"),
    ],
)
def test_a_line_that_is_no_group_is_named(tmp_path, text, message):
    path = tmp_path / "synonyms.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        read_synonyms(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nothing.txt.* cannot be read"):
        read_synonyms(tmp_path / "nothing.txt")
    (tmp_path / "latin1.txt").write_bytes("café, coffeehouse".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"latin1.txt.* cannot be read"):
        read_synonyms(tmp_path / "latin1.txt")


def test_the_table_of_this_package_has_no_words_that_differ_in_the_sample():
    """There, two words of a taxonomy are broader and narrower, exclude one another, or say different things."""
    synonyms = read_synonyms(DEFAULT_SYNONYMS)
    assert len(synonyms) > 800
    num_pairs, wrong = 0, []
    for groups_of in TAXONOMIES.values():
        terms = {term for groups in groups_of.values() for group in groups for term in group.split()}
        terms |= {term for term in groups_of if not term.isupper()}
        num_pairs += len(terms) * (len(terms) - 1)
        wrong += [(word, other) for word in terms for other in terms if other in synonyms.get(word, [])]
    assert num_pairs > 1000
    assert wrong == []
