"""Host names under which a page is served: both pages refuse requests for any other host.

Otherwise any web site could use a page on this machine by DNS rebinding: its name resolves first to its own server, and
a moment later to 127.0.0.1. That works neither with an IP address nor with a name that nobody can register.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from omnilmm.sentences import Sentence
from omnilmm.ui import refusals

ANY = "*"
_OF_A_NETWORK = (".local", ".home.arpa", ".internal")  # nobody can register a name with one of these endings


class KnownHosts:
    """The host names of a page.

    Args:
        bound: the address that the server listens on, or a function that returns it once it is known.
        named: further names, also with a leading `*.`, or `*` for any; empty ones are ignored.
    """

    def __init__(self, bound: str | Callable[[], str], named: Iterable[str] = ()) -> None:
        self._bound = bound
        self._named = {_plain(name) for name in (*named, *os.environ.get("SPACE_HOST", "").split(",")) if name}

    def add(self, address: str) -> None:
        """Add the host of this address."""
        self._named.add(urlsplit(address).hostname or "")

    def is_named(self, name: str) -> bool:
        """Return whether this name was configured for the page."""
        parents = {f"*{name[place:]}" for place, sign in enumerate(name) if sign == "."}
        return not self._named.isdisjoint({name, ANY, *parents})

    def has(self, name: str) -> bool:
        """Return whether the page is served under this name."""
        bound = _plain(self._bound() if callable(self._bound) else self._bound)
        if self.is_named(name) or name == bound or _is_address(name) or name in _own_names():
            return True
        is_private = bound == "localhost" or (_is_address(bound) and ipaddress.ip_address(bound).is_loopback)
        return not is_private and ("." not in name or name.endswith(_OF_A_NETWORK) or name == _full_name())


class Hosts:
    """ASGI middleware that refuses requests for another host, or from a page of another host.

    Args:
        app: the application to protect.
        known: the host names of the page.
    """

    def __init__(self, app: ASGIApp, known: KnownHosts) -> None:
        self.app, self.known = app, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # `websocket.connect` has to be received before the connection can be refused
            await send({"type": "websocket.close", "code": 1008})
        else:
            line = refusals.line(Headers(scope=scope), refusal)
            await PlainTextResponse(f"{line}\n", 403)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Sentence | None:
        """Return why a request is refused; None if it is not."""
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        host = _host_of(f"//{hosts[0]}") if len(hosts) == 1 else ""
        if not host or not self.known.has(host):
            return Sentence("unknown_host", host=host) if host else Sentence("host_without_name")
        for origin in map(_host_of, origins):
            if origin != host and not self.known.is_named(origin):
                return Sentence("unknown_origin", host=origin) if origin else Sentence("origin_without_name")
        return None


def hosts_of(allowed: Iterable[str], root_path: str | None) -> list[str]:
    """Return the configured host names of a page: those of `--allowed-host`, and that of `--root-path`."""
    return [*allowed, urlsplit(root_path or "").hostname or ""]


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
    """Return the fully qualified name; looked up only for an unknown host, since that can take seconds."""
    return _plain(socket.getfqdn())
