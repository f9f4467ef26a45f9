"""What the README and the docs show is what happens."""

import re
import sys

import pytest

from tests.conftest import PROJECT_ROOT, pytest_configure

PAGES = [PROJECT_ROOT / "README.md", *sorted(PROJECT_ROOT.glob("docs/*.md"))]
# A block of Python, and what it prints if that is shown.
EXAMPLE = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
EXAMPLES = [(page.name, *match.groups()) for page in PAGES for match in EXAMPLE.finditer(page.read_text())]


def test_there_are_examples():
    assert {name for name, _, _ in EXAMPLES} >= {"README.md", "operators.md"}


@pytest.mark.parametrize("page, code, output", EXAMPLES, ids=[name for name, _, _ in EXAMPLES])
def test_python_examples_run_and_print_what_is_shown(page, code, output, capsys, request, tmp_path, monkeypatch):
    import torch

    if "output/fusedmax" in code:  # what the README's first command trains
        (tmp_path / "output").mkdir()
        (tmp_path / "output" / "fusedmax").symlink_to(request.getfixturevalue("archive").parent)
    monkeypatch.chdir(tmp_path)

    exec(compile(code, page, "exec"), {"scores": torch.randn(2, 3)})
    if output is not None:
        assert capsys.readouterr().out == output


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_paths_in_commands_exist():
    for page in PAGES:
        for path in re.findall(r"training_configs/[\w/]+\.jsonnet|benchmarks/\w+\.py|docs/\w+\.py", page.read_text()):
            assert (PROJECT_ROOT / path).exists(), f"{page.name}: {path}"


def test_ci_runs_the_readmes_test_command():
    (command,) = [line for line in (PROJECT_ROOT / ".ci" / "run").read_text().splitlines() if "pytest" in line]
    assert f"\n{command}\n" in PAGES[0].read_text()


def test_where_the_tests_needs_are_missing_pytest_names_the_readmes_test_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(pytest.UsageError) as error:
        pytest_configure()
    command = str(error.value).removeprefix("The tests need more than training does: ")
    assert f"&& {command}\n" in PAGES[0].read_text()
