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


@pytest.fixture(scope="session")
def address(archives):
    """Where the real command serves both archives. It is stopped as a service is."""
    command = (sys.executable, "-m", "allennlp", "serve-attention", *map(str, archives.values()), "--port", "0")
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
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
