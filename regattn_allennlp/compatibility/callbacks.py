"""Callbacks of the trainer."""

import functools
from typing import Any
from uuid import uuid4

from regattn_allennlp.compatibility.mend import mend


@mend(
    "allennlp.training.callbacks.wandb",
    puts_back="The callback `wandb`",
    versions="wandb>=0.29",
    test="tests/compatibility/callbacks_test.py::test_a_run_is_logged_and_goes_on_under_its_name",
)
def name_runs_without_wandb(callbacks: Any) -> None:
    # AllenNLP asks `wandb.util.generate_id`, which is gone, for a new run's name. It also passes `anonymous="allow"`,
    # of which wandb warns that it does nothing any more.
    callback = callbacks.WandBCallback
    on_start = callback.on_start

    @functools.wraps(on_start)
    def on_start_with_a_name(self: Any, trainer: Any, is_primary: bool = True, **kwargs: Any) -> None:
        if is_primary and self._run_id is None:
            self._run_id = uuid4().hex[:8]
        if self._wandb_kwargs.get("anonymous") == "allow":
            del self._wandb_kwargs["anonymous"]
        on_start(self, trainer, is_primary=is_primary, **kwargs)

    callback.on_start = on_start_with_a_name
