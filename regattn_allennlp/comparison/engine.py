"""Runs trials, several at a time: on this machine, or on the machines of a Ray cluster."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Optional

from allennlp.common.checks import ConfigurationError

from regattn_allennlp.comparison.trial_files import FAILURE_NAME, LOG_NAME, NODE_NAME, OUTCOME_NAME, write_atomically

logger = logging.getLogger(__name__)

# How often a cluster is asked which of its machines are dead.
SECONDS_BETWEEN_LOOKS = 10


def run_trials(
    folders: Sequence[Path], num_workers: Optional[int] = None, ray_address: Optional[str] = None
) -> Iterator[Path]:
    """
    Runs the trials whose `request.json` lies in the folders, and yields each folder when its trial is over, whether
    it has an outcome then or failed.

    # Parameters

    num_workers : `int`, optional
        How many trials run at a time on this machine, by default one. On Ray it is as many as the cluster has cores.
    ray_address : `str`, optional
        Of a Ray cluster whose machines all see the folders under the same path; "local" starts one here. The trials
        of a machine that dies go on with the others.
    """
    if not folders:
        return
    if ray_address is not None:
        yield from _run_on_ray(folders, ray_address)
        return
    num_workers = num_workers or 1
    num_threads = max(1, (os.cpu_count() or 1) // num_workers)
    tasks = [(str(folder), num_threads, os.getcwd()) for folder in folders]
    with ThreadPool(num_workers) as pool:
        yield from map(Path, pool.imap_unordered(run_trial, tasks))


def _run_on_ray(folders: Sequence[Path], address: str) -> Iterator[Path]:
    with _ray_cluster(address) as ray:
        # What becomes of a trial whose machine dies is decided below, not by Ray: that would try again for ever what
        # needs more memory than there is.
        run = ray.remote(_run_trial_on_ray).options(num_cpus=1, max_retries=0)

        def start(folder: Path) -> Any:
            (folder / NODE_NAME).unlink(missing_ok=True)
            # Ray tells its processes how many threads are theirs.
            return run.remote((str(folder), None, os.getcwd()))

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


def _run_trial_on_ray(task: tuple[str, Optional[int], str]) -> str:
    import ray

    write_atomically(Path(task[0], NODE_NAME), ray.get_runtime_context().get_node_id())
    return run_trial(task)


@contextmanager
def _ray_cluster(address: str) -> Iterator[Any]:
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
