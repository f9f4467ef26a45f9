"""What a kill leaves in a training's folder besides checkpoints, and that it is gone on from."""

import json
from pathlib import Path

import numpy as np
import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params, util
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import archival
from allennlp.training import util as training_util

import regattn_allennlp.compatibility  # noqa: F401
from tests.compatibility.killed import kill_in, while_writing
from tests.conftest import PROJECT_ROOT

CONFIG = PROJECT_ROOT / "training_configs" / "g2p" / "softmax.jsonnet"
TINY = {
    "train_data_path": "sample:train[:16]",
    "validation_data_path": "sample:validation[:8]",
    "trainer.num_epochs": 1,
    "model.beam_search": {"type": "beam_search", "beam_size": 2, "max_steps": 4},
}


def config(folder: Path, size: int) -> None:
    Params({"words": ["word"] * size}).to_file(str(folder / "file"))


def metrics(folder: Path, size: int) -> None:
    util.dump_metrics(str(folder / "file"), {str(number): 0.5 for number in range(size)})


def archive(folder: Path, size: int) -> None:
    archival.archive_model(folder / f"run{size}", archive_path=folder / "file")


@pytest.fixture
def folder(tmp_path):
    """With what is archived, in two sizes."""
    for size in (1, 2000):
        run = tmp_path / f"run{size}"
        (run / "vocabulary").mkdir(parents=True)
        (run / "config.json").write_text("{}")
        (run / "best.th").write_bytes(np.random.default_rng(0).bytes(size))  # which does not get smaller
    return tmp_path


@pytest.mark.parametrize("write", [config, metrics, archive], ids=lambda write: write.__name__)
def test_what_is_half_written_has_not_its_name_yet(folder, write):
    kill_in(lambda: write(folder, 2000), while_writing)
    assert not (folder / "file").exists()
    write(folder, 1)
    before = (folder / "file").read_bytes()
    kill_in(lambda: write(folder, 2000), while_writing)
    assert (folder / "file").read_bytes() == before
    write(folder, 2000)
    assert len((folder / "file").read_bytes()) > 2000


def vocabulary(size: int) -> Vocabulary:
    return Vocabulary(tokens_to_add={"tokens": [f"word{number}" for number in range(size)], "tags": ["noun"]})


def test_half_a_vocabulary_is_none(tmp_path):
    folder = str(tmp_path / "vocabulary")
    kill_in(lambda: vocabulary(1000).save_to_files(folder), while_writing)
    with pytest.raises(FileNotFoundError):
        Vocabulary.from_files(folder)
    vocabulary(1000).save_to_files(folder)
    assert Vocabulary.from_files(folder).get_vocab_size("tokens") == vocabulary(1000).get_vocab_size("tokens")
    # Over one that is there.
    kill_in(lambda: vocabulary(2000).save_to_files(folder), while_writing)
    assert Vocabulary.from_files(folder).get_vocab_size("tokens") == vocabulary(1000).get_vocab_size("tokens")
    vocabulary(10).save_to_files(folder)
    loaded = Vocabulary.from_files(folder)
    assert loaded.get_index_to_token_vocabulary("tokens") == vocabulary(10).get_index_to_token_vocabulary("tokens")
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary"]


def params(**more) -> Params:
    return Params.from_file(CONFIG, json.dumps({**TINY, **more}))


@pytest.mark.parametrize("left", ["nothing", "half a config", "a config and half a vocabulary"])
def test_a_training_recovers_that_was_killed_before_it_began(allennlp, tmp_path, left):
    if left == "half a config":
        (tmp_path / "config.json.unfinished").write_text('{"model":')
    elif left != "nothing":
        params().to_file(str(tmp_path / "config.json"))
        (tmp_path / "vocabulary").mkdir()
        (tmp_path / "vocabulary" / "source_tokens.txt").write_text("@@UNKNOWN@@\na\nb")
    train_model(params(), tmp_path, recover=True)
    assert json.loads((tmp_path / "metrics.json").read_text())["epoch"] == 0
    assert Vocabulary.from_files(str(tmp_path / "vocabulary")).get_vocab_size("source_tokens") > 10


def test_there_is_nothing_to_recover_in_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match="There is nothing to recover from"):
        train_model(params(), tmp_path / "no_such_folder", recover=True)


def test_a_distributed_training_recovers_that_was_killed_before_its_vocabulary_was_whole(allennlp, tmp_path):
    distributed = {"distributed": {"cuda_devices": [-1, -1]}}
    params(**distributed).to_file(str(tmp_path / "config.json"))
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "source_tokens.txt").write_text("@@UNKNOWN@@\na\nb")
    training_util.create_serialization_dir(params(**distributed), tmp_path, recover=True, force=False)
    assert Vocabulary.from_files(str(tmp_path / "vocabulary")).get_vocab_size("source_tokens") > 10
