"""Network settings of both pages: the address, the port, and what a browser may load."""

from __future__ import annotations

import socket

from omnilmm.catalog import ROOT
from omnilmm.ui import texts

HOST = "127.0.0.1"
ICON = ROOT / "assets" / "icon.png"
# A picture that an answer references by URL would tell that server who reads the answer.
POLICY = "img-src 'self' data: blob:; media-src 'self' data: blob:; connect-src 'self'; font-src 'self' data:"


def find_port(host: str, port: int | None) -> int | None:
    """Return the port to listen on, None for Gradio's own choice.

    It is not reserved: for port 0 this is called right before the server listens.

    Raises:
        OSError: The port is taken, or this machine has no such address.
    """
    if port is None:
        return None
    try:
        with socket.create_server((host, port)) as server:
            return int(server.getsockname()[1])
    except OSError as error:
        raise OSError(texts.cannot_listen(host, port, error.strerror or str(error))) from error
