"""How the server takes slow clients, many clients and its end; over real sockets."""

import asyncio
import functools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPResponse
from typing import TypeVar

import pytest
from fastapi import FastAPI, Request

from regattn_allennlp.server import guard, open_socket, serve, serving

T = TypeVar("T")
Address = tuple[str, int]

LIMIT = 0.5
POST = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"


@pytest.fixture
def application(monkeypatch) -> FastAPI:
    monkeypatch.setattr(guard, "SECONDS_FOR_A_BODY", LIMIT)
    monkeypatch.setattr(serving, "SECONDS_FOR_HEADERS", LIMIT)
    application = FastAPI()
    application.add_middleware(guard.Guard, max_body_bytes=100, host_names={"localhost"})

    @application.post("/")
    async def length(request: Request) -> int:
        return len(await request.body())

    @application.get("/")
    async def slow() -> str:
        await asyncio.sleep(2 * LIMIT)
        return "late"

    return application


@functools.cache  # a second Ctrl-C waits for no answer
def stop() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def while_served(application: FastAPI, ask: Callable[[Address], T]) -> T:
    """What `ask` gives, which is given the address. Then the server is stopped as by Ctrl-C, if it was not before."""
    stop.cache_clear()

    def ask_and_stop() -> T:
        while True:
            try:
                socket.create_connection(address).close()
                break
            except ConnectionRefusedError:  # it has not begun
                time.sleep(0.01)
        try:
            return ask(address)
        finally:
            stop()

    opened = open_socket("127.0.0.1", 0)
    address = opened.getsockname()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask_and_stop)
        serve(application, opened)
        return asked.result()


def send_slowly(address: Address, *parts: str, pause: float = 0.4 * LIMIT) -> tuple[int | None, str]:
    """The status of the answer, `None` where the connection is closed without one, and its body."""
    with socket.create_connection(address, timeout=10 * LIMIT) as connection:
        for part in parts:
            connection.sendall(part.encode())
            time.sleep(pause)
        if not connection.recv(1, socket.MSG_PEEK):
            return None, ""
        response = HTTPResponse(connection)
        response.begin()
        return response.status, response.read().decode()


def test_a_request_that_does_not_come_in_time_is_cut_off(application):
    def ask(address: Address) -> list[tuple[int | None, str]]:
        requests = [
            (POST, "1", "2"),
            ("GET / HTTP/1.1\r\n", "Host: ", "loc"),
            ("",),
            (POST, "12345", "67890"),
        ]
        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(lambda parts: send_slowly(address, *parts), requests))

    body, headers, nothing, in_time = while_served(application, ask)
    assert body == (408, f'{{"detail":"The body was not there after {LIMIT} seconds."}}')
    assert headers == nothing == (None, "")
    assert in_time == (200, "10")


def get(address: Address, **headers: str) -> tuple[int, bytes, str | None]:
    connection = HTTPConnection(*address, timeout=10 * LIMIT)
    connection.request("GET", "/", headers={"Host": "localhost", **headers})
    response = connection.getresponse()
    return response.status, response.read(), response.getheader("Connection")


def test_an_answer_may_take_its_time_and_comes_when_the_server_is_stopped(application, caplog):
    def ask(address: Address) -> list[tuple[int, bytes, str | None]]:
        threading.Timer(LIMIT, stop).start()
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda headers: get(address, **headers), ({}, upgrade)))

    answers = while_served(application, ask)
    assert [answer[:2] for answer in answers] == [(200, b'"late"')] * 2
    assert not caplog.records, "a WebSocket that is asked for is nothing to log"


def test_more_connections_than_allowed_are_told_so(application, monkeypatch):
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 3)

    def ask(address: Address) -> list[tuple[int, bytes, str | None]]:
        with ExitStack() as idle:
            for _ in range(3):
                idle.enter_context(socket.create_connection(address))
            refused = get(address)
        time.sleep(0.1)
        return [refused, get(address)]

    refused, answered = while_served(application, ask)
    assert refused[0] == 503 and b"More than 3 connections are open" in refused[1] and refused[2] == "close"
    assert answered[0] == 200
