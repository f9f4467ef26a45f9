import subprocess
import sys
from importlib.util import find_spec

import pytest

OURS = "regattn_allennlp.modules.seq2seq_encoders"
THEIRS = "allennlp_models.rc.modules.seq2seq_encoders"
PROGRAM = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
from allennlp.modules import Seq2SeqEncoder
print(Seq2SeqEncoder.by_name("multi_head_self_attention").__module__)
"""


@pytest.mark.skipif(find_spec("allennlp_models") is None, reason="allennlp-models is not installed")
@pytest.mark.parametrize("modules", [(OURS, THEIRS), (THEIRS, OURS)], ids=["ours first", "theirs first"])
def test_a_name_of_both_is_this_packages(modules):
    command = (sys.executable, "-c", PROGRAM, *modules)
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == f"{OURS}.multi_head_self_attention"
