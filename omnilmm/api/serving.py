"""Run the API's server while the model loads."""

from __future__ import annotations

import socket
import threading
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from omnilmm.engine.provider import ModelProvider
from omnilmm.errors import OmniLMMError
from omnilmm.ui import texts
from omnilmm.ui.texts import ENGLISH


def serve(provider: ModelProvider, app: ASGIApp, **settings: Any) -> None:
    """Serve until Ctrl-C, then let the model go.

    Args:
        provider: whose model is announced once it is loaded.
        app: the application in front of it.
        settings: of `uvicorn.Config`.

    Raises:
        OmniLMMError: The model cannot be loaded.
    """
    server = _Server(uvicorn.Config(app, **settings))
    failed = _watch(provider, server)
    server.run()
    provider.stop()
    if failed:
        raise failed[0]


class _Server(uvicorn.Server):
    """Prints its address once it accepts connections."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            scheme = "https" if self.config.is_ssl else "http"
            port = self.servers[0].sockets[0].getsockname()[1]  # which is free, for port 0
            print(texts.api_served(f"{scheme}://{self.config.host}:{port}/"), flush=True)


def _watch(provider: ModelProvider, server: uvicorn.Server) -> list[Exception]:
    """Print a line once the model is loaded, or stop the server if loading fails; the returned list gets the error."""
    failed: list[Exception] = []

    def tell() -> None:
        try:
            provider.wait()
            print(ENGLISH.model_line(provider), flush=True)
        except OmniLMMError as error:
            failed.append(error)
            server.should_exit = True

    threading.Thread(target=tell, name="telling", daemon=True).start()
    return failed
