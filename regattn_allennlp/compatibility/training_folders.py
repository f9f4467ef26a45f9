"""What a training writes into its folder besides checkpoints."""

import functools
import os
import shutil
from pathlib import Path
from typing import Any, Optional, Union

from regattn_allennlp.compatibility.mend import mend
from regattn_allennlp.whole_file import UNFINISHED, whole_file

PADDING_FILE = "non_padded_namespaces.txt"
"""The file of a vocabulary's folder without which the folder is none, and which is written last."""


@mend(
    "allennlp.common.params",
    puts_back="A kill in the middle of writing `config.json` leaves none, or the one before",
    versions="allennlp==2.10.1",
    test="tests/compatibility/training_folders_test.py::test_what_is_half_written_has_not_its_name_yet",
)
def write_whole_configs(params: Any) -> None:
    to_file = params.Params.to_file

    @functools.wraps(to_file)
    def to_whole_file(self: Any, params_file: str, *arguments: Any, **options: Any) -> None:
        with whole_file(params_file) as unfinished:
            to_file(self, unfinished, *arguments, **options)

    params.Params.to_file = to_whole_file


@mend(
    "allennlp.common.util",
    puts_back="A kill in the middle of writing metrics leaves none, or those before",
    versions="allennlp==2.10.1",
    test="tests/compatibility/training_folders_test.py::test_what_is_half_written_has_not_its_name_yet",
)
def write_whole_metrics(util: Any) -> None:
    dump_metrics = util.dump_metrics

    @functools.wraps(dump_metrics)
    def dump_whole_metrics(file_path: Optional[str], metrics: dict[str, Any], log: bool = False) -> None:
        if not file_path:
            dump_metrics(file_path, metrics, log)
            return
        with whole_file(file_path) as unfinished:
            dump_metrics(unfinished, metrics, log)

    util.dump_metrics = dump_whole_metrics


@mend(
    "allennlp.models.archival",
    puts_back="A kill in the middle of writing `model.tar.gz` leaves none, or the one before",
    versions="allennlp==2.10.1",
    test="tests/compatibility/training_folders_test.py::test_what_is_half_written_has_not_its_name_yet",
)
def write_whole_archives(archival: Any) -> None:
    archive_model = archival.archive_model

    @functools.wraps(archive_model)
    def archive_whole_model(
        serialization_dir: Union[str, os.PathLike],
        weights: str = archival._DEFAULT_WEIGHTS,
        archive_path: Optional[Union[str, os.PathLike]] = None,
        include_in_archive: Optional[list[str]] = None,
    ) -> str:
        path = Path(serialization_dir if archive_path is None else archive_path)
        if archive_path is None or path.is_dir():
            path = path / "model.tar.gz"
        with whole_file(path) as unfinished:
            archive_model(serialization_dir, weights, unfinished, include_in_archive)
        return str(path)

    archival.archive_model = archive_whole_model


@mend(
    "allennlp.data.vocabulary",
    puts_back="A kill in the middle of writing a vocabulary leaves no half of it that is taken for the whole",
    versions="allennlp==2.10.1",
    test="tests/compatibility/training_folders_test.py::test_half_a_vocabulary_is_none",
)
def write_whole_vocabularies(vocabularies: Any) -> None:
    vocabulary = vocabularies.Vocabulary
    save_to_files = vocabulary.save_to_files

    @functools.wraps(save_to_files)
    def save_to_whole_files(self: Any, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        unfinished = Path(f"{os.fspath(directory).rstrip(os.sep)}{UNFINISHED}")
        with vocabularies.FileLock(os.path.join(directory, ".lock")):
            shutil.rmtree(unfinished, ignore_errors=True)
            save_to_files(self, str(unfinished))
            for path in sorted(unfinished.glob("*.txt"), key=lambda path: path.name == PADDING_FILE):
                os.replace(path, os.path.join(directory, path.name))
            shutil.rmtree(unfinished)

    vocabulary.save_to_files = save_to_whole_files


@mend(
    "allennlp.training.util",
    puts_back="`--recover` begins a training that was killed before it had written anything to go on from",
    versions="allennlp==2.10.1",
    test="tests/compatibility/training_folders_test.py::test_a_training_recovers_that_was_killed_before_it_began",
)
def recover_what_had_not_begun(util: Any) -> None:
    create_serialization_dir = util.create_serialization_dir

    @functools.wraps(create_serialization_dir)
    def create_or_recover(params: Any, serialization_dir: Any, recover: bool, force: bool) -> None:
        folder = Path(serialization_dir)
        if recover and folder.is_dir() and all(path.name.endswith(UNFINISHED) for path in folder.iterdir()):
            for path in folder.iterdir():
                path.unlink()
            recover = False
        create_serialization_dir(params, serialization_dir, recover, force)
        vocabulary = folder / "vocabulary"
        if params.get("distributed") and recover and not (vocabulary / PADDING_FILE).exists():
            # Its processes only read it.
            shutil.rmtree(vocabulary, ignore_errors=True)
            util.make_vocab_from_params(params.duplicate(), serialization_dir)

    util.create_serialization_dir = create_or_recover
