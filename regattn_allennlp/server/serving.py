"""From a host and a port to a server that runs until it is interrupted."""

import ipaddress
import socket
from contextlib import suppress

import uvicorn
from allennlp.common.checks import ConfigurationError
from fastapi import FastAPI

# How long answers under way may take when the server is stopped.
SECONDS_TO_FINISH = 5


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach a server at `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_socket(host: str, port: int) -> socket.socket:
    """
    A socket that holds the port, any free one for port 0.

    # Raises

    `ConfigurationError`
        If the port is in use or not allowed, or if the host is no address of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigurationError(
            f'--host "{host}" is no address of this machine ({error}); for this machine alone it is 127.0.0.1.'
        ) from error
    opened = socket.socket(family, kind)
    # A port whose last connections are still closing is free.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind(address)
    except OSError as error:
        opened.close()
        raise ConfigurationError(
            f'Port {port} of "{host}" cannot be had ({error.strerror}). Take another, such as --port '
            f"{_free_port()}, or --port 0 for any that is free."
        ) from error
    return opened


def serve(application: FastAPI, opened: socket.socket) -> None:
    """Serves until the process is interrupted; prints the address once it answers."""
    # The program's log has what goes wrong; a line for each request would hide it.
    config = uvicorn.Config(
        application,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )
    with suppress(KeyboardInterrupt):
        _Server(config).run(sockets=[opened])
    print("Stopped.")


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets is not None
        host, port = sockets[0].getsockname()[:2]
        print(f"Serving at http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C stops)", flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
