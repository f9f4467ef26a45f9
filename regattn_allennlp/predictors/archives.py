"""Archives of trained models: their names, their configs, and predictors of them."""

import copy
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.common.tqdm import Tqdm
from allennlp.data import DatasetReader
from allennlp.models.archival import CONFIG_NAME, load_archive
from allennlp.predictors import Predictor

from regattn_allennlp.models import RegularizedDecomposableAttention
from regattn_allennlp.predictors.entailment import EntailmentPredictor

ARCHIVE_NAME = "model.tar.gz"


@dataclass(frozen=True)
class NamedPredictor:
    """A trained model, ready to predict, under a name that tells it from the others it was loaded with."""

    name: str
    predictor: EntailmentPredictor


def load_predictors(paths: Sequence[str], cuda_device: int = -1) -> list[NamedPredictor]:
    """
    Loads archives of `RegularizedDecomposableAttention` that `allennlp train` wrote, given as the folder or as the
    `model.tar.gz` in it.

    # Raises

    `ConfigurationError`
        For a path that is no such archive, which it names; for one that is given twice.
    """
    return [
        NamedPredictor(name, _load_predictor(path, cuda_device))
        for name, path in zip(archive_names(paths), Tqdm.tqdm(paths, desc="loading archives"), strict=True)
    ]


def read_config(path: str) -> dict[str, Any]:
    """
    What an archive's model was trained by. The model is not loaded, so this checks a path soon.

    # Raises

    `ConfigurationError`
        For a path that is no archive, which it names.
    """
    try:
        resolved = cached_path(path)
        if os.path.isdir(resolved):
            return json.loads(Path(resolved, CONFIG_NAME).read_text(encoding="utf-8"))
        with tarfile.open(resolved) as archive:
            return json.load(archive.extractfile(CONFIG_NAME))  # type: ignore[arg-type]
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise _not_loaded(path, error) from error


def load_dataset_reader(path: str) -> DatasetReader:
    """What reads the pairs that an archive's model is to predict; errors are those of `read_config`."""
    config = read_config(path)
    try:
        return build_dataset_reader(config)
    except Exception as error:  # as of `_load_predictor`
        raise _not_loaded(path, error) from error


def build_dataset_reader(config: dict[str, Any]) -> DatasetReader:
    """Of a config of `allennlp train` what reads data that is not trained on. The config stays as it is."""
    block = config.get("validation_dataset_reader") or config["dataset_reader"]
    return DatasetReader.from_params(Params(copy.deepcopy(block)))


def archive_names(paths: Sequence[str]) -> list[str]:
    """
    What tells the archives apart: of each path as much as differs from all others, without the `model.tar.gz`.
    "softmax" and "fusedmax" for output/softmax/seed1 and output/fusedmax/seed1/model.tar.gz.
    """
    parts = [_folder(path).parts for path in paths]
    for own in parts:
        if parts.count(own) > 1:
            raise ConfigurationError(f'The archive "{os.path.join(*own)}" is given twice.')
    if len(parts) > 1:
        while len({own[-1:] for own in parts}) == 1:
            parts = [own[:-1] for own in parts]
    names = []
    for own in parts:
        length = 1
        while sum(own[-length:] == others[-length:] for others in parts) > 1:
            length += 1
        names.append("/".join(own[-length:]))
    return names


def _folder(path: str) -> Path:
    resolved = Path(path).resolve()
    if resolved.name == ARCHIVE_NAME:
        return resolved.parent
    return resolved.with_name(resolved.name.removesuffix(".tar.gz"))


def _load_predictor(path: str, cuda_device: int) -> EntailmentPredictor:
    try:
        archive = load_archive(path, cuda_device=cuda_device)
    except Exception as error:  # tar, the config, the vocabulary and the weights have errors of their own
        raise _not_loaded(path, error) from error
    if not isinstance(archive.model, RegularizedDecomposableAttention):
        raise ConfigurationError(
            f'"{path}" holds a model of type {type(archive.model).__name__}, which gives no attention weights between '
            "two sentences: a regularized_decomposable_attention is wanted."
        )
    predictor = Predictor.from_archive(archive, "entailment")
    assert isinstance(predictor, EntailmentPredictor)
    return predictor


def _not_loaded(path: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f'"{path}" is no archive of a trained model that can be loaded; wanted is the folder that '
        f"`allennlp train -s` wrote, or the {ARCHIVE_NAME} in it. {type(error).__name__}: {error}"
    )
