"""Data loaders and the processes that they start."""

import functools
import random
from types import SimpleNamespace
from typing import Any

from regattn_allennlp.compatibility.mend import mend


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
