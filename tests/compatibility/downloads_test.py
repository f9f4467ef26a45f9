import functools
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from allennlp.common.file_utils import cached_path

CHANGED = 1_000_000_000  # some time, in seconds


class Server(SimpleHTTPRequestHandler):
    """Python's own gives Last-Modified and Content-Length, but no ETag."""

    fetched: ClassVar[list[str]] = []
    left_out: tuple[str, ...] = ()
    etag = ""

    def do_GET(self) -> None:
        self.fetched.append(self.path)
        super().do_GET()

    def send_header(self, keyword: str, value: str) -> None:
        if keyword not in self.left_out:
            super().send_header(keyword, value)

    def end_headers(self) -> None:
        if self.etag:
            super().send_header("ETag", self.etag)
        super().end_headers()


@pytest.fixture
def served(tmp_path, monkeypatch) -> Iterator[tuple[str, Path]]:
    """The URL of a file, and the file."""
    monkeypatch.setattr(Server, "fetched", [])
    (tmp_path / "served").mkdir()
    file = tmp_path / "served" / "pairs.jsonl"
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=file.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{file.name}", file
    server.shutdown()
    server.server_close()


def write(file: Path, text: str, changed: int = CHANGED) -> None:
    file.write_text(text)
    os.utime(file, (changed, changed))


def test_what_has_changed_is_fetched_again(served, tmp_path):
    url, file = served
    read = lambda: Path(cached_path(url, cache_dir=tmp_path / "cache")).read_text()  # noqa: E731
    write(file, "first")
    assert read() == read() == "first" and len(Server.fetched) == 1
    write(file, "later", changed=CHANGED + 60)  # of the same length
    assert read() == read() == "later" and len(Server.fetched) == 2
    write(file, "longer than before", changed=CHANGED + 60)
    assert read() == read() == "longer than before" and len(Server.fetched) == 3


@pytest.mark.parametrize("left_out", [("Last-Modified",), ("Last-Modified", "Content-Length")])
def test_what_a_server_does_not_tell_is_not_known(served, tmp_path, monkeypatch, left_out):
    url, file = served
    monkeypatch.setattr(Server, "left_out", left_out)
    read = lambda: Path(cached_path(url, cache_dir=tmp_path / "cache")).read_text()  # noqa: E731
    write(file, "first")
    assert read() == "first"
    write(file, "longer")
    assert read() == ("longer" if len(left_out) == 1 else "first")


def test_an_etag_is_all_that_counts_where_there_is_one(served, tmp_path, monkeypatch):
    url, file = served
    monkeypatch.setattr(Server, "etag", '"1"')
    read = lambda: Path(cached_path(url, cache_dir=tmp_path / "cache")).read_text()  # noqa: E731
    write(file, "first")
    assert read() == "first"
    write(file, "longer", changed=CHANGED + 60)
    assert read() == "first"
    monkeypatch.setattr(Server, "etag", '"2"')
    assert read() == "longer"
