"""The command `predict`."""

import contextlib
import functools
import json
import os
import sys
from collections import deque
from collections.abc import Iterator
from itertools import takewhile
from typing import Any, NamedTuple

from regattn_allennlp.compatibility.mend import mend
from regattn_allennlp.whole_file import naming

# How much of a line that cannot be predicted an error shows.
SHOWN_CHARACTERS = 200

BYTE_ORDER_MARK = "\ufeff"


@mend(
    "allennlp.commands.predict",
    puts_back="`predict` takes several input files, one after the other",
    versions="allennlp==2.10.1",
    test="tests/compatibility/predict_command_test.py::test_several_files_are_predicted_one_after_the_other",
)
def take_several_files(predict: Any) -> None:
    add_subparser, run = predict.Predict.add_subparser, predict._predict

    @functools.wraps(add_subparser)
    def add_subparser_with_more_files(self: Any, parser: Any) -> Any:
        subparser = add_subparser(self, parser)
        subparser.add_argument("more_input_files", nargs="*", help="more of them, predicted after the first")
        return subparser

    @functools.wraps(run)
    def predict_all(args: Any) -> None:
        given = [args.input_file, *getattr(args, "more_input_files", [])]
        # Files may also be enumerated as `evaluate` takes them.
        args.input_file = [file for one in given for file in ([one] if os.path.exists(one) else one.split(","))]
        run(args)

    predict.Predict.add_subparser, predict._predict = add_subparser_with_more_files, predict_all


@mend(
    "allennlp.commands.predict",
    puts_back="`predict --predictor-args` that is no JSON object, or has a key that the predictor does not take, is "
    "told in a line",
    versions="allennlp==2.10.1",
    test="tests/compatibility/predict_command_test.py::test_wrong_arguments_of_the_predictor_are_told",
)
def tell_wrong_predictor_arguments(predict: Any) -> None:
    get_predictor = predict._get_predictor

    @functools.wraps(get_predictor)
    def get_predictor_or_tell(args: Any) -> Any:
        given = args.predictor_args.strip()
        try:
            is_object = not given or isinstance(json.loads(given), dict)
        except ValueError:
            is_object = False
        if not is_object:
            raise predict.ConfigurationError(
                f'--predictor-args must be a JSON object, such as {{"frozen": true}}, but is {given}'
            )
        try:
            return get_predictor(args)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise predict.ConfigurationError(f"--predictor-args {given}: {error}") from error

    predict._get_predictor = get_predictor_or_tell


class _Unreadable(NamedTuple):
    """Stands for what could not be read, in its place behind what could."""

    error: Exception


@mend(
    "allennlp.commands.predict",
    puts_back="`predict` names the line that cannot be predicted and writes the predictions for the lines before it; "
    "it passes over a byte order mark",
    versions="allennlp==2.10.1",
    test="tests/compatibility/predict_command_test.py::test_a_line_is_named_and_those_before_it_are_kept",
)
def name_what_cannot_be_predicted(predict: Any) -> None:
    # AllenNLP reads all items of a batch before it predicts the first, and an exception loses all of them. Here one of
    # reading waits until the items before it are predicted, and of a batch that fails each is predicted by itself.
    manager = predict._PredictManager
    initialize, read_instances, run = manager.__init__, manager._get_instance_data, manager.run

    @functools.wraps(initialize)
    def initialize_with_places(self: Any, *args: Any, **kwargs: Any) -> None:
        initialize(self, *args, **kwargs)
        self._input_files = [self._input_file] if isinstance(self._input_file, str) else self._input_file
        # Of each item that is read and not yet predicted where it is, and its line.
        self._places = deque()

    def named(error: Exception, place: str, line: str) -> Exception:
        is_clear = isinstance(error, predict.ConfigurationError)
        message = f"{place}: {error if is_clear else f'{type(error).__name__}: {error}'}"
        return predict.ConfigurationError(message + (f"\n  {line.strip()[:SHOWN_CHARACTERS]}" if line else ""))

    def read_lines_of_all_files(self: Any) -> Iterator[Any]:
        paths = [file if file == "-" else predict.cached_path(file) for file in self._input_files]
        for file, path in zip(self._input_files, paths, strict=True):
            number = 0
            try:
                with contextlib.nullcontext(sys.stdin) if file == "-" else predict.open_compressed(path) as lines:
                    for number, line in enumerate(lines, start=1):
                        text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
                        if not text.isspace():
                            yield f"{file}, line {number}", text
            except UnicodeDecodeError as error:
                raise named(error, f"{file}, behind line {number}", "") from error

    def read_json(self: Any) -> Iterator[Any]:
        for place, line in read_lines_of_all_files(self):
            try:
                item = self._predictor.load_line(line)
            except Exception as error:
                raise named(error, place, line) from error
            self._places.append((place, line))
            yield item

    def read_instances_of_all_files(self: Any) -> Iterator[Any]:
        for file in self._input_files:
            self._input_file = file
            for number, instance in enumerate(read_instances(self)):
                place = getattr(instance, "place", f"instance {number} (counted from 0)")
                self._places.append((f"{file}, {place}", ""))
                yield instance

    def until_an_error(read: Any) -> Any:
        def read_until_an_error(self: Any) -> Iterator[Any]:
            try:
                yield from read(self)
            except Exception as error:
                yield _Unreadable(error)

        return read_until_an_error

    def those_before_an_error(predict_batch: Any) -> Any:
        def predict_one_by_one(self: Any, items: list[Any]) -> Iterator[str]:
            for item in items:
                try:
                    (result,) = predict_batch(self, [item])
                except Exception as error:
                    raise named(error, *self._places[0]) from error
                yield result

        @functools.wraps(predict_batch)
        def predict_those_before_an_error(self: Any, batch_data: list[Any]) -> Iterator[str]:
            items = list(takewhile(lambda item: not isinstance(item, _Unreadable), batch_data))
            try:
                results = iter(list(predict_batch(self, items)) if items else [])
            except Exception:
                results = predict_one_by_one(self, items)
            for result in results:
                self._places.popleft()
                yield result
            if len(items) < len(batch_data):
                raise batch_data[len(items)].error

        return predict_those_before_an_error

    @functools.wraps(run)
    def run_and_write(self: Any) -> None:
        if self._output_file is None:
            run(self)
            return
        with naming(self._output_file.name), self._output_file:
            run(self)

    manager.__init__, manager.run = initialize_with_places, run_and_write
    manager._get_json_data = until_an_error(read_json)
    manager._get_instance_data = until_an_error(read_instances_of_all_files)
    manager._predict_json = those_before_an_error(manager._predict_json)
    manager._predict_instances = those_before_an_error(manager._predict_instances)
