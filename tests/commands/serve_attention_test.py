"""What `allennlp serve-attention` says before it serves; what it serves is in tests/server."""

import re
import signal
import socket
import subprocess
import sys

import pytest
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.predictors import archives
from regattn_allennlp.server import is_loopback, open_socket
from tests.conftest import PROJECT_ROOT, environment


@pytest.fixture
def nothing_is_loaded(monkeypatch):
    monkeypatch.setattr(archives, "load_archive", lambda path, **_: pytest.fail(path))


def test_help_teaches(allennlp, capsys):
    with pytest.raises(SystemExit):
        allennlp("serve-attention", "--help")
    printed = " ".join(capsys.readouterr().out.split())
    assert "allennlp serve-attention output/softmax output/fusedmax" in printed
    assert "curl http://127.0.0.1:8000/api/attention" in printed
    assert "--input ITEMS" in printed and "--open" in printed
    for option in "--port", "--host", "--max-characters", "--max-tokens", "--cuda-device":
        assert re.search(rf"{option} [A-Z_]+ [^(]*\(default = ", printed), option


def test_a_port_in_use_is_named_and_another_suggested(allennlp, archive, nothing_is_loaded):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"Port {port} .*in use.*--port [0-9]+, or --port 0") as raised:
            allennlp("serve-attention", archive, "--port", port)
    suggested = int(re.search(r"--port (\d+),", str(raised.value)).group(1))
    assert suggested != port
    open_socket("127.0.0.1", suggested).close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_here_is_named(allennlp, archive, nothing_is_loaded, host):
    with pytest.raises(ConfigurationError, match=re.escape(host)):
        allennlp("serve-attention", archive, "--host", host, "--port", 0)


def test_an_archive_that_is_not_there_is_named_before_another_is_loaded(allennlp, archive, nothing_is_loaded):
    with pytest.raises(ConfigurationError, match=r'"no/such/archive" is no archive .*wanted is the folder'):
        allennlp("serve-attention", archive, "no/such/archive", "--port", 0)
    with pytest.raises(ConfigurationError, match="given twice"):
        allennlp("serve-attention", archive, archive.parent, "--port", 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "ARCHIVE"),
        (("archive", "--port", "70000"), "a port is a number from 0 to 65535, not 70000"),
        (("archive", "--port", "eighty"), "eighty"),
        (("archive", "--max-tokens", "0"), "1 or above is wanted, not 0"),
        (("archive", "--max-characters", "-1"), "1 or above is wanted, not -1"),
    ],
)
def test_a_wrong_option_is_named(allennlp, capsys, arguments, message):
    with pytest.raises(SystemExit):
        allennlp("serve-attention", *arguments)
    assert message in capsys.readouterr().err


def test_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "127.0.0.2")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.1", "example.org")))


def test_sigterm_stops_it_while_models_are_loaded(archive):
    command = (sys.executable, "-m", "allennlp", "serve-attention", archive, "--port", "0")
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            read = ""
            while "loading archives:" not in read:
                character = process.stdout.read(1)
                assert character, read
                read += character
            process.send_signal(signal.SIGTERM)
            rest = process.communicate(timeout=60)[0]
        finally:
            process.kill()
    assert process.returncode == 0, rest
    assert rest.endswith("Stopped.\n") and "Traceback" not in rest and "Serving" not in rest
