"""From a host and a port to a server that runs until it is interrupted."""

import asyncio
import ipaddress
import socket
from contextlib import suppress

import h11
import uvicorn
from allennlp.common.checks import ConfigurationError
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from regattn_allennlp.server.guard import SECURITY_HEADERS

# How long answers under way may take when the server is stopped.
SECONDS_TO_FINISH = 5

# More would use up the files that a process may have open, of which systems allow 1024.
MAX_CONNECTIONS = 500

# How long a connection may be without a request that has begun: until its headers are whole.
SECONDS_FOR_HEADERS = 10.0


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
        http=_Connection,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )
    server = _Server(config)
    config.app = _Bouncer(application, server)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[opened])


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets is not None
        host, port = sockets[0].getsockname()[:2]
        print(f"Serving at http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C stops)", flush=True)


class _Bouncer:
    """Answers 503, and closes the connection, where there are too many connections."""

    def __init__(self, application: ASGIApp, server: uvicorn.Server) -> None:
        self._application = application
        self._connections = server.server_state.connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or len(self._connections) <= MAX_CONNECTIONS:
            await self._application(scope, receive, send)
            return
        refusal = JSONResponse(
            {"error": f"More than {MAX_CONNECTIONS} connections are open, and no more are served. Try again later."},
            status_code=503,
            headers={**SECURITY_HEADERS, "Connection": "close", "Retry-After": "5"},
        )
        await refusal(scope, receive, send)


class _Connection(H11Protocol):
    """uvicorn's, which would wait for ever for a request, or for the rest of its headers."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def _set_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(SECONDS_FOR_HEADERS, self._close_if_there_is_no_request)

    def _close_if_there_is_no_request(self) -> None:
        if self.conn.their_state is h11.IDLE:
            self.transport.close()

    def _should_upgrade(self) -> bool:
        # There are no WebSockets here. Who asks for one gets an answer, and the log no line.
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
