"""Checkpoints: writing, finding and loading them."""

import functools
import glob
import logging
import os
import pickle
import zipfile
from types import ModuleType
from typing import Any

from regattn_allennlp.compatibility.mend import mend
from regattn_allennlp.whole_file import whole_file

logger = logging.getLogger(__name__)

INCOMPLETE = ".incomplete"
"""What the name of a checkpoint's file ends with that was found half written, or without its other half."""


class _TorchThatSavesWholeFiles(ModuleType):
    """PyTorch, but what it saves has its name only when it is whole."""

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch, name)

    @staticmethod
    def save(obj: Any, path: Any, *arguments: Any, **options: Any) -> None:
        import torch

        with whole_file(path) as unfinished:
            torch.save(obj, unfinished, *arguments, **options)


@mend(
    "allennlp.training.checkpointer",
    puts_back="A kill in the middle of writing a checkpoint leaves nothing that is taken for one",
    versions="allennlp==2.10.1",
    test="tests/compatibility/checkpoints_test.py::test_a_file_has_its_name_when_it_is_whole",
)
@mend(
    "allennlp.training.gradient_descent_trainer",
    puts_back="A kill in the middle of writing the best weights leaves those that were the best before",
    versions="allennlp==2.10.1",
    test="tests/compatibility/checkpoints_test.py::test_a_file_has_its_name_when_it_is_whole",
)
def save_whole_files(module: Any) -> None:
    # Both call nothing else of PyTorch's name `save`.
    module.torch = _TorchThatSavesWholeFiles("torch")


@mend(
    "allennlp.training.checkpointer",
    puts_back="A training recovers from the latest checkpoint that is whole",
    versions="allennlp==2.10.1",
    test="tests/compatibility/checkpoints_test.py::test_the_latest_whole_checkpoint_is_taken",
)
def find_whole_checkpoints(checkpointers: Any) -> None:
    checkpointer = checkpointers.Checkpointer
    find_all_checkpoints = checkpointer._find_all_checkpoints
    load_checkpoint = checkpointer.load_checkpoint

    @functools.wraps(find_all_checkpoints)
    def find_all_whole_checkpoints(self: Any) -> set[tuple[int, int]]:
        return {point for point in find_all_checkpoints(self) if _is_whole(self, point)}

    @functools.wraps(load_checkpoint)
    def load_whole_checkpoint(self: Any) -> Any:
        if self._is_primary:
            _set_incomplete_files_aside(self)
        return load_checkpoint(self)

    checkpointer._find_all_checkpoints = find_all_whole_checkpoints
    checkpointer.load_checkpoint = load_whole_checkpoint


def _is_whole(checkpointer: Any, point: tuple[int, int]) -> bool:
    from allennlp.common.util import is_distributed
    from torch import distributed

    paths = [checkpointer._model_state_path(*point), checkpointer._training_state_path(*point)]
    if checkpointer.state_is_sharded and is_distributed():
        # One of each for each process.
        ending = f"_w{checkpointer._rank}.th"
        ranks = range(distributed.get_world_size())
        paths = [f"{path.removesuffix(ending)}_w{rank}.th" for path in paths for rank in ranks]
    # What PyTorch writes is a zip file, whose end is written last.
    return all(map(zipfile.is_zipfile, paths))


def _set_incomplete_files_aside(checkpointer: Any) -> None:
    # Their names are needed when their batches are trained with again.
    whole = checkpointer._find_all_checkpoints()
    for path in sorted(glob.glob(os.path.join(glob.escape(checkpointer._serialization_dir), "*_state_e*_b*.th"))):
        point = checkpointer._parse_model_state_path(path) or checkpointer._parse_training_state_path(path)
        if point is not None and point not in whole:
            logger.warning(
                "The checkpoint %s is not whole: the training was killed while it was written. The latest that is "
                "whole is gone on from. Not used any more, the file is %s from now on.",
                path,
                path + INCOMPLETE,
            )
            os.replace(path, path + INCOMPLETE)


@mend(
    "allennlp.training.checkpointer",
    puts_back="Training states that hold numbers of numpy load, `cosine` wrote them: nothing else is trusted",
    versions="torch>=2.6",
    test="tests/compatibility/checkpoints_test.py::test_states_that_were_written_with_numbers_of_numpy_load",
)
def load_numbers_of_numpy(checkpointers: Any) -> None:
    checkpointer = checkpointers.Checkpointer
    load_checkpoint = checkpointer.load_checkpoint

    @functools.wraps(load_checkpoint)
    def load_checkpoint_with_numbers_of_numpy(self: Any) -> Any:
        import torch
        from allennlp.common.checks import ConfigurationError

        with torch.serialization.safe_globals(_globals_of_numbers()):
            try:
                return load_checkpoint(self)
            except pickle.UnpicklingError as error:
                paths = self.find_latest_checkpoint()
                names = {path: torch.serialization.get_unsafe_globals_in_checkpoint(path) for path in paths}
                found = "; ".join(f"{', '.join(those)} in {path}" for path, those in names.items() if those)
                raise ConfigurationError(
                    f"PyTorch does not load what it does not trust: {found or error}. Name a class of your own to "
                    "torch.serialization.add_safe_globals, in the module that has it."
                ) from error

    checkpointer.load_checkpoint = load_checkpoint_with_numbers_of_numpy


def _globals_of_numbers() -> list[Any]:
    import numpy as np
    from numpy._core import multiarray

    kinds = (np.bool_, *np.sctypeDict.values())
    data_types = {type(np.dtype(kind)) for kind in kinds if issubclass(kind, (np.number, np.bool_))}
    functions = [
        # numpy 1 and numpy 2 have other names for them.
        (function, f"numpy.{core}.multiarray.{function.__name__}")
        for function in (multiarray.scalar, multiarray._reconstruct)
        for core in ("core", "_core")
    ]
    return [*functions, np.ndarray, np.dtype, *data_types]
