from typing import Optional
from urllib.parse import urlsplit

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


class Guard:
    """
    Around the application: the answers' security headers, no body that is too large, no foreign host name.

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

        async def receive_no_more_than_allowed() -> Message:
            nonlocal num_bytes
            if int(headers.get("content-length", 0)) > self._max_body_bytes:
                raise self._too_large()
            message = await receive()
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
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # a bracket without its other
        return None
