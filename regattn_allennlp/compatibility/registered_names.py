"""Names that allennlp-models registers too."""

import sys
from typing import Any

from regattn_allennlp.compatibility.mend import mend


@mend(
    "allennlp_models.rc.modules.seq2seq_encoders.multi_head_self_attention",
    puts_back="This package works where allennlp-models is installed: `multi_head_self_attention` is this package's",
    versions="allennlp-models==2.10.1",
    test="tests/compatibility/registered_names_test.py::test_a_name_of_both_is_this_packages",
)
def keep_this_packages_self_attention(theirs: Any) -> None:
    # AllenNLP always imports allennlp-models, whose class takes the name from whoever has it, and had none of its own
    # models built by that name. Its full name, with the module, still gives it.
    ours = sys.modules.get("regattn_allennlp.modules.seq2seq_encoders.multi_head_self_attention")
    if ours is not None:
        register = theirs.Seq2SeqEncoder.register("multi_head_self_attention", exist_ok=True)
        register(ours.MultiHeadSelfAttention)
