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
