"""Data loaders and the processes that they start."""

from types import SimpleNamespace
from typing import Any

from regattn_allennlp.compatibility.mend import mend


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
