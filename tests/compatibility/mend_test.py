"""What is mended, when, and what is not touched."""

import ast
import subprocess
import sys
from importlib.metadata import version

import pytest
from packaging.version import Version

from regattn_allennlp.compatibility.mend import MENDS, table
from tests.conftest import PROJECT_ROOT

# Run in processes where nothing has been imported yet.
SHOW = """
import sys
modules = ("allennlp", "regattn_allennlp", "transformers")
print([module for module in modules if module in sys.modules])
"""
SCHEDULER = """
from allennlp.training.learning_rate_schedulers import ReduceOnPlateauLearningRateScheduler as Scheduler
print(hasattr(Scheduler.__init__, "__wrapped__"))
"""


def printed(program: str) -> list[str]:
    command = (sys.executable, "-c", program)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_nothing_happens_where_allennlp_is_not_imported():
    assert printed("import torch" + SHOW) == ["[]"]


@pytest.mark.parametrize("first", ["", "import regattn_allennlp"])
def test_allennlp_is_mended_whatever_is_imported_first(first):
    assert printed(first + SCHEDULER) == ["True"]


@pytest.mark.skipif(
    Version(version("transformers")) >= Version("4.50"), reason="AllenNLP does not import if it is not mended before"
)
def test_what_was_imported_before_is_mended_too():
    program = "import os; os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD'] = '0'" + SCHEDULER
    assert printed(program) == ["False"]
    late = "import regattn_allennlp.compatibility\nprint(hasattr(Scheduler.__init__, '__wrapped__'))"
    assert printed(program + late) == ["False", "True"]


def test_sources_of_mended_modules_are_still_found():
    program = "import inspect\nfrom allennlp.common import cached_transformers\n"
    assert printed(program + "print(inspect.getsource(cached_transformers).splitlines()[0])") == ["import logging"]


@pytest.mark.parametrize("entry", MENDS, ids=lambda entry: entry.repair.__name__)
def test_an_entry_names_a_test_that_is_there(entry):
    path, *name = entry.test.split("::")
    tree = ast.parse((PROJECT_ROOT / path).read_text())
    assert not name or name[0] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_an_entry_that_the_installed_versions_do_not_need_changes_nothing():
    program = (
        "from regattn_allennlp.compatibility.mend import mend\n"
        "for versions in 'torch<1', 'no_such_package':\n"
        "    mend('json', puts_back='', versions=versions, test='')(lambda module: print('changed'))\n"
        "mend('json', puts_back='', versions='torch>=1', test='')(lambda module: print(module.__name__))\n"
    )
    assert printed(program) == ["json"]


def test_the_documentation_lists_what_is_mended():
    assert table() in (PROJECT_ROOT / "docs" / "compatibility.md").read_text()
