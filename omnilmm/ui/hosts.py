"""Under which names a page is served: a request that names another host is refused, on both pages.

Without that, any web site could speak to a page on this machine: its name leads to its own server first, and a moment
later to 127.0.0.1 (DNS rebinding). An address in numbers cannot be turned so, nor can a name that nobody registers.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ANY = "*"
_OF_A_NETWORK = (".local", ".home.arpa", ".internal")  # nobody can register a name with one of these endings


class KnownHosts:
    """The hosts of a page.

    Args:
        bound: the address that the server listens on; may be known only once it does.
        named: besides: names, also with `*.` before them, or `*` for any; empty ones are left out.
    """

    def __init__(self, bound: str | Callable[[], str], named: Iterable[str] = ()) -> None:
        self._bound = bound
        self._named = {_plain(name) for name in (*named, *os.environ.get("SPACE_HOST", "").split(",")) if name}

    def add(self, address: str) -> None:
        """Also the host of this address."""
        self._named.add(urlsplit(address).hostname or "")

    def is_named(self, name: str) -> bool:
        """Whether somebody said that this is a name of the page."""
        parents = {f"*{name[place:]}" for place, sign in enumerate(name) if sign == "."}
        return not self._named.isdisjoint({name, ANY, *parents})

    def has(self, name: str) -> bool:
        """Whether the page is served under this name."""
        bound = _plain(self._bound() if callable(self._bound) else self._bound)
        if self.is_named(name) or name == bound or _is_address(name) or name in _own_names():
            return True
        is_private = bound == "localhost" or (_is_address(bound) and ipaddress.ip_address(bound).is_loopback)
        return not is_private and ("." not in name or name.endswith(_OF_A_NETWORK) or name == _full_name())


class Hosts:
    """Refuses what is asked of another host, or by a page of another one.

    Args:
        app: what is served.
        known: its hosts.
    """

    def __init__(self, app: ASGIApp, known: KnownHosts) -> None:
        self.app, self.known = app, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else ""
        if not refusal:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # the connection has to be offered before it can be refused
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse(f"{refusal}\n", 403)(scope, receive, send)

    def _refusal(self, scope: Scope) -> str:
        """Why not; empty where nothing is wrong."""
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        host = _host_of(f"//{hosts[0]}") if len(hosts) == 1 else ""
        if not host or not self.known.has(host):
            return _how(f"This page is not served as {host or 'a host without a name'}", host)
        for origin in map(_host_of, origins):
            if origin != host and not self.known.is_named(origin):
                return _how(f"A page of {origin or 'no known host'} may not use this one", origin)
        return ""


def hosts_of(allowed: Iterable[str], root_path: str | None) -> list[str]:
    """What was said about the names of a page: those of `--allowed-host`, and that of `--root-path`."""
    return [*allowed, urlsplit(root_path or "").hostname or ""]


def _how(reason: str, host: str) -> str:
    return f"{reason}. Whoever runs it allows that with --allowed-host {host or 'NAME'}."


def _host_of(address: str) -> str:
    try:
        return _plain(urlsplit(address).hostname or "")
    except ValueError:
        return ""


def _plain(name: str) -> str:
    return name.strip().strip("[]").rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache
def _own_names() -> frozenset[str]:
    own = _plain(socket.gethostname())
    return frozenset({"localhost", own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}) - {"", ".local"}


@lru_cache
def _full_name() -> str:
    """With the domain; asked for only when somebody comes by a name that is not known: it can take seconds."""
    return _plain(socket.getfqdn())
