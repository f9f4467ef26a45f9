"""Runs trials, several at a time: on this machine, or on the machines of a Ray cluster."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Optional

import torch

from regattn_allennlp.comparison.trial_files import (
    FAILURE_NAME,
    LOG_NAME,
    NODE_NAME,
    OUTCOME_NAME,
    RUNNING_NAME,
    write_atomically,
)

logger = logging.getLogger(__name__)

# How often a cluster is asked which of its machines are dead.
SECONDS_BETWEEN_LOOKS = 10


def run_trials(
    folders: Sequence[Path], num_workers: Optional[int] = None, ray_address: Optional[str] = None
) -> Generator[Path, None, None]:
    """
    Runs the trials whose `request.json` lies in the folders, and yields each folder when its trial is over, whether
    it has an outcome then or failed. Closing the iterator ends the trials that run.

    # Parameters

    num_workers : `int`, optional
        How many trials run at a time on this machine, by default one. Several have a GPU each, as far as there are
        GPUs, and share them if there are less. On Ray it is as many as the cluster has cores or, if it has GPUs, GPUs.
    ray_address : `str`, optional
        Of a Ray cluster whose machines all see the folders under the same path; "local" starts one here. The trials
        of a machine that dies go on with the others.
    """
    if not folders:
        return
    for folder in folders:
        (folder / RUNNING_NAME).unlink(missing_ok=True)  # of one that was killed
    if ray_address is not None:
        yield from _run_on_ray(folders, ray_address)
        return
    num_workers = min(num_workers or 1, len(folders))
    num_threads = max(1, (os.cpu_count() or 1) // num_workers)
    # A single worker's trial may have all the GPUs, for distributed training.
    gpus = visible_gpus() if num_workers > 1 else []
    shares: SimpleQueue[Optional[str]] = SimpleQueue()
    for worker in range(num_workers):
        shares.put(gpus[worker % len(gpus)] if gpus else None)
    running = _Running()

    def run(folder: Path) -> Path:
        gpu = shares.get()
        try:
            variables = {"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {}
            variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(num_threads))
            return Path(run_trial(str(folder), os.getcwd(), variables, num_workers > 1, running))
        finally:
            shares.put(gpu)

    with ThreadPool(num_workers) as pool:
        try:
            yield from pool.imap_unordered(run, folders)
        finally:
            running.stop()
            pool.close()
            pool.join()


def visible_gpus() -> list[str]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    number = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",")[:number] if given else [str(index) for index in range(number)]


class _Running:
    """The processes of this machine's trials, to end them."""

    def __init__(self) -> None:
        self.is_stopped = False
        self._processes: set[subprocess.Popen] = set()
        self._lock = threading.Lock()

    @contextmanager
    def holding(self, process: subprocess.Popen) -> Iterator[None]:
        with self._lock:
            self._processes.add(process)
            if self.is_stopped:
                _end(process)
        try:
            yield
        finally:
            with self._lock:
                self._processes.remove(process)

    def stop(self) -> None:
        with self._lock:
            self.is_stopped = True
            for process in self._processes:
                _end(process)


def _end(process: subprocess.Popen) -> None:
    # A trial is the first of a group of its own, with the processes that it has started.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def _run_on_ray(folders: Sequence[Path], address: str) -> Iterator[Path]:
    from allennlp.common.checks import ConfigurationError  # not above: Ray's processes import this module for a trial

    with _ray_cluster(address) as ray:
        # What becomes of a trial whose machine dies is decided below, not by Ray: that would try again for ever what
        # needs more memory than there is.
        num_gpus = 1 if ray.cluster_resources().get("GPU") else 0
        run = ray.remote(_run_trial_on_ray).options(num_cpus=1, num_gpus=num_gpus, max_retries=0)

        def start(folder: Path) -> Any:
            (folder / NODE_NAME).unlink(missing_ok=True)
            # Ray tells its processes how many threads and which GPU are theirs.
            return run.remote(str(folder), os.getcwd())

        running = {start(folder): folder for folder in folders}
        while running:
            ended, _ = ray.wait(list(running), timeout=SECONDS_BETWEEN_LOOKS)
            # Ray itself waits many minutes for the answer of a machine that closed no connection when it died.
            dead = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
            for trial, folder in list(running.items()):
                node = folder / NODE_NAME
                has_died = trial not in ended and node.exists() and node.read_text() in dead
                if trial not in ended and not has_died:
                    continue
                del running[trial]
                try:
                    if not has_died:
                        ray.get(trial)
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError):
                    has_died = True
                except ray.exceptions.OutOfMemoryError as error:
                    write_atomically(folder / FAILURE_NAME, f"Ray ended it to save the machine's memory: {error}")
                except OSError as error:  # of the function that is run, as it was raised there
                    raise ConfigurationError(
                        f"--ray {address}: a machine cannot run {folder}: {error.strerror}: {error.filename}. "
                        "All must see the folder of -s, the data and this working directory under the same paths."
                    ) from error
                if has_died:
                    logger.warning("The machine or process of Ray that ran %s has died: it goes on elsewhere.", folder)
                    running[start(folder)] = folder
                else:
                    yield folder


def _run_trial_on_ray(folder: str, working_directory: str) -> str:
    import ray

    write_atomically(Path(folder, NODE_NAME), ray.get_runtime_context().get_node_id())
    return run_trial(folder, working_directory, {}, beside_others=True)


@contextmanager
def _ray_cluster(address: str) -> Iterator[Any]:
    from allennlp.common.checks import ConfigurationError

    # Ray would otherwise build the environment of `uv run` anew for its processes.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address != "local" and _has_token():
        # `ray start` asks for the token where there is one, and Ray's clients give it only when they are told to.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
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
        yield ray
    finally:
        ray.shutdown()


def _has_token() -> bool:
    """Whether Ray finds a token here by which members of a cluster know each other. A local cluster leaves one."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or path.exists()


def run_trial(
    folder: str,
    working_directory: str,
    variables: dict[str, str],
    beside_others: bool,
    running: Optional[_Running] = None,
) -> str:
    """
    Runs the trial of a folder in a process of its own, in a working directory and with more environment variables, and
    returns the folder.
    """
    if running is not None and running.is_stopped:
        return folder
    running = running or _Running()
    path = Path(folder)
    for name in (OUTCOME_NAME, FAILURE_NAME):
        (path / name).unlink(missing_ok=True)
    (path / RUNNING_NAME).touch()
    command = [sys.executable, "-m", "regattn_allennlp.comparison.trial_process", folder]
    with open(path / LOG_NAME, "ab") as log:
        process = subprocess.Popen(
            [*command, "--beside-others"] if beside_others else command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=working_directory,
            env={**os.environ, **variables},
            start_new_session=True,  # Ctrl-C is for the comparison, which ends its trials
        )
        with running.holding(process):
            status = process.wait()
    (path / RUNNING_NAME).unlink()
    if not (path / OUTCOME_NAME).exists() and not (path / FAILURE_NAME).exists() and not running.is_stopped:
        write_atomically(path / FAILURE_NAME, _reason(status))
    return folder


def _reason(status: int) -> str:
    """What is known of a process that ended without saying why."""
    if status == -signal.SIGKILL:
        return (
            "killed by signal 9: as a rule, the machine had no memory left. Try fewer trainings at a time, or smaller "
            "batches"
        )
    ended = f"by signal {-status}" if status < 0 else f"with exit status {status}"
    return f"its process ended {ended}, without saying why"
