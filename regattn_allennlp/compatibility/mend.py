"""How a module of AllenNLP, or of a library that it uses, is mended when it is imported."""

import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from packaging.requirements import Requirement

Repair = Callable[[Any], None]


@dataclass(frozen=True)
class Mend:
    """
    One thing that is mended.

    # Parameters

    module : `str`
        The module that the repair changes, by its full name.
    puts_back : `str`
        What works again, as one sentence of the documentation.
    versions : `str`
        What must be installed for it to be broken, as a requirement: `"torch>=2.6"`, or `"python>=3.14"`. With other
        versions nothing is changed.
    test : `str`
        The test that fails without it, as pytest names it: `"tests/compatibility/schedulers_test.py::test_..."`.
    repair : `Callable[[Any], None]`
        Changes the module, which has just been imported.
    """

    module: str
    puts_back: str
    versions: str
    test: str
    repair: Repair

    def is_needed(self) -> bool:
        """Whether the version that is installed is one of the broken ones."""
        requirement = Requirement(self.versions)
        try:
            installed = platform.python_version() if requirement.name == "python" else version(requirement.name)
            return requirement.specifier.contains(installed, prereleases=True)
        except PackageNotFoundError:
            return False


MENDS: list[Mend] = []
"""All that is mended, in the order of registration; also what the installed versions do not need."""


def mend(module: str, *, puts_back: str, versions: str, test: str) -> Callable[[Repair], Repair]:
    """
    Decorates a repair, a function that changes the module it is given. The repair is done right after the module is
    imported, or at once if it was before, and only with the versions that need it. See `Mend` for the arguments.

    ```python
    @mend("allennlp.nn.util", puts_back="...", versions="torch>=2.9", test="tests/compatibility/...")
    def repair_clipping(util: Any) -> None:
        util.clip = clip
    ```
    """

    def register(repair: Repair) -> Repair:
        entry = Mend(module, puts_back, versions, test, repair)
        MENDS.append(entry)
        if entry.is_needed():
            if module in sys.modules:
                repair(sys.modules[module])
            else:
                _finder.repairs.setdefault(module, []).append(repair)
        return repair

    return register


def table() -> str:
    """All that is mended, as a table in Markdown: a theme, what it puts back, and the versions that need it."""
    rows = [(entry.repair.__module__.rpartition(".")[2], entry.puts_back, f"`{entry.versions}`") for entry in MENDS]
    lines = [("theme", "what works again", "with"), ("---",) * 3, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class _MendingFinder(MetaPathFinder):
    """Finds modules as they are found without it, and has the repairs done after their import."""

    def __init__(self) -> None:
        self.repairs: dict[str, list[Repair]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        repairs = self.repairs.get(fullname)
        if repairs is None:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_repair(module: ModuleType) -> None:
            execute(module)
            for repair in repairs:
                repair(module)

        # The loader belongs to this module alone. It is kept, because others ask it for sources and resources.
        spec.loader.exec_module = execute_and_repair  # type: ignore[method-assign]
        return spec


_finder = _MendingFinder()
sys.meta_path.insert(0, _finder)
