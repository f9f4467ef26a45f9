"""Runs trials, several at a time: on this machine, or on the machines of a Ray cluster."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Optional

from allennlp.common.checks import ConfigurationError

from regattn_allennlp.comparison.trial_files import FAILURE_NAME, LOG_NAME, OUTCOME_NAME, write_atomically


def run_trials(
    folders: Sequence[Path], num_workers: Optional[int] = None, ray_address: Optional[str] = None
) -> Iterator[Path]:
    """
    Runs the trials whose `request.json` lies in the folders, and yields each folder when its trial is over, whether
    it has an outcome then or failed.

    # Parameters

    num_workers : `int`, optional
        How many trials run at a time. By default one; on Ray as many as the cluster has cores.
    ray_address : `str`, optional
        Of a Ray cluster whose machines all see the folders under the same path; "local" starts one here.
    """
    if not folders:
        return
    # Both kinds of pool have the interface of multiprocessing.Pool.
    if ray_address is None:
        num_workers = num_workers or 1
        num_threads: Optional[int] = max(1, (os.cpu_count() or 1) // num_workers)
        open_pool: AbstractContextManager[Any] = ThreadPool(num_workers)
    else:
        # Ray tells its processes how many threads are theirs.
        num_threads = None
        open_pool = _ray_pool(num_workers, ray_address)
    tasks = [(str(folder), num_threads, os.getcwd()) for folder in folders]
    with open_pool as pool:
        for folder in pool.imap_unordered(run_trial, tasks):
            yield Path(folder)


@contextmanager
def _ray_pool(num_workers: Optional[int], address: str) -> Iterator[Any]:
    # Ray would otherwise build the environment of `uv run` anew for its processes.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.util.multiprocessing import Pool
    except ImportError as error:
        raise ConfigurationError(f"--ray needs Ray, the extra regattn_allennlp[ray]: {error}") from error
    try:
        if ":" in address:
            # Ray itself takes minutes to find that nobody is there.
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:  # ConnectionError is an OSError
        raise ConfigurationError(
            f"--ray {address}: no Ray cluster answers there ({error}). Start one by `ray start --head`, and give its "
            'address, or "auto"; or write "local" for one that is started here.'
        ) from error
    try:
        with Pool(num_workers) as pool:
            yield pool
    finally:
        ray.shutdown()


def run_trial(task: tuple[str, Optional[int], str]) -> str:
    """Runs the trial of a folder in a process of its own, in a working directory, and returns the folder."""
    folder, num_threads, working_directory = task
    path = Path(folder)
    for name in (OUTCOME_NAME, FAILURE_NAME):
        (path / name).unlink(missing_ok=True)
    environment = dict(os.environ)
    if num_threads is not None:
        environment.setdefault("OMP_NUM_THREADS", str(num_threads))
    with open(path / LOG_NAME, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "regattn_allennlp.comparison.trial_process", folder],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=working_directory,
            env=environment,
        )
        status = process.wait()
    if not (path / OUTCOME_NAME).exists() and not (path / FAILURE_NAME).exists():
        reason = f"by signal {-status}" if status < 0 else f"with exit status {status}"
        write_atomically(path / FAILURE_NAME, f"its process ended {reason}, without saying why")
    return folder
