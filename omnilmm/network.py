"""Proxies from the environment: HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, with the exceptions in NO_PROXY.

httpx reads them whenever a client is created and fails on any that it does not support, even one that it would not use.
They are therefore checked first.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from omnilmm.errors import OptionsError
from omnilmm.sentences import Sentence

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def prepare_proxies() -> None:
    """Check the proxies of the environment, and rewrite `socks://`, as GNOME writes it, to `socks5://`.

    Raises:
        OptionsError: A proxy cannot be used; the message lists all settings, without user names and passwords.
    """
    named = _named()
    for name, address in named.items():
        if address.lower().startswith("socks://"):
            os.environ[name] = f"socks5{address[5:]}"
    if not named:
        return
    import httpx

    try:
        httpx.Client(verify=False).close()  # connects to nothing  # noqa: S501
    except Exception as error:
        reason = str(error).splitlines()[0].rstrip(".")
        shown = [f"{name}={_shown(address)}" for name, address in _named(*VARIABLES, "NO_PROXY").items()]
        raise OptionsError("proxy_unusable", reason=reason, settings=shown) from error


def proxy_for(address: str) -> Sentence | None:
    """Return the proxy that is used for an address and the variable that sets it; None without a proxy."""
    parts, found = urlsplit(address), getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    scheme = parts.scheme if found.get(parts.scheme) else "all"
    name = next((name for name in _named() if name.lower() == f"{scheme}_proxy"), None)
    return Sentence("proxy_named_by", proxy=_shown(proxy), variable=name or Sentence("system_settings"))


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine; no proxy can reach it for us."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_this_machine(host: str) -> bool:
    """Return whether a connection to a host stays on this machine: also 0.0.0.0, as servers print their address."""
    try:
        return is_loopback(host) or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _named(*variables: str) -> dict[str, str]:
    names = [spelt for name in variables or VARIABLES for spelt in (name, name.lower())]
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _shown(proxy: str) -> str:
    """Return the address of a proxy without user name and password."""
    scheme, slashes, rest = proxy.rpartition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
