"""Data loaders and the processes that they start."""

import functools
import queue
import random
import signal
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from regattn_allennlp.compatibility.mend import mend

SECONDS_BETWEEN_LOOKS = 1.0
"""How often a command that waits for worker processes looks whether they live."""


@mend(
    "allennlp.data.data_loaders.multiprocess_data_loader",
    puts_back="What a worker process of a data loader draws depends on the random seeds of the config alone",
    versions="allennlp==2.10.1",
    test="tests/compatibility/data_loaders_test.py::test_a_worker_draws_the_same_from_the_same_seed",
)
def seed_workers(data_loaders: Any) -> None:
    # Python has each process that is forked draw random numbers of its own, and one that is spawned does anyway.
    loader = data_loaders.MultiProcessDataLoader

    def drawing_a_seed(start_workers: Any) -> Any:
        @functools.wraps(start_workers)
        def draw_seed_and_start_workers(self: Any, *arguments: Any) -> Any:
            self._seed_of_workers = random.getrandbits(32)
            return start_workers(self, *arguments)

        return draw_seed_and_start_workers

    def seeded(work: Any) -> Any:
        @functools.wraps(work)
        def seed_and_work(self: Any, worker_id: int, *arguments: Any) -> None:
            import numpy as np
            import torch

            seed = self._seed_of_workers + worker_id
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            # A process that is told to end has nothing to say of it; AllenNLP's handler would show a traceback.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            work(self, worker_id, *arguments)

        return seed_and_work

    for kind in ("instance", "batch"):
        start, work = f"_start_{kind}_workers", f"_{kind}_worker"
        setattr(loader, start, drawing_a_seed(getattr(loader, start)))
        setattr(loader, work, seeded(getattr(loader, work)))


@mend(
    "allennlp.data.data_loaders.multiprocess_data_loader",
    puts_back='Data loaders whose workers are started with `"start_method": "spawn"` or `"forkserver"`',
    versions="torch>=2.4",
    test="tests/compatibility/data_loaders_test.py::test_workers_of_every_start_method_read_all",
)
def share_a_lock_that_any_process_takes(loaders: Any) -> None:
    # The lock of the progress bars goes to the workers. AllenNLP makes one of the default start method, and one of
    # "fork" is refused by workers of the others. One of "spawn" is taken by all.
    multiprocessing = loaders.mp
    with_lock = {**vars(multiprocessing), "RLock": multiprocessing.get_context("spawn").RLock}
    loaders.mp = SimpleNamespace(**with_lock)


@mend(
    "allennlp.data.data_loaders.multiprocess_data_loader",
    puts_back="A worker process of a data loader that is killed stops the command, which would wait for it for ever",
    versions="allennlp==2.10.1",
    test="tests/compatibility/data_loaders_test.py::test_a_worker_that_is_killed_is_told_of",
)
def tell_of_killed_workers(loaders: Any) -> None:
    loader = loaders.MultiProcessDataLoader

    def watching(start_workers: Any) -> Any:
        @functools.wraps(start_workers)
        def start_and_watch_workers(self: Any, results: Any, context: Any) -> Any:
            workers, transmitters = start_workers(self, results, context)
            results.get = functools.partial(_get_while_all_live, results.get, workers, self.data_path)
            return workers, transmitters

        return start_and_watch_workers

    join_workers = loader._join_workers

    @functools.wraps(join_workers)
    def join_workers_that_live(self: Any, workers: Any, results: Any, transmitters: Any) -> None:
        # AllenNLP tells all of them to stop, and the pipe to a dead one is broken.
        living = [pair for pair in zip(workers, transmitters, strict=True) if pair[0].is_alive()]
        join_workers(self, [worker for worker, _ in living], results, [transmitter for _, transmitter in living])

    loader._start_instance_workers = watching(loader._start_instance_workers)
    loader._start_batch_workers = watching(loader._start_batch_workers)
    loader._join_workers = join_workers_that_live


def _get_while_all_live(get: Any, workers: Sequence[Any], data_path: Any) -> Any:
    from allennlp.common.checks import ConfigurationError

    while True:
        try:
            return get(timeout=SECONDS_BETWEEN_LOOKS)
        except (queue.Empty, OSError) as error:  # what a dead one has sent may no longer be there
            for worker in workers:
                if worker.exitcode:
                    end = f"killed by signal {-worker.exitcode}" if worker.exitcode < 0 else "ended"
                    raise ConfigurationError(
                        f"A process that reads {data_path} for the data loader was {end}. Where memory ran out, take "
                        'a smaller "num_workers" or "max_instances_in_memory".'
                    ) from error
            if not isinstance(error, queue.Empty):
                raise
