"""Archives of trained models: their names, their configs, and predictors of them."""

import copy
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.common.tqdm import Tqdm
from allennlp.data import DatasetReader
from allennlp.models import Model
from allennlp.models.archival import CONFIG_NAME, extracted_archive, load_archive
from allennlp.predictors import Predictor

from regattn_allennlp.data.example import Example
from regattn_allennlp.models import AttentionModel
from regattn_allennlp.predictors.attention_predictor import AttentionPredictor

ARCHIVE_NAME = "model.tar.gz"


@dataclass(frozen=True)
class NamedPredictor:
    """A trained model, ready to predict, under a name that tells it from the others it was loaded with."""

    name: str
    predictor: AttentionPredictor


@dataclass(frozen=True)
class Task:
    """
    What a config's model is for, told by its registered name: nothing is loaded.

    # Parameters

    model : `Type[AttentionModel]`
    predictor : `Type[AttentionPredictor]`
        The model's `default_predictor`.
    predictor_name : `str`
    """

    model: type[AttentionModel]
    predictor: type[AttentionPredictor]
    predictor_name: str

    @property
    def directions(self) -> tuple[str, ...]:
        return self.model.attention_directions

    @property
    def self_attention_directions(self) -> tuple[str, ...]:
        """Those that a model of this task may have, if its config says so."""
        of_parts = self.model.self_attention_directions.values()
        return tuple(dict.fromkeys(direction for directions in of_parts for direction in directions))


def load_predictors(paths: Sequence[str], cuda_device: int = -1) -> list[NamedPredictor]:
    """
    Loads archives of one task that `allennlp train` wrote, given as the folder or as the `model.tar.gz` in it.

    # Raises

    `ConfigurationError`
        For a path that is no such archive, which it names; for one that is given twice; see `common_task`.
    """
    names = archive_names(paths)
    task = common_task({path: read_config(path) for path in paths})
    return [
        NamedPredictor(name, _load_predictor(path, task, cuda_device))
        for name, path in zip(names, Tqdm.tqdm(paths, desc="loading archives"), strict=True)
    ]


def task_of(source: str, config: dict[str, Any]) -> Task:
    """
    # Parameters

    source : `str`
        Where the config is from, for the errors.
    config : `Dict[str, Any]`
        Of `allennlp train`.

    # Raises

    `ConfigurationError`
        For a model whose attention this package's commands cannot ask for.
    """
    block = config.get("model", {})
    name = block.get("type")
    if name == "from_archive":
        return task_of(source, read_config(block["archive_file"]))
    try:
        model, _ = Model.resolve_class_name(str(name))
        predictor_name = str(model.default_predictor)
        predictor: Any = Predictor.by_name(predictor_name) if model.default_predictor else Predictor
    except ConfigurationError as error:
        raise ConfigurationError(f'The model of "{source}": {error.message}') from error
    if not issubclass(model, AttentionModel) or not issubclass(predictor, AttentionPredictor):
        raise ConfigurationError(
            f'"{source}" holds a model of type {name}, which does not show its attention weights; wanted is one of '
            f"{', '.join(_attention_models())}."
        )
    return Task(model, predictor, predictor_name)


def common_task(configs: Mapping[str, dict[str, Any]]) -> Task:
    """
    The one task of several configs, by their sources.

    # Raises

    `ConfigurationError`
        If they are of several, or one of none: see `task_of`.
    """
    tasks = {source: task_of(source, config) for source, config in configs.items()}
    first, *others = tasks
    for other in others:
        if (tasks[other].predictor, tasks[other].directions) != (tasks[first].predictor, tasks[first].directions):
            raise ConfigurationError(
                f'"{first}" is a model for the task "{tasks[first].predictor_name}" and "{other}" one for '
                f'"{tasks[other].predictor_name}": they cannot stand side by side.'
            )
    return tasks[first]


def _attention_models() -> list[str]:
    models = {name: Model.resolve_class_name(name)[0] for name in Model.list_available()}
    return [name for name, model in models.items() if issubclass(model, AttentionModel)]


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
    """What reads the items that an archive's model is to predict; errors are those of `read_config`."""
    config = read_config(path)
    try:
        resolved = cached_path(path)
        if os.path.isdir(resolved):
            return build_dataset_reader(config, resolved)
        with extracted_archive(resolved) as folder:
            return build_dataset_reader(config, folder)
    except Exception as error:  # as of `_load_predictor`
        raise _not_loaded(path, error) from error


def read_examples(path: str, source: str) -> Iterator[Example]:
    """
    The items of a source as an archive's dataset reader reads them.

    # Raises

    `ConfigurationError`
        If the archive's reader is none of this package's, or cannot read the source.
    """
    reader = load_dataset_reader(path)
    if not hasattr(reader, "read_examples"):
        raise ConfigurationError(
            f'The dataset reader of "{path}" is of type {type(reader).__name__}, which has no read_examples: '
            "items are read by a dataset reader of this package."
        )
    yield from reader.read_examples(source)


def build_dataset_reader(config: dict[str, Any], serialization_dir: Optional[str] = None) -> DatasetReader:
    """
    Of a config of `allennlp train` what reads data that is not trained on. The config stays as it is. A tokenizer may
    have left in the `serialization_dir` what it needs.
    """
    block = config.get("validation_dataset_reader") or config["dataset_reader"]
    return DatasetReader.from_params(Params(copy.deepcopy(block)), serialization_dir=serialization_dir)


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


def _load_predictor(path: str, task: Task, cuda_device: int) -> AttentionPredictor:
    try:
        archive = load_archive(path, cuda_device=cuda_device)
    except Exception as error:  # tar, the config, the vocabulary and the weights have errors of their own
        raise _not_loaded(path, error) from error
    predictor = Predictor.from_archive(archive, task.predictor_name)
    assert isinstance(predictor, AttentionPredictor)
    return predictor


def _not_loaded(path: str, error: Exception) -> ConfigurationError:
    reason = " ".join(str(error).split())  # of tarfile several lines
    return ConfigurationError(
        f'"{path}" is no archive of a trained model that can be loaded; wanted is the folder that '
        f"`allennlp train -s` wrote, or the {ARCHIVE_NAME} in it. {type(error).__name__}: {reason}"
    )
