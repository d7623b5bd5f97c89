"""Fetch pictures by URL, if the operator allows it: bounded in size, without redirects, from public hosts only."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress

import httpx

from omnilmm.errors import ImageError
from omnilmm.images.limits import limits

TIMEOUT_S = 20.0
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def fetch(address: str) -> bytes:
    """Download a picture file.

    Raises:
        ImageError: The host is not public or not reachable, the status is not 200, or the file is too large.
    """
    try:
        url = httpx.URL(address)
        *others, last = _public_addresses(url.raw_host.decode("ascii"))
        for other in others:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return _fetched(address, url, other)
        return _fetched(address, url, last)
    except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ImageError("address_unreachable", address=address[:80], reason=error) from error


def _fetched(address: str, url: httpx.URL, checked: str) -> bytes:
    """Download from the address that was checked: a name server may give another one to whoever asks again.

    No proxy of the environment is used: it would look the name up again.
    """
    headers, extensions = {"host": url.netloc.decode("ascii")}, {"sni_hostname": url.raw_host.decode("ascii")}
    with (
        httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
        client.stream("GET", url.copy_with(host=checked), headers=headers, extensions=extensions) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise ImageError("status_instead_of_picture", address=address[:80], status=response.status_code)
        return _bounded(response, limits().file_mb * 2**20)


def _public_addresses(host: str) -> list[str]:
    found = list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(host, None)))
    if not all(map(_is_public, found)):
        raise ImageError("no_public_host", host=host)
    return [str(one) for one in found]


def _is_public(address: Address) -> bool:
    """Whether an address, and the IPv4 address that it may stand for, is one of the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        within = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None
        if inner := address.ipv4_mapped or address.sixtofour or within:
            return _is_public(inner)
    return address.is_global and not address.is_multicast


def _bounded(response: httpx.Response, most_bytes: int) -> bytes:
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > most_bytes:
            raise ImageError("fetched_picture_too_large", most=most_bytes / 2**20)
    return bytes(content)
