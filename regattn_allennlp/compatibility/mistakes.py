"""
How the `allennlp` command tells its user of a mistake: in one line, such as

    allennlp: error: model.attention: gamma must be a finite number, above 0, but is -1.

Whose mistake is it? A `ConfigurationError` is the user's wherever it comes from, and so is a file, a folder or a disk
that the system refuses. Any other `ValueError` or `RuntimeError` is the user's only where it comes from what the user
wrote: `of_the_user` stands round the functions that read configs, build objects from them, and read data and archives.
All else, such as an error in a `forward`, is an error of a program, and its traceback is shown.
"""

import argparse
import errno
import functools
import json
import logging
import os
import pickle
import re
import sys
import tarfile
import traceback
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Optional

from regattn_allennlp.compatibility.mend import mend
from regattn_allennlp.whole_file import NO_ROOM

# Of an error that is the user's: where it comes from, for the reader, such as "model.attention"; "" if no one knows.
PLACE = "_place_of_the_mistake"
# Of an error that another process had told: its line.
LINE = "_line_of_the_mistake"

# What an error that is written for programmers may have at most of the line.
SHOWN_CHARACTERS = 500

# What the system says without naming a file where there is no more of something.
NO_MORE = {*NO_ROOM, errno.EMFILE, errno.ENFILE}

# What builds from a config. A TypeError in here is of a value of a wrong type, or of a key that is not taken.
BUILDING = ("allennlp.common.from_params", "allennlp.common.params")

UNREADABLE_ARCHIVE = (FileNotFoundError, tarfile.TarError, EOFError, zlib.error, pickle.UnpicklingError)


@contextmanager
def of_the_user(place: str, *others: type[Exception]) -> Iterator[None]:
    """
    Errors in here, if they are of a kind that says that a value is wrong, are told in a line that begins with `place`.
    They stay what they are for whoever catches them. Of several, one in the other, the inner place counts.
    """
    try:
        yield
    except Exception as error:
        if (_is_of_a_value(error) or isinstance(error, others)) and not getattr(error, PLACE, ""):
            setattr(error, PLACE, place)
        raise


def _is_of_a_value(error: Exception) -> bool:
    from allennlp.common.checks import ConfigurationError

    if isinstance(error, (TypeError, ConfigurationError)):
        return _module(error) in BUILDING
    if isinstance(error, OSError):  # a model that a library could not download, say
        return error.errno is None and not isinstance(error, FileNotFoundError)
    return isinstance(error, (ValueError, RuntimeError)) and not isinstance(
        error, (RecursionError, NotImplementedError)
    )


