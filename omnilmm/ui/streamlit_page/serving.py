"""Settings of the private Streamlit server, its content security policy, and its address."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config

from omnilmm.catalog import ROOT
from omnilmm.ui.network import POLICY as IMAGES_POLICY

# Streamlit itself also needs its websocket, and components embedded in the page.
POLICY = IMAGES_POLICY.replace("connect-src 'self'", "connect-src 'self' ws: wss: blob: data:")


class Policy:
    """ASGI middleware whose response header makes the browser load nothing from other hosts.

    Args:
        app: the application to serve.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"content-security-policy", POLICY.encode())]
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, send_with_policy)


def settings(
    host: str,
    port: int | None,
    *,
    root_path: str | None = None,
    max_file_mib: int | None = None,
    ssl: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Return Streamlit's settings: those of `.streamlit/config.toml`, whatever the current folder, and of the flags.

    Args:
        host: address to listen on.
        port: None for 8501 or the next free one.
        root_path: the path or address under which a proxy serves the page.
        max_file_mib: limit for one picture; None for the limit in that file.
        ssl: files of the certificate and its private key, to serve over HTTPS.
    """
    wished = {
        "server.address": host,
        "server.port": port,
        "server.baseUrlPath": (root_path or "").strip("/") or None,
        "server.maxUploadSize": max_file_mib,
        "server.sslCertFile": ssl[0] if ssl else None,
        "server.sslKeyFile": ssl[1] if ssl else None,
    }
    shipped = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    return (
        dict(_flat(shipped))
        | {"server.headless": True}
        | {name: value for name, value in wished.items() if value is not None}
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten nested tables into dotted names."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def bound() -> str:
    """Return the address that the server listens on; all interfaces if none is set."""
    return config.get_option("server.address") or "0.0.0.0"  # noqa: S104


def address() -> str:
    """Return the URL of the page, once the server has chosen its port."""
    host, port = config.get_option("server.address") or "localhost", config.get_option("server.port")
    path = config.get_option("server.baseUrlPath").strip("/")
    scheme = "https" if config.get_option("server.sslCertFile") else "http"
    return f"{scheme}://{'localhost' if host in ('0.0.0.0', '::') else host}:{port}/{path}"  # noqa: S104
