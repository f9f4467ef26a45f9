"""Plugins files."""

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
