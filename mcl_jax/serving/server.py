"""Runs the service on an address until a signal ends it."""

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mcl_jax.errors import ConfigError
from mcl_jax.serving.access import KEY_VARIABLE, is_loopback
from mcl_jax.serving.guard import App
from mcl_jax.serving.limits import Limits


def bind(address: str, port: int, key: str | None) -> socket.socket:
    """Takes an address, before the model is loaded; nobody can connect yet.

    Args:
        address: IP address or name of this machine.
        port: 0 for any that is free.
        key: the service's key; without one only the loopback may be served.

    Raises:
        ConfigError: if there is no key for an address that others reach, or it cannot be taken.
    """
    if key is None and not is_loopback(address):
        raise ConfigError(
            f"--address: others reach {address}, so the service needs a key: set {KEY_VARIABLE}, or give "
            "--key-file"
        )
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{address}, port {port}: cannot be taken: {reason}; give another one") from None
    return listener


def run_until_signal(app: App, listener: socket.socket, limits: Limits, ready: Callable[[], None]) -> None:
    """Serves until SIGTERM or SIGINT; then takes no new request, and ends when those in flight are answered.

    Args:
        app: the application.
        listener: from `bind`.
        limits: of the service.
        ready: called once clients can connect.
    """
    server = Server(app, limits, ready)
    # uvicorn's handler, also before and after uvicorn sets it: at its end it raises the signal again.
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run([listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Server(uvicorn.Server):
    """uvicorn with the limits of the service."""

    def __init__(self, app: App, limits: Limits, ready: Callable[[], None]):
        """Takes the application, and what to call once clients can connect."""
        self._ready = ready
        patience: Any = limits.seconds  # declared as whole seconds, but used as they are
        leaving: Any = limits.leaving_seconds
        config = uvicorn.Config(
            app,
            http=_Patient,
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=patience,
            timeout_graceful_shutdown=leaving,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen."""
        await super().startup(sockets)
        self._ready()


class _Patient(H11Protocol):
    """Closes a connection on which the head of a request does not come in time.

    uvicorn itself waits for it without end; all that comes after the head is bounded by
    `mcl_jax.serving.guard`.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Starts the clock if a head is awaited, unless it runs already; stops it otherwise."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.config.timeout_keep_alive, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
