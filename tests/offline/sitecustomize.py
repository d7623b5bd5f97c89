"""Put on PYTHONPATH, this cuts a program off from the network and writes down where it wanted to go."""

import os
import socket
from typing import Any

_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")  # noqa: S104  # a name to compare with, nothing is bound


def _refuse(host: object) -> None:
    if isinstance(host, bytes):
        host = host.decode()
    if isinstance(host, str) and host and not host.startswith(_LOCAL):
        with open(os.environ["OFFLINE_LOG"], "a") as log:
            log.write(f"{host}\n")
        raise OSError(f"offline: {host}")


class _Offline(socket.socket):
    def connect(self, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            _refuse(address[0])
        super().connect(address)


_resolve = socket.getaddrinfo


def _getaddrinfo(host: Any, *arguments: Any, **more: Any) -> Any:
    _refuse(host)
    return _resolve(host, *arguments, **more)


socket.socket = _Offline  # type: ignore[misc]
socket.getaddrinfo = _getaddrinfo
