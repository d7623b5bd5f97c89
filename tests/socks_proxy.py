"""A SOCKS5 proxy on this machine (RFC 1928): CONNECT, with or without a password."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class SocksProxy:
    """What it was asked for.

    Attributes:
        login: that it wants; None for nobody's.
        reached: host and port of every connection made through it.
    """

    login: tuple[str, str] | None = None
    port: int = 0
    reached: list[tuple[str, int]] = field(default_factory=list)

    @property
    def address(self) -> str:
        login = f"{self.login[0]}:{self.login[1]}@" if self.login else ""
        return f"socks5://{login}127.0.0.1:{self.port}"


class _Handler(socketserver.StreamRequestHandler):
    proxy: SocksProxy

    def handle(self) -> None:
        with suppress(ConnectionError):
            if self._greeted():
                self._connect()

    def _greeted(self) -> bool:
        _, count = self.rfile.read(2)
        methods = self.rfile.read(count)
        method = 2 if self.proxy.login else 0
        if method not in methods:
            self.wfile.write(b"\x05\xff")
            return False
        self.wfile.write(bytes([5, method]))
        if not self.proxy.login:
            return True
        self.rfile.read(1)
        given = tuple(self.rfile.read(self.rfile.read(1)[0]).decode() for _ in range(2))
        self.wfile.write(b"\x01\x00" if given == self.proxy.login else b"\x01\x01")
        return given == self.proxy.login

    def _connect(self) -> None:
        kind = self.rfile.read(4)[3]
        address = self.rfile.read(4 if kind == 1 else self.rfile.read(1)[0])
        host = socket.inet_ntoa(address) if kind == 1 else address.decode()
        port = int.from_bytes(self.rfile.read(2))
        self.proxy.reached.append((host, port))
        try:
            target = socket.create_connection((host, port), timeout=30)
        except OSError:
            self.wfile.write(b"\x05\x05\x00\x01" + bytes(6))
            return
        with target:
            self.wfile.write(b"\x05\x00\x00\x01" + bytes(6))
            there = threading.Thread(target=_pass_on, args=(self.connection, target), daemon=True)
            there.start()
            _pass_on(target, self.connection)
            there.join(5)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(1 << 16):
            target.sendall(block)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def socks_proxy(login: tuple[str, str] | None = None) -> Iterator[SocksProxy]:
    """Let one listen on a free port of this machine."""
    proxy = SocksProxy(login)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with _Server(("127.0.0.1", 0), handler) as server:
        proxy.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
