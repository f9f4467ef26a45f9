import json
import logging
import sys
from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).parent.parent

# Small enough to train in seconds.
SMALL = {
    "train_data_path": "sample:train[:192]",
    "validation_data_path": "sample:validation[:64]",
    "trainer.num_epochs": 1,
}


@pytest.fixture(scope="session")
def allennlp():
    """The `allennlp` command line, in this process: importing AllenNLP anew takes ten seconds."""
    from allennlp.commands import main  # not needed for the operators' tests
    from allennlp.common.util import import_module_and_submodules

    # In a process of its own the plugins file does this; here the package may have been imported before AllenNLP.
    import_module_and_submodules("regattn_allennlp")

    def run(*arguments: str | Path) -> None:
        before = sys.argv, logging.root.handlers[:], logging.root.level
        sys.argv = ["allennlp", *map(str, arguments)]
        try:
            main(prog="allennlp")
        finally:
            sys.argv, logging.root.handlers[:], level = before
            logging.root.setLevel(level)

    return run


@pytest.fixture(scope="session")
def archive(allennlp, tmp_path_factory) -> Path:
    """A small model, trained on the sample by the command line."""
    folder = tmp_path_factory.mktemp("archive") / "fusedmax"
    config = PROJECT_ROOT / "training_configs" / "sample" / "fusedmax.jsonnet"
    allennlp(
        "train", config, "--serialization-dir", folder, "--include-package", "regattn_allennlp",
        "--overrides", json.dumps(SMALL),
    )  # fmt: skip
    return folder / "model.tar.gz"
