import re
from importlib.util import find_spec

import pytest


def test_the_command_says_what_is_missing(allennlp):
    if find_spec("checklist") is not None:
        pytest.skip("the package checklist is here")
    with pytest.raises(SystemExit) as exit:
        allennlp("checklist", "model.tar.gz", "textual-entailment", "--task-suite-args", '{"num_test_cases": 8}')
    message = exit.value.code
    assert message.startswith("allennlp checklist: No module named 'checklist'. pip cannot install checklist")
    assert "\n" not in message


def test_a_model_of_this_package_is_checked(allennlp, archive, tmp_path):
    pytest.importorskip("checklist", reason="the package checklist is not on PYTHONPATH")
    output = tmp_path / "checked.txt"
    allennlp(
        "checklist", archive, "textual-entailment", "--task-suite-args", '{"num_test_cases": 8}',
        "--output-file", output, "--include-package", "regattn_allennlp",
    )  # fmt: skip
    lines = output.read_text()
    assert "This suite contains 11 tests across 8 capabilities." in lines
    assert len(re.findall(r"^Test cases: +\d+\n(After|Fails)", lines, re.MULTILINE)) == 11
    assert re.search(r"^Prediction: Entails \(\d\.\d\), Contradicts \(\d\.\d\), Neutral", lines, re.MULTILINE)


@pytest.mark.parametrize(("entails", "contradicts", "neutral"), [(0, 1, 2), (2, 0, 1)])
def test_a_suite_reads_probabilities_by_label(archive, entails, contradicts, neutral):
    pytest.importorskip("checklist", reason="the package checklist is not on PYTHONPATH")
    from allennlp.confidence_checks.task_checklists import TextualEntailmentSuite
    from allennlp.predictors import Predictor

    predictor = Predictor.from_path(archive)
    suite = TextualEntailmentSuite(entails=entails, contradicts=contradicts, neutral=neutral, add_default_tests=False)
    pairs = [("A small dog sleeps.", "An animal is asleep."), ("A man eats.", "Nobody eats.")]
    labels, probabilities = suite._prediction_and_confidence_scores(predictor)(pairs)
    names = {entails: "entailment", contradicts: "contradiction", neutral: "neutral"}
    for (premise, hypothesis), label, row in zip(pairs, labels, probabilities, strict=True):
        prediction = predictor.predict(premise, hypothesis)
        assert names[label] == prediction["label"]
        assert {names[place]: pytest.approx(value) for place, value in enumerate(row)} == prediction["probabilities"]


def test_other_labels_are_named(archive):
    pytest.importorskip("checklist", reason="the package checklist is not on PYTHONPATH")
    from allennlp.common.checks import ConfigurationError
    from allennlp.confidence_checks.task_checklists import TextualEntailmentSuite
    from allennlp.models import load_archive
    from allennlp.predictors import Predictor

    loaded = load_archive(archive)
    loaded.model.vocab._index_to_token["labels"][0] = "yes"
    suite = TextualEntailmentSuite(add_default_tests=False)
    predict = suite._prediction_and_confidence_scores(Predictor.from_archive(loaded))
    with pytest.raises(ConfigurationError, match=r"entailment, contradiction, neutral, but the model's are .*yes"):
        predict([("A dog sleeps.", "A dog sleeps.")])
