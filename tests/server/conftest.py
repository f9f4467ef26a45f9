import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT_ROOT, environment


@pytest.fixture(scope="session")
def archives(archive, tmp_path_factory) -> dict[str, Path]:
    """Two archives by the names they get: fusedmax's, and the same weights with entmax in its place."""
    folder = tmp_path_factory.mktemp("archives") / "entmax"
    shutil.copytree(archive.parent, folder)
    config = json.loads((folder / "config.json").read_text())
    config["model"]["attention"] = {"type": "entmax", "gamma": 0.5, "alpha": 1.5}
    (folder / "config.json").write_text(json.dumps(config))
    return {"fusedmax": archive, "entmax": folder}


ITEMS = [
    {
        "premise": "A brown dog is sleeping in the garden.",
        "hypothesis": "An animal is outside.",
        "label": "entailment",
    },
    {"premise": "A woman is reading a book in the library.", "hypothesis": "She swims.", "label": "contradiction"},
    *({"premise": f"{number} dogs run.", "hypothesis": "Some dogs run.", "label": "neutral"} for number in range(3)),
    *({"premise": f"{number} dogs run.", "hypothesis": "Some dogs run."} for number in range(3, 8)),
]


@pytest.fixture(scope="session")
def opened(tmp_path_factory) -> Path:
    """The file in which the address that a browser was to open is written down."""
    return tmp_path_factory.mktemp("browser") / "opened"


@pytest.fixture(scope="session")
def address(archives, opened):
    """Where the real command serves both archives, with items of its user's. It is stopped as a service is."""
    items = opened.with_name("items.jsonl")
    items.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    command = (
        sys.executable, "-m", "allennlp", "serve-attention", *map(str, archives.values()), "--port", "0",
        "--input", str(items), "--open",
    )  # fmt: skip
    browser = opened.with_name("browser")
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > "{opened}"\n')
    browser.chmod(0o755)
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, env={**environment(), "BROWSER": str(browser)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        printed = []
        try:
            for line in process.stdout:
                printed.append(line)
                if found := re.match(r"Serving at (http://127\.0\.0\.1:\d+)/", line):
                    break
            else:
                pytest.fail("the command ended: " + "".join(printed))
            yield found.group(1)
            process.send_signal(signal.SIGTERM)
            rest = process.communicate(timeout=30)[0]
            assert process.returncode == 0 and rest.endswith("Stopped.\n") and "Traceback" not in rest, rest
        finally:
            process.kill()
