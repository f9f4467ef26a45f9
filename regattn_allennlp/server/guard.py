import asyncio
import re
from typing import Optional

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = {
    # Nothing from elsewhere, nothing inline, no page around it.
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Another version of the program may answer at this address tomorrow.
    "Cache-Control": "no-cache",
}

# How long a client may take to send a body.
SECONDS_FOR_A_BODY = 10.0

# A name or an address, and a port; nothing that a URL may have besides, such as "user@".
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[\w.-]*)(:[0-9]*)?", re.ASCII | re.IGNORECASE)


class Guard:
    """
    Around the application: the answers' security headers, no body that is too large or takes too long, no foreign host
    name.

    # Parameters

    application : `ASGIApp`
    max_body_bytes : `int`
        A body is refused as soon as it has more bytes, or says that it will.
    host_names : `Optional[set[str]]`
        What the Host header may name, without the port; `None` for anything. A page of another site that has its own
        name resolve to this machine (DNS rebinding) still sends its own name.
    """

    def __init__(self, application: ASGIApp, max_body_bytes: int, host_names: Optional[set[str]]) -> None:
        self._application = application
        self._max_body_bytes = max_body_bytes
        self._host_names = host_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        headers = Headers(scope=scope)
        num_bytes = 0
        time_is_up = asyncio.get_running_loop().time() + SECONDS_FOR_A_BODY
        is_whole = False

        async def receive_no_more_than_allowed() -> Message:
            nonlocal num_bytes, is_whole
            if int(headers.get("content-length", 0)) > self._max_body_bytes:
                raise self._too_large()
            # What comes behind the body is that the client goes, and that may take its time.
            seconds_left = None if is_whole else time_is_up - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(receive(), seconds_left)
            except asyncio.TimeoutError:
                raise HTTPException(
                    408,
                    f"The body was not there after {SECONDS_FOR_A_BODY:g} seconds.",
                    headers={"Connection": "close"},
                ) from None
            is_whole = not message.get("more_body", False)
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_body_bytes:
                raise self._too_large()
            return message

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        host = headers.get("host", "")
        if self._host_names is not None and _name(host) not in self._host_names:
            names = ", ".join(sorted(self._host_names))
            refusal = JSONResponse(
                {"error": f'The Host header is "{host}"; this server answers to {names} alone.'}, status_code=400
            )
            await refusal(scope, receive, send_with_headers)
        else:
            await self._application(scope, receive_no_more_than_allowed, send_with_headers)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"The body is too large; no more than {self._max_body_bytes:,} bytes are taken.")


def _name(host: str) -> Optional[str]:
    found = HOST.fullmatch(host)
    return found[1].strip("[]").lower() if found else None
