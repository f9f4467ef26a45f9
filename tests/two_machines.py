"""
Two hosts on one machine: two network namespaces of Linux, joined by a cable (a veth pair). They share the file system,
as machines with a common disk do, and its /etc/hosts, by which the name of each is its own loopback, as on Debian.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from tests.conftest import PROJECT_ROOT, environment


@dataclass
class Machine:
    """A network namespace of the name `name`, and what was started in it."""

    name: str
    address: str
    started: list[subprocess.Popen] = field(default_factory=list)

    def start(self, *command: object, **kwargs) -> subprocess.Popen:
        """Starts a command there, in a process group of its own."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *map(str, command)],
            env={**environment(), "OMP_NUM_THREADS": "1", **kwargs.pop("variables", {})},
            cwd=kwargs.pop("cwd", PROJECT_ROOT),
            start_new_session=True,
            **kwargs,
        )
        self.started.append(process)
        return process

    def processes(self) -> dict[int, str]:
        """The command lines of all that runs there, by process."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True).stdout
        return {int(pid): command for pid in pids.split() if (command := command_of(int(pid)))}

    def kill(self, unless: str | None = None) -> None:
        """Kills all that runs there, but for the commands that hold the word."""
        for pid, command in self.processes().items():
            if unless is None or unless not in command:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def command_of(pid: int) -> str:
    """The command line of a process, empty if it is over."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_for(condition: Callable[[], object], seconds: float = 600) -> None:
    """Waits until it is so, and fails if it takes longer than it should."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def ip(*arguments: str) -> None:
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if result.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {result.stderr.strip()}")


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Both machines; at the end, whatever happens, nothing is left of them. Skips the test where that cannot be."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("two machines are two network namespaces: that needs Linux, root and the command `ip`")
    # One process's namespaces and interfaces do not meet another's.
    names = [f"regattn-{os.getpid()}-{number}" for number in (1, 2)]
    machines = tuple(Machine(name, f"10.77.0.{number}") for number, name in enumerate(names, start=1))
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("-n", names[0], "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", names[1])
            for machine in machines:
                ip("-n", machine.name, "address", "add", f"{machine.address}/24", "dev", "cable")
                ip("-n", machine.name, "link", "set", "cable", "up")
                ip("-n", machine.name, "link", "set", "lo", "up")
        except OSError as error:
            pytest.skip(f"network namespaces are not permitted here: {error}")
        yield machines[0], machines[1]
    finally:
        existing = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split()
        for machine in machines:
            if machine.name in existing:
                machine.kill()
                ip("netns", "delete", machine.name)
            for process in machine.started:
                process.wait()
