import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # Each of the processes that run tests takes its share of the cores: threads that wait for each other take all.
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

PROJECT_ROOT = Path(__file__).parent.parent

# Small enough to train in seconds.
SMALL = {
    "train_data_path": "sample:train[:192]",
    "validation_data_path": "sample:validation[:64]",
    "trainer.num_epochs": 1,
}

FILES_WITH_RAY = ("tests/commands/compare_attention_test.py", "tests/comparison/engine_test.py")


def pytest_configure() -> None:
    try:
        import hypothesis  # noqa: F401
    except ModuleNotFoundError as error:
        raise pytest.UsageError("The tests need more than training does: uv run --group test pytest -n 2") from error


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of one file share what they have trained; those with a Ray cluster would find each other's."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "Ray" if file in FILES_WITH_RAY else file

    # In the order of the files. Those with few tests, which are the slowest, would else come last, and one by one.
    config.option.loadscopereorder = False
    return Scheduling(config, log)


def environment() -> dict[str, str]:
    """Commands started as processes see the package although they run in another folder."""
    return {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}


@pytest.fixture(scope="session")
def allennlp():
    """The `allennlp` command line, in this process: importing AllenNLP anew takes ten seconds."""
    from allennlp.commands import main  # not needed for the operators' tests
    from allennlp.common.util import import_module_and_submodules

    # In a process of its own the plugins file does this; here the package may have been imported before AllenNLP.
    import_module_and_submodules("regattn_allennlp")

    def run(*arguments: str | Path) -> None:
        before = sys.argv, logging.root.handlers[:], logging.root.level
        sys.argv = ["allennlp", *map(str, arguments)]
        try:
            main(prog="allennlp")
        finally:
            sys.argv, logging.root.handlers[:], level = before
            logging.root.setLevel(level)

    return run


@pytest.fixture(scope="session")
def archive(allennlp, tmp_path_factory) -> Path:
    """A small model, trained on the sample by the command line."""
    folder = tmp_path_factory.mktemp("archive") / "fusedmax"
    config = PROJECT_ROOT / "training_configs" / "sample" / "fusedmax.jsonnet"
    allennlp(
        "train", config, "--serialization-dir", folder, "--include-package", "regattn_allennlp",
        "--overrides", json.dumps(SMALL),
    )  # fmt: skip
    return folder / "model.tar.gz"


# The looks that a page is checked in: what Playwright's emulate_media takes.
LOOKS = {
    "light": {"color_scheme": "light", "forced_colors": "none"},
    "dark": {"color_scheme": "dark", "forced_colors": "none"},
    "forced colors": {"color_scheme": "dark", "forced_colors": "active"},
}
SIZES = {"desktop": (1280, 800), "phone": (360, 740)}


@pytest.fixture(scope="session")
def assert_accessible():
    """
    Has axe-core look at a page as it stands, in every look and size; at the end it has the first of them.

        assert_accessible(page)
    """
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()

    def check(page: Any) -> None:
        reports = {}
        for size, (width, height) in reversed(SIZES.items()):
            page.set_viewport_size({"width": width, "height": height})
            for look, media in reversed(LOOKS.items()):
                page.emulate_media(**media)
                results = axe.run(page)
                if results.violations_count:
                    reports[f"{size}, {look}"] = results.generate_report()
        assert not reports, "\n\n".join(f"{where}: {report}" for where, report in reports.items())

    return check


@pytest.fixture(scope="module")  # Playwright keeps an event loop running, in which no test of asyncio can be
def browser():
    """A headless Chromium, the machine's own."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip(f"there is no Chromium on this machine (looked for {', '.join(names)})")
    from playwright.sync_api import sync_playwright

    switches = (
        "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync",
    )  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, headless=True, args=[f"--{switch}" for switch in switches]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """An empty page. Whatever it complains of on its console is an error of the test."""
    context = browser.new_context()
    context.set_default_timeout(10_000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else 0)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []
