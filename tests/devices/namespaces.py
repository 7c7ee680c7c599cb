"""Network namespaces joined by a bridge, each a host of its own to the network; as root, on Linux."""

import contextlib
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

_FILES = Path("/etc/netns")


class Namespaces:
    """Makes namespaces on entering, and removes all that was made on leaving."""

    def __init__(self, count: int):
        """Takes how many; with 0, processes stay in the network they are in."""
        self._count = count
        self._bridge = f"br{os.getpid()}"
        self.address = "10.213.0.1" if count else "localhost"  # of the first host, for all of them

    def inside(self, host: int) -> list[str]:
        """Returns the beginning of a command line that runs as that host."""
        return ["ip", "netns", "exec", self._name(host)] if self._count else []

    def __enter__(self) -> Self:
        try:
            if self._count:
                _ip("link", "add", self._bridge, "type", "bridge")
                _ip("link", "set", self._bridge, "up")
            for host in range(self._count):
                self._add(host)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._remove()

    def _add(self, host: int) -> None:
        name, here, there = self._name(host), f"h{host}-{os.getpid()}", f"n{host}-{os.getpid()}"
        _ip("netns", "add", name)
        # Gloo listens where the host's own name leads; `ip netns exec` shows this file as /etc/hosts.
        (_FILES / name).mkdir(parents=True)
        own = f"10.213.0.{host + 1} {socket.gethostname()}"
        (_FILES / name / "hosts").write_text(f"127.0.0.1 localhost\n{own}\n")
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        _ip("link", "set", here, "master", self._bridge, "up")
        _ip("-n", name, "addr", "add", f"10.213.0.{host + 1}/24", "dev", there)
        _ip("-n", name, "link", "set", there, "up")
        _ip("-n", name, "link", "set", "lo", "up")

    def _remove(self) -> None:
        for host in range(self._count):
            with contextlib.suppress(subprocess.CalledProcessError):  # it was not made
                _ip("netns", "delete", self._name(host))
            shutil.rmtree(_FILES / self._name(host), ignore_errors=True)
        if self._count:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("link", "delete", self._bridge)

    def _name(self, host: int) -> str:
        return f"host{host}-{os.getpid()}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
