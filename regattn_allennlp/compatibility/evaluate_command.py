"""The command `evaluate`."""

import functools
import json
from types import SimpleNamespace
from typing import Any

from regattn_allennlp.compatibility.mend import mend


@mend(
    "allennlp.commands.evaluate",
    puts_back="`evaluate` prints the metrics when it is done, as JSON on the standard output",
    versions="allennlp==2.10.1",
    test="tests/compatibility/evaluate_command_test.py::test_the_metrics_are_printed",
)
def print_the_metrics(evaluate: Any) -> None:
    # AllenNLP logs them, and only where they are written to a file as well.
    evaluate_from_args = evaluate.evaluate_from_args

    @functools.wraps(evaluate_from_args)
    def evaluate_and_print(args: Any) -> dict[str, Any]:
        metrics = evaluate_from_args(args)
        print(json.dumps(metrics, indent=2), flush=True)
        return metrics

    evaluate.evaluate_from_args = evaluate_and_print


@mend(
    "allennlp.commands.evaluate",
    puts_back="`evaluate --batch-size` works with archives whose data loader has a batch sampler",
    versions="allennlp==2.10.1",
    test="tests/compatibility/evaluate_command_test.py::test_the_batch_size_is_that_of_a_batch_sampler",
)
def give_the_batch_size_to_the_batch_sampler(evaluate: Any) -> None:
    # AllenNLP puts it beside the sampler, where its own data loader refuses it.
    build = evaluate.DataLoader.from_params

    def build_with_one_batch_size(params: Any, **extras: Any) -> Any:
        sampler = params.get("batch_sampler")
        if sampler is not None and params.get("batch_size") is not None:
            if "batch_size" in sampler:
                sampler["batch_size"] = params.pop("batch_size")
            else:  # one that makes batches by another measure
                params.pop("batch_sampler")
        return build(params=params, **extras)

    evaluate.DataLoader = SimpleNamespace(from_params=build_with_one_batch_size)
