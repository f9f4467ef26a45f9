"""Plugins files and packages to include."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Collection
from typing import Any

from regattn_allennlp.compatibility.mend import mend


@mend(
    "allennlp.common.plugins",
    puts_back="A plugins file that says `regattn_allennlp` brings all of this package, imported before or not",
    versions="allennlp==2.10.1",
    test="tests/compatibility/plugins_test.py::test_a_plugins_file_brings_all_of_a_package_that_was_imported_before",
)
def import_all_of_this_plugin(plugins: Any) -> None:
    # AllenNLP imports the package that is named and nothing in it, and a package imports only once.
    import_plugins = plugins.import_plugins

    def import_plugins_and_their_modules() -> None:
        import_plugins()
        if "regattn_allennlp" in plugins.discover_plugins():
            plugins.import_module_and_submodules("regattn_allennlp")

    plugins.import_plugins = import_plugins_and_their_modules


@mend(
    "allennlp.common.util",
    puts_back="`--include-package my_package` imports no package `models` for its `my_package.models`",
    versions="allennlp==2.10.1",
    test="tests/compatibility/plugins_test.py::test_a_package_beside_a_subpackage_of_its_name_is_not_imported",
)
def import_each_module_once(util: Any) -> None:
    # AllenNLP walks through a package anew for each package in it, and on its way imports what else is found by the
    # bare name of a subpackage: for `my_package.models` a package `models` too.
    def import_module_and_submodules(package_name: str, exclude: Collection[str] | None = None) -> None:
        excluded = {*(exclude or ())}
        if importlib.util.find_spec("checklist") is None:
            excluded.add("allennlp.confidence_checks.task_checklists")
        importlib.invalidate_caches()
        with util.push_python_path("."):
            _import_with_submodules(package_name, excluded)

    util.import_module_and_submodules = import_module_and_submodules


def _import_with_submodules(name: str, excluded: set[str]) -> None:
    """But for those that begin with `_` or `test`."""
    if name in excluded:
        return
    folders = list(getattr(importlib.import_module(name), "__path__", []))
    for module in pkgutil.iter_modules(folders[:1]):
        if not module.name.startswith(("_", "test")):
            _import_with_submodules(f"{name}.{module.name}", excluded)
