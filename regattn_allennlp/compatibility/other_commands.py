"""The commands `print-results` and `find-lr`."""

import functools
import json
import math
import os
from typing import Any

from regattn_allennlp.compatibility.mend import mend
from regattn_allennlp.compatibility.mistakes import of_the_user


@mend(
    "allennlp.commands.print_results",
    puts_back="`print-results` without `--keys` prints all metrics; a folder without any is told",
    versions="allennlp==2.10.1",
    test="tests/compatibility/other_commands_test.py::test_all_metrics_are_printed_where_no_keys_are_given",
)
def print_all_metrics(print_results: Any) -> None:
    from allennlp.common.checks import ConfigurationError

    @functools.wraps(print_results.print_results_from_args)
    def print_results_from_args(args: Any) -> None:
        if not os.path.isdir(args.path):
            raise ConfigurationError(f"{args.path}: no such folder. print-results looks for runs in it.")
        results = {}
        for folder, _, names in os.walk(args.path):
            if args.metrics_filename not in names:
                continue
            path = os.path.join(folder, args.metrics_filename)
            with of_the_user(path), open(path, encoding="utf-8") as file:
                metrics = json.load(file)
            if not isinstance(metrics, dict):
                raise ConfigurationError(f"{path}: must be a JSON object of metrics, but is {str(metrics)[:80]}")
            results[path] = metrics
        if not results:
            raise ConfigurationError(
                f"{args.path}: no {args.metrics_filename} in it or in a folder below. A training writes its metrics "
                "at its end; of each epoch they are in metrics_epoch_0.json and so on (--metrics-filename)."
            )
        runs = sorted(results.items())
        keys = args.keys or list(dict.fromkeys(key for _, metrics in runs for key in metrics))
        print(", ".join(["model_run", *keys]))
        for path, metrics in runs:
            print(", ".join([path, *(str(metrics.get(key, "N/A")) for key in keys)]))

    print_results.print_results_from_args = print_results_from_args


@mend(
    "allennlp.commands.find_learning_rate",
    puts_back="`find-lr` tells of learning rates that it cannot go through before it loads the data",
    versions="allennlp==2.10.1",
    test="tests/compatibility/other_commands_test.py::test_impossible_learning_rates_are_told",
)
def check_learning_rates(find_learning_rate: Any) -> None:
    from allennlp.common.checks import ConfigurationError

    find = find_learning_rate.find_learning_rate_from_args

    @functools.wraps(find)
    def find_learning_rate_from_args(args: Any) -> None:
        start, end = args.start_lr, args.end_lr
        if not (math.isfinite(start) and (start > 0 or (args.linear and start == 0))):
            raise ConfigurationError(
                f"--start-lr must be a finite number, above 0 (with --linear also 0), but is {start}"
            )
        if not (math.isfinite(end) and end > start):
            raise ConfigurationError(f"--end-lr must be a finite number, above --start-lr ({start}), but is {end}")
        if args.num_batches <= 10:
            raise ConfigurationError(f"--num-batches must be above 10, but is {args.num_batches}")
        find(args)

    find_learning_rate.find_learning_rate_from_args = find_learning_rate_from_args
