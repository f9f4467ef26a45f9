"""Finds what is wrong with variants before the first of them is trained."""

import contextlib
import copy
import inspect
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from allennlp.commands.train import TrainModel
from allennlp.common import Lazy, Params, cached_transformers
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.modules.token_embedders.embedding import EmbeddingsTextFile
from allennlp.training import Trainer

from regattn_allennlp.comparison.variants import SEED_KEYS, Variant

# Of each data set so many instances are read.
NUM_INSTANCES = 64

# What `TrainModel` builds by and by, each of what was built before.
LAZY_PARTS = {
    "data_loader": DataLoader,
    "validation_data_loader": DataLoader,
    "vocabulary": Vocabulary,
    "model": Model,
    "trainer": Trainer,
}
# What is taken out before: who trains sets these.
NOT_BUILT = (*SEED_KEYS, "dataset_reader", "validation_dataset_reader", "distributed", "type")
# These would read all the word vectors, or find no word often enough among a few instances.
ABOUT_ALL_WORDS = (
    "pretrained_files", "min_pretrained_embeddings", "only_include_pretrained_words", "min_count"
)  # fmt: skip


def check_trainings(variants: Sequence[Variant]) -> None:
    """
    Builds all that each variant's config describes, on the CPU, of the first instances of its data and without word
    vectors, and lets the model have one batch: seconds, where a training has it too late.

    # Raises

    `ConfigurationError`
        With a line for each variant that cannot be trained.
    """
    mistakes: dict[str, list[str]] = {}
    for variant in variants:
        try:
            with quiet(), tempfile.TemporaryDirectory() as folder:
                _build(variant.config, folder)
        except Exception as error:  # the reader's, the model's, PyTorch's
            told = str(error) if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {error}"
            mistakes.setdefault(" ".join(told.split()), []).append(variant.name)
    cached_transformers._clear_caches()  # their weights are of no more use to this process
    if mistakes:
        number = sum(map(len, mistakes.values()))
        lines = [f"  {', '.join(names)}: {told}" for told, names in mistakes.items()]
        raise ConfigurationError(f"{number} of {len(variants)} variants cannot be trained:\n" + "\n".join(lines))


def _build(config: dict[str, Any], folder: str) -> None:
    if config.get("type", "default") != "default":
        return  # only that way of training knows what it makes of the config
    parts = copy.deepcopy(config)
    _open_word_vectors(parts)
    if parts.get("vocabulary"):
        parts["vocabulary"] = {key: value for key, value in parts["vocabulary"].items() if key not in ABOUT_ALL_WORDS}
    for key in ("data_loader", "validation_data_loader"):
        if parts.get(key):
            parts[key] = _small_data_loader(parts[key])
    parts.setdefault("trainer", {})["cuda_device"] = -1
    readers = {}
    for key in ("dataset_reader", "validation_dataset_reader"):
        if parts.get(key):
            readers[key] = DatasetReader.from_params(Params(parts[key]), serialization_dir=folder)
            readers[key].max_instances = NUM_INSTANCES
    lazy = {key: Lazy(LAZY_PARTS[key], Params(parts[key])) for key in LAZY_PARTS if parts.get(key) is not None}
    others = {key: value for key, value in parts.items() if key not in (*LAZY_PARTS, *NOT_BUILT)}
    unknown = others.keys() - inspect.signature(TrainModel.from_partial_objects).parameters.keys()
    if unknown:
        raise ConfigurationError(f"nothing is known by the keys {sorted(unknown)} of the config")
    training = TrainModel.from_partial_objects(
        serialization_dir=folder, local_rank=0, **readers, **lazy, **others
    )  # fmt: skip
    training.model.train()
    training.model(**next(iter(training.trainer.data_loader)))


def _small_data_loader(block: dict[str, Any]) -> dict[str, Any]:
    block = {**block, "num_workers": 0}
    if block.get("type") == "cached":
        # The same without the cache, which is for all the data.
        block = {key: value for key, value in block.items() if key not in ("type", "max_instances_in_memory")}
    return block


def _open_word_vectors(part: Any) -> None:
    """Takes the files of word vectors out of a config's part; a file here is looked into, for its dimension."""
    if isinstance(part, list):
        for value in part:
            _open_word_vectors(value)
    elif isinstance(part, dict):
        path = part.get("pretrained_file")
        if isinstance(path, str):
            del part["pretrained_file"]
            if "://" not in path:
                _check_dimension(path, part.get("embedding_dim"))
        for value in part.values():
            _open_word_vectors(value)


def _check_dimension(path: str, dimension: Any) -> None:
    if path.endswith((".h5", ".hdf5")):
        if not os.path.exists(path):
            raise ConfigurationError(f'the word vectors "{path}" are not there')
        return
    try:
        with EmbeddingsTextFile(path) as lines:
            found = len(next(iter(lines)).rstrip().split(" ")) - 1
    except (OSError, ValueError, StopIteration) as error:
        raise ConfigurationError(f'the word vectors "{path}" cannot be read: {error}') from error
    if isinstance(dimension, int) and found != dimension:
        raise ConfigurationError(f'embedding_dim is {dimension}, but the vectors of "{path}" have dimension {found}')


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what AllenNLP tells of its steps, and without its progress bars."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
