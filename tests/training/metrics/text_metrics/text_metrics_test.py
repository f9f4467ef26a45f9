import pytest
import sacrebleu
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from regattn_allennlp.training.metrics.text_metrics import TextMetric

REFERENCES = [
    "the cat sat on the mat , as cats do",
    "two dogs are running in the park today",
    "a man reads a long letter",
    "Nobody came to the third meeting of the year .",
    "yes",
]
PREDICTIONS = [
    "the cat sat on a mat , as cats did",
    "two dogs run in the park today",
    "a man reads a long letter",
    "nobody came to this meeting of the year .",
    "",
]


def build(config) -> TextMetric:
    return TextMetric.from_params(Params(config) if isinstance(config, dict) else config)


def bleu(predictions, references, **options):
    return {"bleu": sacrebleu.corpus_bleu(predictions, [references], **options).score}


def chrf(predictions, references, **options):
    return {"chrf": sacrebleu.corpus_chrf(predictions, [references], **options).score}


def rouge(predictions, references):
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    scores = [scorer.score(target, prediction) for target, prediction in zip(references, predictions, strict=True)]
    names = {"rouge-1": "rouge1", "rouge-2": "rouge2", "rouge-l": "rougeL"}
    return {ours: 100 * sum(score[name].fmeasure for score in scores) / len(scores) for ours, name in names.items()}


def edit_distance(first, second):
    """Of two lists (Wagner & Fischer 1974)."""
    distances = list(range(len(second) + 1))
    for i, one in enumerate(first, 1):
        before, distances = distances, [i]
        for j, other in enumerate(second, 1):
            distances.append(min(before[j] + 1, distances[-1] + 1, before[j - 1] + (one != other)))
    return distances[-1]


def phoneme_error_rate(predictions, references):
    pairs = [(p.split(), r.split()) for p, r in zip(predictions, references, strict=True)]
    return {"phoneme_error_rate": sum(edit_distance(*pair) for pair in pairs) / sum(len(r) for _, r in pairs)}


CASES = [
    ("bleu", bleu),
    (
        {"type": "bleu", "tokenize": "none", "lowercase": True},
        lambda p, r: bleu(p, r, tokenize="none", lowercase=True),
    ),
    ("chrf", chrf),
    (
        {"type": "chrf", "word_order": 2, "lowercase": True},
        lambda p, r: chrf([*map(str.lower, p)], [*map(str.lower, r)], word_order=2),
    ),
    ("rouge", rouge),
    ("exact_match", lambda p, r: {"exact_match": 1 / 5}),
    ("phoneme_error_rate", lambda p, r: phoneme_error_rate(p, r)),
]


@pytest.mark.parametrize("config, expected", CASES, ids=lambda value: str(value) if not callable(value) else "")
def test_the_scores_of_batches_are_those_of_the_corpus(config, expected):
    metric = build(config)
    assert metric.get_metric() == {}
    for start, stop in ((0, 2), (2, 3), (3, 5)):
        metric(PREDICTIONS[start:stop], REFERENCES[start:stop])
    scores = metric.get_metric(reset=True)
    assert scores == pytest.approx(expected(PREDICTIONS, REFERENCES))
    assert tuple(scores) == metric.names
    # After a reset nothing is left.
    metric(PREDICTIONS[2:3], REFERENCES[2:3])
    assert metric.get_metric() == pytest.approx(
        expected(PREDICTIONS[2:3], REFERENCES[2:3]) if config != "exact_match" else {"exact_match": 1}
    )


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge", "exact_match", "phoneme_error_rate"])
def test_a_sentence_is_scored_from_0_to_1(name):
    metric = build(name)
    assert metric.sentence_score("a man reads a letter", "a man reads a letter") == pytest.approx(1)
    # Shorter than BLEU's longest n-grams, and right all the same.
    assert metric.sentence_score("a man", "a man") == pytest.approx(1)
    assert metric.sentence_score("zzz", "a man reads") == pytest.approx(0)
    assert 0 <= metric.sentence_score("", "a man reads") < 0.01


def test_spacing_is_no_error():
    assert build("exact_match").sentence_score("k  a t ", "k a t") == 1


def test_an_unknown_tokenizer_is_named():
    with pytest.raises(ConfigurationError, match=r'intl.*but is "moses"'):
        build({"type": "bleu", "tokenize": "moses"})


PHONEMES = st.lists(st.sampled_from(["t", "ts", "a", "aa", "A"]), max_size=6).map(" ".join)


@settings(deadline=None)
@given(st.lists(st.tuples(PHONEMES, PHONEMES), min_size=1, max_size=5))
def test_phoneme_errors_are_edits_of_whole_phonemes(pairs):
    metric = build("phoneme_error_rate")
    for prediction, reference in pairs:
        metric([prediction], [reference])
    errors = sum(edit_distance(p.split(), r.split()) for p, r in pairs)
    length = sum(len(r.split()) for _, r in pairs)
    assert metric.get_metric()["phoneme_error_rate"] == pytest.approx(errors / length if length else errors)
    for prediction, reference in pairs:
        score = metric.sentence_score(prediction, reference)
        assert 0 <= score <= 1 and (score == 1) == (prediction == reference)


def test_there_may_be_more_errors_than_phonemes_but_no_score_below_0():
    metric = build("phoneme_error_rate")
    metric(["t u x", "a"], ["k", "a"])
    assert metric.get_metric() == {"phoneme_error_rate": 3 / 2}
    assert metric.sentence_score("t u x", "k") == 0
    assert metric.sentence_score("k a t", "k æ t s") == pytest.approx(1 - 2 / 4)
