"""Fetch pictures by URL, if the operator allows it: bounded in size, without redirects, from public hosts only."""

from __future__ import annotations

import ipaddress
import socket

import httpx

from omnilmm.errors import ImageError
from omnilmm.images.limits import limits

TIMEOUT_S = 20.0


def fetch(address: str) -> bytes:
    """Download a picture file.

    Raises:
        ImageError: The host is not public or not reachable, the status is not 200, or the file is too large.
    """
    try:
        url = httpx.URL(address)
        host = url.raw_host.decode("ascii")
        headers, extensions = {"host": url.netloc.decode("ascii")}, {"sni_hostname": host}
        # Connects to the address that was checked: a name server may give another one to whoever asks again.
        checked = url.copy_with(host=_public_address(host))
        with (
            httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client,
            client.stream("GET", checked, headers=headers, extensions=extensions) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise ImageError("status_instead_of_picture", address=address[:80], status=response.status_code)
            return _bounded(response, limits().file_mb * 2**20)
    except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ImageError("address_unreachable", address=address[:80], reason=error) from error


def _public_address(host: str) -> str:
    found = [ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(host, None)]
    if not all(one.is_global for one in found):
        raise ImageError("no_public_host", host=host)
    return str(found[0])


def _bounded(response: httpx.Response, most_bytes: int) -> bytes:
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > most_bytes:
            raise ImageError("fetched_picture_too_large", most=most_bytes / 2**20)
    return bytes(content)
