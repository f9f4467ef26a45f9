import json
import re

import pytest
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.comparison.check import check_trainings
from regattn_allennlp.comparison.variants import make_variants
from tests.conftest import PROJECT_ROOT, SMALL

CONFIG = str(PROJECT_ROOT / "training_configs" / "sample" / "softmax.jsonnet")
EMBEDDER = "model.text_field_embedder.token_embedders.tokens"


def mistakes(*attentions: str, **overrides) -> list[str]:
    """What is told, line by line."""
    changes = json.dumps({**SMALL, **overrides})
    variants = make_variants([CONFIG], attentions or ["softmax"], [], [1], changes, PROJECT_ROOT)
    with pytest.raises(ConfigurationError) as told:
        check_trainings(variants)
    return str(told.value).splitlines()


def test_all_mistakes_are_told_at_once():
    head, *lines = mistakes(
        "softmax",
        '{"type": "softmax", "gama": 1}',
        '{"type": "fusedmax", "lam": -1}',
        "softmacks",
        '{"type": "fusedmax", "lam": "much"}',
        # This has to see vectors: the dimensions are others.
        '{"type": "softmax", "similarity": {"type": "bilinear", "matrix_1_dim": 3, "matrix_2_dim": 3}}',
    )
    assert head == "5 of 6 variants cannot be trained:"
    wanted = [
        "softmax gama=1: .*'gama'", "fusedmax lam=-1: .*lam must be .* but is -1", "softmacks: .*attention.type",
        "fusedmax lam=much: .*lam to be numeric", "softmax similarity=.*: .*Expected size",
    ]  # fmt: skip
    for line, pattern in zip(lines, wanted, strict=True):
        assert re.search(pattern, line)


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"dataset_reader.labls": ["a"]}, "labls"),
        ({"train_data_path": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"trainer.optimizer.type": "adamm"}, "adamm not in acceptable choices"),
        ({"model.attend_feedforward.input_dim": 7}, '"attend_feedforward" takes 7'),
        ({"validaton_metric": "+accuracy"}, "nothing is known by the keys ['validaton_metric']"),
    ],
)
def test_what_is_wrong_for_all_is_told_once(overrides, message):
    _, line = mistakes("softmax", "sparsemax", **overrides)
    assert line.startswith("  softmax, sparsemax: ") and message in line


def test_word_vectors_are_looked_into_not_read(tmp_path):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("dog 1 2 3\nwhoever reads this line fails\n")
    overrides = {f"{EMBEDDER}.pretrained_file": str(vectors), f"{EMBEDDER}.embedding_dim": 100}
    assert "the vectors of" in mistakes(**overrides)[1] and "dimension 3" in mistakes(**overrides)[1]
    vectors.write_text(f"dog {' 1' * 100}\nwhoever reads this line fails\n".replace("  ", " "))
    check_trainings(make_variants([CONFIG], ["softmax"], [], [1], json.dumps({**SMALL, **overrides}), PROJECT_ROOT))
    vectors.unlink()
    assert "cannot be read" in mistakes(**overrides)[1]
