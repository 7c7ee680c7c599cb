"""Stands before the application: refuses requests by their head, and bounds what the others take."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from absl import logging
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from mcl_jax.serving.access import fits, is_loopback
from mcl_jax.serving.limits import Limits, RequestError, too_large
from mcl_jax.serving.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

OPEN = ("/", "/health", "/openapi.json", "/responsible-use")
"""Paths that need no key, because nothing there is about a person."""

ENDPOINTS = (*OPEN, "/metrics", "/embed", "/compare", "/identify", "/enroll")

_LINGER_SECONDS = 1.0

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


class _NotTakenError(Exception):
    """The client does not take its answer."""


class Guard:
    """An ASGI application around another one; see the module."""

    def __init__(self, app: App, *, limits: Limits, key: str | None, metrics: Metrics):
        """Takes the application to protect; without a key only this machine may ask."""
        self._app, self._limits, self._key, self._metrics = app, limits, key, metrics
        self._held = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request = _Request(self, scope, receive, send)
        try:
            try:
                self._admit(scope["path"], Headers(scope=scope))
            except RequestError as refusal:
                await refused(refusal)(scope, receive, request.send)
            else:
                await self._app(scope, request.receive, request.send)
        except _NotTakenError:
            logging.warning("a client did not take its answer in %g s", self.limits.seconds)
        finally:
            self._held -= request.held
            path = scope["path"] if scope["path"] in ENDPOINTS else "other"
            self._metrics.note_request(path, request.status, time.perf_counter() - request.start)

    def _admit(self, path: str, headers: Headers) -> None:
        """Checks the head of a request, before its body is read.

        Raises:
            RequestError: if it is refused.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._key is None and not is_loopback(_hostname(host)):
            # A page elsewhere may have given this machine a name of its own, to read the answers.
            raise RequestError(403, "the Host header must be this machine, such as 127.0.0.1")
        if origin is not None and _place(origin) != host:
            raise RequestError(403, "requests that other web pages make are refused")
        if (
            self._key is not None
            and path not in OPEN
            and not fits(headers.get("authorization", ""), self._key)
        ):
            raise RequestError(401, "give the service's key in a header: Authorization: Bearer KEY")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._limits.body_bytes:
            raise too_large(self._limits)

    def hold(self, count: int) -> None:
        """Makes room for bytes of a request.

        Raises:
            RequestError: if all requests together have too many.
        """
        if self._held + count > self._limits.held_bytes:
            raise RequestError(503, "too many requests at once; try again in a while")
        self._held += count

    @property
    def limits(self) -> Limits:
        """The limits of the service."""
        return self._limits


class _Request:
    """One request: what it has sent, and how long it may take."""

    def __init__(self, guard: Guard, scope: MutableMapping[str, Any], receive: Receive, send: Send):
        self._guard, self._receive, self._send = guard, receive, send
        self._arrived = False
        self._deadline = asyncio.get_running_loop().time() + guard.limits.seconds
        self.start = time.perf_counter()
        self.held, self.status = 0, 500

    async def receive(self) -> Message:
        """Returns the next piece of the body.

        Raises:
            RequestError: if the body is too large, or comes too slowly.
        """
        if self._arrived:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            seconds = self._guard.limits.seconds
            raise RequestError(408, f"the request took longer than {seconds:g} s to arrive") from None
        piece = len(message.get("body", b""))
        self._guard.hold(piece)
        self.held += piece
        if self.held > self._guard.limits.body_bytes:
            raise too_large(self._guard.limits)
        self._arrived = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Sends a piece of the answer.

        Raises:
            _NotTakenError: if the client does not take it.
        """
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if last and self.status >= 400 and not self._arrived:
            await self._send_in_time({**message, "more_body": True})
            await self._discard_rest()
            message = {"type": "http.response.body"}
        await self._send_in_time(message)

    async def _send_in_time(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._guard.limits.seconds):
                await self._send(message)
        except TimeoutError:
            raise _NotTakenError from None

    async def _discard_rest(self) -> None:
        """Takes what a refused client still sends, for a moment: it could lose the answer otherwise."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_LINGER_SECONDS, self._guard.limits.seconds)):
                while (await self._receive()).get("more_body", False):
                    pass


def refused(error: RequestError) -> JSONResponse:
    """Returns the answer to a request that is refused."""
    # What is left of the body is not read, so the connection cannot be used again.
    headers = {"Connection": "close"}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 503:
        headers["Retry-After"] = "1"
    return JSONResponse({"error": str(error)}, error.status, headers)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str | None:
    """Returns host and port of an origin; None if it has none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None
