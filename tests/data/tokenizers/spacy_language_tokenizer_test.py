import pickle

import pytest
import spacy
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Tokenizer

from regattn_allennlp.data.tokenizers import SpacyLanguageTokenizer


def texts_of(tokens):
    return [token.text for token in tokens]


def test_is_registered_and_english_by_default():
    tokenizer = Tokenizer.from_params(Params({"type": "spacy_language"}))
    assert isinstance(tokenizer, SpacyLanguageTokenizer)
    tokens = tokenizer.tokenize("The cat's asleep, isn't it?")
    assert texts_of(tokens) == ["The", "cat", "'s", "asleep", ",", "is", "n't", "it", "?"]


def test_offsets_point_into_the_text_and_whitespace_is_no_token():
    text = "  A 🐈 \n\n sleeps\u2028soundly. "
    tokens = SpacyLanguageTokenizer().tokenize(text)
    assert texts_of(tokens) == ["A", "🐈", "sleeps", "soundly", "."]
    assert [text[token.idx : token.idx_end] for token in tokens] == texts_of(tokens)


def test_another_language_has_its_own_rules():
    text = "l'homme qu'il a vu"
    assert texts_of(SpacyLanguageTokenizer("fr").tokenize(text)) == ["l'", "homme", "qu'", "il", "a", "vu"]
    assert texts_of(SpacyLanguageTokenizer("en").tokenize(text)) == ["l'homme", "qu'il", "a", "vu"]


def test_start_and_end_tokens_are_in_the_given_order():
    tokenizer = Tokenizer.from_params(
        Params({"type": "spacy_language", "start_tokens": ["@a", "@b"], "end_tokens": ["@c", "@d"]})
    )
    for _ in range(2):
        assert texts_of(tokenizer.tokenize("one two")) == ["@a", "@b", "one", "two", "@c", "@d"]


def test_a_batch_is_tokenized_like_its_texts():
    tokenizer = SpacyLanguageTokenizer(end_tokens=["@end"])
    texts = ["Two women hug.", "They're here", "x"]
    assert tokenizer.batch_tokenize(texts) == [tokenizer.tokenize(text) for text in texts]


def test_the_annotations_of_an_installed_pipeline_are_kept(tmp_path):
    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "CITY", "pattern": "Paris"}])
    pipeline.add_pipe("attribute_ruler").add(
        [[{"LOWER": "sleeps"}]], {"LEMMA": "sleep", "POS": "VERB", "TAG": "VBZ", "DEP": "ROOT"}
    )
    pipeline.to_disk(tmp_path / "pipeline")
    paris, sleeps = SpacyLanguageTokenizer(str(tmp_path / "pipeline")).tokenize("Paris sleeps")
    assert paris.ent_type_ == "CITY"
    assert (sleeps.lemma_, sleeps.pos_, sleeps.tag_, sleeps.dep_) == ("sleep", "VERB", "VBZ", "ROOT")


def test_an_unknown_language_is_named_with_what_would_be_right():
    with pytest.raises(ConfigurationError) as error:
        SpacyLanguageTokenizer("klingon")
    assert '"klingon"' in str(error.value)
    assert '"en"' in str(error.value)
    for pipeline in spacy.util.get_installed_models():
        assert pipeline in str(error.value)


def test_a_pickled_tokenizer_does_the_same():
    tokenizer = SpacyLanguageTokenizer("de", start_tokens=["@start"])
    copy = pickle.loads(pickle.dumps(tokenizer))
    text = "Das ist z.B. ein Satz, usw."
    assert copy.tokenize(text) == tokenizer.tokenize(text)
