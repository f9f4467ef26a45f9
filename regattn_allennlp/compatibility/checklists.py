"""The subcommand `checklist`, and the package of that name which it runs."""

import functools
import importlib
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from regattn_allennlp.compatibility.mend import mend

# What AllenNLP's suites import and do not use: pages in a Jupyter before 7, and the package `pattern`, which downloads
# WordNet when it is imported.
UNUSED = {
    "pattern.en": ("conjugate", "pluralize", "tenses", "wordnet"),
    "checklist.viewer.suite_summarizer": ("SuiteSummarizer",),
    "checklist.viewer.template_editor": ("TemplateEditor",),
    "checklist.viewer.test_summarizer": ("TestSummarizer",),
}


@mend(
    "allennlp.commands.checklist",
    puts_back="`allennlp checklist` says what is missing where it cannot run, and fails",
    versions="allennlp==2.10.1",
    test="tests/compatibility/checklists_test.py::test_the_command_says_what_is_missing",
)
def say_what_is_missing(command: Any) -> None:
    # Without the package, AllenNLP registers a command that takes no arguments and only logs, with advice of 2022.
    if not hasattr(command, "_dummy_output"):
        return

    def refuse(arguments: Any) -> None:
        try:
            importlib.import_module("allennlp.commands._checklist_internal")
        except ImportError as error:
            raise SystemExit(
                f"allennlp checklist: {error}. pip cannot install checklist, whose setup wants an old Jupyter, but "
                "its files work: unpack checklist-0.0.11.tar.gz from its page on PyPI, set PYTHONPATH to the folder "
                "checklist-0.0.11, and `pip install munch iso-639`."
            ) from None

    add_subparser = command.CheckList.add_subparser

    @functools.wraps(add_subparser)
    def add_subparser_with_arguments(self: Any, parser: Any) -> Any:
        subparser = add_subparser(self, parser)
        subparser.add_argument("arguments", nargs="...", help="What the command takes where it can run.")
        return subparser

    command.CheckList.add_subparser = add_subparser_with_arguments
    command._dummy_output = refuse


@mend(
    "checklist",
    puts_back="`allennlp checklist` runs with the files of the package checklist alone",
    versions="allennlp==2.10.1",
    test="tests/compatibility/checklists_test.py::test_a_model_of_this_package_is_checked",
)
def do_without_what_is_unused(checklist: Any) -> None:
    for name, attributes in UNUSED.items():
        parent, _, child = name.rpartition(".")
        if parent == "pattern" and find_spec(parent) is not None:
            continue
        for module in (parent, name):
            sys.modules.setdefault(module, ModuleType(module))
        for attribute in attributes:
            setattr(sys.modules[name], attribute, functools.partial(_refuse, f"{name}.{attribute}"))
        setattr(sys.modules[parent], child, sys.modules[name])


def _refuse(name: str, *args: Any, **kwargs: Any) -> None:
    raise RuntimeError(f"{name} cannot be used: AllenNLP's suites do without it.")


@mend(
    "allennlp.confidence_checks.task_checklists.textual_entailment_suite",
    puts_back="The suite `textual-entailment` of `allennlp checklist` reads this package's predictions, by label",
    versions="allennlp==2.10.1",
    test="tests/compatibility/checklists_test.py::test_a_suite_reads_probabilities_by_label",
)
def read_probabilities_by_label(suites: Any) -> None:
    # AllenNLP's suite wants a list of them in the order that its own model of SNLI happens to have.
    suite = suites.TextualEntailmentSuite
    predict = suite._prediction_and_confidence_scores

    @functools.wraps(predict)
    def predict_by_label(self: Any, predictor: Any) -> Any:
        places = {"entailment": self._entails, "contradiction": self._contradicts, "neutral": self._neutral}
        return predict(self, _InOrder(predictor, self._probs_key, places))

    suite._prediction_and_confidence_scores = predict_by_label


class _InOrder:
    """A predictor whose predictions have the probabilities in the order that is wanted, if it names their labels."""

    def __init__(self, predictor: Any, key: str, places: dict[str, int]) -> None:
        self.predictor = predictor
        self.key = key
        self.places = places

    def predict_batch_json(self, inputs: list[Any]) -> list[Any]:
        return [self.put_in_order(prediction) for prediction in self.predictor.predict_batch_json(inputs)]

    def put_in_order(self, prediction: dict[str, Any]) -> dict[str, Any]:
        from allennlp.common.checks import ConfigurationError

        probabilities = prediction.get("probabilities")
        if not isinstance(probabilities, dict):
            return prediction
        if set(probabilities) != set(self.places):
            wanted, present = ", ".join(self.places), ", ".join(probabilities)
            raise ConfigurationError(f"the suite is about the labels {wanted}, but the model's are {present}")
        ordered = sorted(self.places, key=self.places.__getitem__)
        return {**prediction, self.key: [probabilities[label] for label in ordered]}