def _module(error: Exception) -> Optional[str]:
    """The module that an error was raised in."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].f_globals.get("__name__") if frames else None


def told(error: BaseException) -> Optional[str]:
    """The line that tells of a mistake; `None` for an error that is none."""
    from allennlp.common.checks import ConfigurationError
    from torch.multiprocessing import ProcessRaisedException

    if isinstance(error, ProcessRaisedException):  # of several that train together
        _, name, message = str(error).rpartition(f"\n{ConfigurationError.__module__}.{ConfigurationError.__name__}: ")
        return message.strip() if name else None
    if hasattr(error, LINE):
        return getattr(error, LINE)
    place = getattr(error, PLACE, None)
    is_told_already = isinstance(error, ConfigurationError)
    is_refused = isinstance(error, FileNotFoundError) or (
        isinstance(error, OSError) and (error.filename or error.errno is None or error.errno in NO_MORE)
    )
    if place is None and not (is_told_already or is_refused):
        return None
    text = f"{error}{_reasons(error)}" if is_told_already else _text(error)
    if not place or re.search(rf"(?<![\w.]){re.escape(place)}[.:]", text):
        return text
    return f"{place}: {text}"


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, json.JSONDecodeError) and "\n" not in error.doc.strip():
        return f"{error.msg} at character {error.pos} of {error.doc.strip()[:SHOWN_CHARACTERS]!r}"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _reasons(error: BaseException) -> str:
    """Why none of the types fits that an argument may have: AllenNLP has the errors of all behind its own."""
    if not str(error).startswith("Failed to construct argument"):
        return ""
    reasons = []
    while (error := error.__cause__) is not None:  # type: ignore[assignment]
        reasons.append(str(error.args[-1]) if error.args else type(error).__name__)
    return f" {'; '.join(dict.fromkeys(reversed(reasons)))}"


@mend(
    "allennlp.commands",
    puts_back="A mistake in a config, in data or in a path is told in one line; the traceback is in `out.log`",
    versions="allennlp==2.10.1",
    test="tests/compatibility/mistakes_test.py::test_a_mistake_is_told_in_a_line",
)
def tell_mistakes_in_a_line(commands: Any) -> None:
    main = commands.main

    @functools.wraps(main)
    def main_that_tells_mistakes_in_a_line(*arguments: Any, **options: Any) -> None:
        try:
            main(*arguments, **options)
        except Exception as error:
            # Who called this function still gets the error: this is for one that ends the process.
            is_set = getattr(sys.excepthook, "func", None) is tell
            if told(error) is not None and not (is_set or is_debugging()):
                sys.excepthook = functools.partial(tell, sys.excepthook)
            raise

    commands.main = main_that_tells_mistakes_in_a_line


def is_debugging() -> bool:
    return "--debug" in sys.argv or bool(os.environ.get("ALLENNLP_DEBUG"))


def tell(others: Any, kind: type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
    """A hook for uncaught errors: mistakes are told in a line, and what is none by the hook `others`."""
    from allennlp.common.checks import ConfigurationError

    line = told(error)
    if line is None:
        others(kind, error, trace)
        return
    # What was not written for the user may need more than its line.
    hint = "" if isinstance(error, (ConfigurationError, OSError)) else " (--debug shows where)"
    print(f"allennlp: error: {line}{hint}", file=sys.stderr)
    record = logging.root.makeRecord(
        "root", logging.CRITICAL, __file__, 0, "Uncaught exception", (), (kind, error, trace)
    )
    logging.raiseExceptions = False  # the disk may be full
    for handler in logging.root.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


@mend(
    "allennlp.commands",
    puts_back="Every command has `--debug`, which shows the traceback of a mistake",
    versions="allennlp==2.10.1",
    test="tests/compatibility/mistakes_test.py::test_every_command_takes_debug",
)
def give_every_command_debug(commands: Any) -> None:
    parser = commands.ArgumentParserWithDefaults
    initialize = parser.__init__

    @functools.wraps(initialize)
    def initialize_with_debug(self: Any, *args: Any, **kwargs: Any) -> None:
        # A command's own --debug is the one that counts.
        initialize(self, *args, **{"conflict_handler": "resolve", **kwargs})
        self.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of a mistake"
        )

    parser.__init__ = initialize_with_debug


@mend(
    "allennlp.commands",
    puts_back="A package of `--include-package` that is not there is named, and what it needs that is not there",
    versions="allennlp==2.10.1",
    test="tests/compatibility/mistakes_test.py::test_a_package_that_cannot_be_imported_is_named",
)
def name_missing_packages(commands: Any) -> None:
    import_package = commands.import_module_and_submodules

    @functools.wraps(import_package)
    def import_package_or_name_it(package_name: str, *args: Any, **kwargs: Any) -> None:
        from allennlp.common.checks import ConfigurationError

        try:
            import_package(package_name, *args, **kwargs)
        except ModuleNotFoundError as error:
            if error.name and f"{package_name}.".startswith(f"{error.name}."):
                raise ConfigurationError(
                    f"--include-package {package_name}: there is no module {error.name} in this folder, in "
                    "PYTHONPATH, or among what is installed."
                ) from error
            asking = traceback.extract_tb(error.__traceback__)
            files = [frame for frame in asking if not frame.filename.startswith("<frozen")]
            raise ConfigurationError(
                f"--include-package {package_name}: {files[-1].filename}, line {files[-1].lineno}, imports "
                f"{error.name}, which is not there."
            ) from error

    commands.import_module_and_submodules = import_package_or_name_it


@mend(
    "allennlp.common.params",
    puts_back="A config or `--overrides` that cannot be read is told in a line",
    versions="allennlp==2.10.1",
    test="tests/compatibility/mistakes_test.py::test_a_config_that_cannot_be_read_is_named",
)
def tell_of_unreadable_configs(params: Any) -> None:
    from_file = params.Params.__dict__["from_file"].__func__
    parse_overrides, with_overrides = params.parse_overrides, params.with_overrides

    @functools.wraps(from_file)
    def from_file_of_the_user(cls: Any, params_file: Any, *args: Any, **kwargs: Any) -> Any:
        if os.path.isdir(params_file):  # Jsonnet would end the process
            raise params.ConfigurationError(f"{params_file} is a folder, where the file of a config is wanted.")
        with of_the_user(str(params_file)):
            return from_file(cls, params_file, *args, **kwargs)

    @functools.wraps(parse_overrides)
    def parse_overrides_of_the_user(*args: Any, **kwargs: Any) -> Any:
        with of_the_user("--overrides"):
            return parse_overrides(*args, **kwargs)

    @functools.wraps(with_overrides)
    def with_overrides_of_the_user(original: Any, overrides_dict: Any, prefix: str = "") -> Any:
        block = f'"{prefix[:-1]}"' if prefix else "the config"
        keys = f" ({block} has {', '.join(original)})" if isinstance(original, dict) else ""
        with of_the_user(f"--overrides{keys}"):
            return with_overrides(original, overrides_dict, prefix)

    params.Params.from_file = classmethod(from_file_of_the_user)
    params.parse_overrides, params.with_overrides = parse_overrides_of_the_user, with_overrides_of_the_user


@mend(
    "allennlp.common.from_params",
    puts_back="A wrong value in a config is told in a line, with its key",
    versions="allennlp==2.10.1",
    test="tests/compatibility/mistakes_test.py::test_a_wrong_value_is_told_with_its_key",
)
def tell_of_wrong_values(from_params: Any) -> None:
    build = from_params.FromParams.__dict__["from_params"].__func__
    build_argument = from_params.pop_and_construct_arg

    @functools.wraps(build)
    def build_of_the_user(cls: Any, params: Any, *args: Any, **extras: Any) -> Any:
        place = getattr(params, "history", "").rstrip(".")
        keys = {*params} if isinstance(params, Mapping) else set()  # which are taken out
        with of_the_user(place):
            try:
                return build(cls, params, *args, **extras)
            except TypeError as error:
                # A constructor may take any key, and hand it on to one that does not.
                unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
                if unexpected and unexpected[1] in keys:
                    setattr(error, PLACE, getattr(error, PLACE, place))
                raise

    @functools.wraps(build_argument)
    def build_argument_of_the_user(
        class_name: str, argument_name: str, annotation: Any, default: Any, params: Any, **extras: Any
    ) -> Any:
        with of_the_user(f"{params.history}{argument_name}"):
            return build_argument(class_name, argument_name, annotation, default, params, **extras)

    from_params.FromParams.from_params = classmethod(build_of_the_user)
    from_params.pop_and_construct_arg = build_argument_of_the_user


@mend(
    "allennlp.commands.train",
    puts_back="A wrong value in a config is told in a line where several processes train, too",
    versions="allennlp==2.10.1",
    test="tests/compatibility/mistakes_test.py::test_mistakes_of_processes_that_train_are_told_in_a_line",
)
def tell_mistakes_of_processes_that_train(train: Any) -> None:
    work = train._train_worker

    @functools.wraps(work)
    def work_and_tell(process_rank: int, *args: Any, **kwargs: Any) -> Any:
        from allennlp.common.checks import ConfigurationError
        from torch import distributed

        try:
            return work(process_rank, *args, **kwargs)
        except Exception as error:
            # The process that waits for this one gets no more than the text of the traceback.
            line = told(error) if distributed.is_initialized() else None
            if line is None or isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(line) from error

    train._train_worker = work_and_tell


@mend(
    "allennlp.data.dataset_readers.dataset_reader",
    puts_back="Data that cannot be read are named, in a line",
    versions="allennlp==2.10.1",
    test="tests/compatibility/mistakes_test.py::test_unreadable_data_and_archives_are_named",
)
def tell_of_unreadable_data(dataset_reader: Any) -> None:
    read = dataset_reader.DatasetReader.read

    @functools.wraps(read)
    def read_of_the_user(self: Any, file_path: Any) -> Iterator[Any]:
        # Not round the `yield`: an error there is thrown by no reader.
        with of_the_user(str(file_path)):
            instances = iter(read(self, file_path))
        while True:
            with of_the_user(str(file_path)):
                try:
                    instance = next(instances)
                except StopIteration:
                    return
            yield instance

    dataset_reader.DatasetReader.read = read_of_the_user


@mend(
    "allennlp.models.archival",
    puts_back="A file that is no archive is named, in a line",
    versions="allennlp==2.10.1",
    test="tests/compatibility/mistakes_test.py::test_unreadable_data_and_archives_are_named",
)
def tell_of_unreadable_archives(archival: Any) -> None:
    from allennlp.common.checks import check_for_gpu

    load_archive = archival.load_archive

    @functools.wraps(load_archive)
    def load_archive_of_the_user(archive_file: Any, cuda_device: int = -1, *args: Any, **kwargs: Any) -> Any:
        check_for_gpu(cuda_device)  # PyTorch would tell of a driver, after the archive is unpacked
        place = f'"{archive_file}" cannot be loaded as the archive of a trained model'
        with of_the_user(place, *UNREADABLE_ARCHIVE):
            return load_archive(archive_file, cuda_device, *args, **kwargs)

    archival.load_archive = load_archive_of_the_user


@mend(
    "allennlp.data.data_loaders.multiprocess_data_loader",
    puts_back="A mistake in the data is told in a line where worker processes of a data loader read them, too",
    versions="allennlp==2.10.1",
    test="tests/compatibility/mistakes_test.py::test_mistakes_of_worker_processes_are_told_in_a_line",
)
def tell_mistakes_of_workers(loaders: Any) -> None:
    loader, worker_error = loaders.MultiProcessDataLoader, loaders.WorkerError
    put, initialize = loader._safe_queue_put, worker_error.__init__

    @functools.wraps(put)
    def put_with_what_is_told(self: Any, worker_id: int, item: Any, *args: Any) -> Any:
        result, failure = item
        error = sys.exc_info()[1]
        if failure is not None and error is not None and (line := told(error)) is not None:
            item = (result, (ToldByWorker(failure[0], line), failure[1]))
        return put(self, worker_id, item, *args)

    @functools.wraps(initialize)
    def initialize_with_what_is_told(self: Any, original_err_repr: str, traceback: Any) -> None:
        initialize(self, original_err_repr, traceback)
        if isinstance(original_err_repr, ToldByWorker):
            setattr(self, LINE, original_err_repr.line)

    loader._safe_queue_put, worker_error.__init__ = put_with_what_is_told, initialize_with_what_is_told


class ToldByWorker(str):
    """The `repr` of an error in a worker process, and the line that tells of it."""

    line: str

    def __new__(cls, representation: str, line: str) -> "ToldByWorker":
        self = super().__new__(cls, representation)
        self.line = line
        return self

    def __reduce__(self) -> Any:
        return ToldByWorker, (str(self), self.line)
