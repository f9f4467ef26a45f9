import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import huggingface_hub
import pytest
from allennlp.common.checks import ConfigurationError

from tests.conftest import environment

CARD = "What we wrote about our model."
COMMIT = 40 * "a"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as a push needs."""

    repository = "people/pairs"
    requests: ClassVar[dict[str, list[Any]]] = {}

    def do_GET(self) -> None:
        if self.path.startswith(f"/api/models/{self.repository}/revision/"):
            self._answer({"id": self.repository, "sha": COMMIT, "siblings": [{"rfilename": "README.md"}]})
        elif self.path.startswith(f"/api/models/{self.repository}/tree/"):
            self._answer([{"type": "file", "path": "README.md", "size": len(CARD), "oid": COMMIT}])
        elif self.path.startswith(f"/{self.repository}/resolve/"):
            self._answer(CARD)
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        assert self.headers["Authorization"] == "Bearer hf_token", self.headers
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        action = self.path.split("?")[0].removeprefix(f"/api/models/{self.repository}/")
        self.requests.setdefault(action, []).extend(lines)
        url = f"http://{self.headers['Host']}/{self.repository}"
        if action == "/api/repos/create":
            self._answer({"url": url, "name": self.repository})
        elif action == "preupload/main":
            files = [{"path": file["path"], "uploadMode": "regular"} for file in lines[0]["files"]]
            self._answer({"files": [{**file, "shouldIgnore": False} for file in files]})
        elif action == "commit/main":
            self._answer({"success": True, "commitOid": COMMIT, "commitUrl": f"{url}/commit/{COMMIT}"})
        else:  # the check of a card's metadata
            self._answer({"errors": [], "warnings": []})

    def _answer(self, content: Any) -> None:
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{len(body)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_trained_model_is_pushed_to_the_hub(hub, tmp_path):
    model = tmp_path / "model"
    (model / "vocabulary").mkdir(parents=True)
    files = {"config.json": "{}", "weights.th": "weights", "vocabulary/labels.txt": "yes\nno\n", "out.log": "private"}
    for name, text in files.items():
        (model / name).write_text(text)
    command = [
        sys.executable, "-m", "allennlp", "push-to-hf", "--repo-name", "pairs", "--organization", "people",
        "--serialization-dir", str(model), "--commit-message", "After a week",
        "--local-repo-path", str(tmp_path / "hub"),
    ]  # fmt: skip
    variables = {"HF_ENDPOINT": hub, "HF_TOKEN": "hf_token", "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment() | variables, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (created,) = Hub.requests["/api/repos/create"]
    assert (created["organization"], created["name"]) == ("people", "pairs")
    header, *sent = (line["value"] for line in Hub.requests["commit/main"])
    assert header["summary"] == "After a week"
    pushed = {file["path"]: base64.b64decode(file["content"]).decode() for file in sent}
    card = pushed.pop("README.md")
    assert "allennlp" in card and card.endswith(CARD)
    del files["out.log"]
    assert pushed == files


def test_without_a_token_a_line_says_how_to_get_one(allennlp, tmp_path, monkeypatch):
    for name in os.environ:
        if name.startswith(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ConfigurationError, match="no token for the Hugging Face hub: log in with `hf auth login`"):
        allennlp("push-to-hf", "--repo-name", "pairs", "--serialization-dir", tmp_path)
