"""
Runs AllenNLP's own tests with this package: its mends, and its classes among AllenNLP's.

    git clone --depth 1 --branch v2.10.1 https://github.com/allenai/allennlp
    uv pip install flaky pytest-benchmark responses
    uv run --no-sync python tests/allennlp_suite/run.py allennlp

What tries to reach another machine is left out, and counted. Everything else has to pass but for what is listed in
`exceptions.txt`, each with its reason; and what is listed has to fail. The exit status is 1 where that is not so.
Tests may be chosen as pytest's arguments: `run.py allennlp tests/nn tests/modules -x`.
"""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

NETWORK = "needs the network: "


def listed_exceptions() -> dict[str, str]:
    """
    The reasons by test. A line without indentation is a reason, the indented lines under it are tests, as pytest names
    them, or the beginning of their names: a file stands for all tests in it. A reason that begins with "root: " is one
    for that user alone.
    """
    reasons, reason = {}, ""
    for line in (Path(__file__).parent / "exceptions.txt").read_text().splitlines():
        if line.startswith(" "):
            if os.geteuid() == 0 or not reason.startswith("root: "):
                reasons[line.strip()] = reason
        elif line:
            reason = line
    return reasons


class Suite:
    """The plugin of pytest that leaves out what needs the network and judges the rest."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}

    def pytest_configure(self, config: pytest.Config) -> None:
        from allennlp.common.util import import_module_and_submodules

        import_module_and_submodules("regattn_allennlp")  # as a plugins file does
        keep_to_this_machine(skip)

    def pytest_runtest_setup(self) -> None:
        import torch

        torch.manual_seed(0)  # some tests draw numbers of which not all will do

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self.note(report)

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """A test has three reports, of which what is not passed decides."""
        if report.passed:
            self.outcomes.setdefault(report.nodeid, "passed")
        else:
            outcome = "network" if NETWORK in str(report.longrepr) else report.outcome
            self.outcomes[report.nodeid] = outcome

    def having(self, outcome: str) -> list[str]:
        return [test for test, its_own in self.outcomes.items() if its_own == outcome]

    def lines(self) -> Iterator[str]:
        """What is to be said at the end; the lines of what is wrong begin with an exclamation mark."""
        reasons = listed_exceptions()
        exceptions = {
            test: beginning for test in self.having("failed") for beginning in reasons if is_in(test, beginning)
        }
        failures = [test for test in self.having("failed") if test not in exceptions]
        for test, beginning in exceptions.items():
            yield f"expected: {test}: {reasons[beginning]}"
        for test in failures:
            yield f"! failed: {test}"
        ran = [test for test, outcome in self.outcomes.items() if outcome in ("passed", "failed")]
        for beginning in reasons:
            if beginning not in exceptions.values() and any(is_in(test, beginning) for test in ran):
                yield f"! passed, so take it out of exceptions.txt: {beginning}"
        yield (
            f"{len(self.having('passed'))} passed, {len(self.having('network'))} need the network, "
            f"{len(self.having('skipped'))} skip themselves, {len(exceptions)} expected exceptions, "
            f"{len(failures)} failures"
        )


def is_in(test: str, beginning: str) -> bool:
    return test.startswith(beginning) and test[len(beginning) : len(beginning) + 1] in ("", "[", ":", "/")


def skip(reason: str) -> NoReturn:
    pytest.skip(reason, allow_module_level=True)


def fail(reason: str) -> NoReturn:
    raise RuntimeError(reason)


def keep_to_this_machine(give_up: Callable[[str], NoReturn]) -> None:
    """Has whoever asks for another machine give up at once: libraries try again and again for minutes."""
    connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo
    own = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "", None, socket.gethostname()}

    def check(host: Any) -> None:
        if host not in own:
            give_up(f"{NETWORK}{host}")

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            check(address[0])
        connect(self, address)

    def getaddrinfo_here(host: Any, *args: Any, **kwargs: Any) -> Any:
        check(host)
        return getaddrinfo(host, *args, **kwargs)

    socket.socket.connect = connect_here  # type: ignore[method-assign]
    socket.getaddrinfo = getaddrinfo_here


def main(checkout: Path, *arguments: str) -> int:
    suite = Suite()
    # In a copy, without AllenNLP's code: the tests are those of the checkout, and what they test is what is installed.
    with tempfile.TemporaryDirectory(prefix="allennlp_suite") as folder:
        for name in ("tests", "test_fixtures"):
            shutil.copytree(checkout / name, Path(folder) / name)
        for name in ("pytest.ini", "README.md"):
            shutil.copy(checkout / name, folder)
        before = Path.cwd()
        os.chdir(folder)
        os.environ["ALLENNLP_SRC_DIR"] = folder
        sys.path[0] = folder
        options = ("-p", "no:cacheprovider", "--continue-on-collection-errors", "--tb=short", "-ra")
        try:
            pytest.main([*options, *(arguments or ["tests"])], plugins=[suite])
        finally:
            os.chdir(before)
    lines = list(suite.lines())
    print(*lines, sep="\n")
    return int(not suite.outcomes or any(line.startswith("!") for line in lines))


if __name__ == "__mp_main__":
    keep_to_this_machine(fail)  # in a process that a test has spawned, which tells its test by an error

if __name__ == "__main__":
    # Tests fork. A forked process hangs where it needs threads of a pool that its parent had.
    os.environ["OMP_NUM_THREADS"] = "1"
    if len(sys.argv) < 2 or not (Path(sys.argv[1]) / "test_fixtures").is_dir():
        sys.exit("Give the folder of a checkout of AllenNLP 2.10.1 (it has a folder test_fixtures) as first argument.")
    sys.exit(main(Path(sys.argv[1]).resolve(), *sys.argv[2:]))
