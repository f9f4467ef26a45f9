import subprocess
import sys

PROGRAM = """
import regattn_allennlp
from allennlp.common.plugins import import_plugins
from allennlp.data import DatasetReader
import_plugins()
print("entailment" in DatasetReader.list_available())
"""


def test_a_plugins_file_brings_all_of_a_package_that_was_imported_before(tmp_path):
    for line, expected in ("regattn_allennlp\n", "True\n"), ("", "False\n"):
        (tmp_path / ".allennlp_plugins").write_text(line)
        command = (sys.executable, "-c", PROGRAM)
        finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert finished.stdout == expected


def test_a_package_beside_a_subpackage_of_its_name_is_not_imported(tmp_path):
    for package in "mine", "mine/models", "mine/models/private", "mine/_hidden", "mine/tests", "models":
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"print({package!r})")
    (tmp_path / "mine/models/one.py").write_text("print('mine/models/one')")
    program = """
from allennlp.common.util import import_module_and_submodules
import_module_and_submodules("mine", exclude={"mine.models.private"})
"""
    command = (sys.executable, "-c", f"import regattn_allennlp{program}")
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["mine", "mine/models", "mine/models/one"]
