"""Serves a Gradio page privately: on this machine by default, without telemetry, retention or resources from elsewhere.

Gradio is imported only when a page is built, after its settings are in place: it reads some of them at import time.
"""

from __future__ import annotations

import html
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from omnilmm.catalog import ROOT
from omnilmm.images.limits import limits
from omnilmm.ui.gradio_page.routes import Gate, Servable, own_routes
from omnilmm.ui.hosts import Hosts, KnownHosts, hosts_of
from omnilmm.ui.leftovers import own_folder
from omnilmm.ui.network import HOST, ICON, POLICY, find_port
from omnilmm.ui.texts import CODES, texts_in
from omnilmm.ui.upload import QUOTA_MIB

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

STYLES = tuple(ROOT / "assets" / name for name in ("page.css", "past_chats.css", "live.css"))
SCRIPTS = tuple(
    ROOT / "assets" / name
    for name in ("history.js", "past_chats.js", "clip.js", "page.js", "live_recognition.js", "live.js")
)
LOGIN_SCRIPT = ROOT / "assets" / "login.js"
# Retention of uploads that were attached but never sent; those that were sent are deleted when their turn is saved.
UPLOADS_CHECKED_S, UPLOADS_KEPT_S = 600, 3600
SETTINGS: dict[str, Any] = {
    "prevent_thread_lock": True,
    "quiet": True,
    "favicon_path": ICON,
    "footer_links": [],
    "run_history": False,  # it would store questions and answers in the browser
    "enable_monitoring": False,
    "ssr_mode": False,
    "state_session_capacity": 256,  # visitors whose widget state Gradio itself keeps
    "_frontend": False,  # skip Gradio's request to itself, which times out on a busy machine (over 3 s)
}


def load_gradio() -> ModuleType:
    """Import gradio without its telemetry, and with a private upload folder that is deleted when the program ends."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Gradio (6.31) keeps the last 10,000 events, and computes statistics of all of them at the end of each, in pandas.
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"], os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = "1", str(2**62)
    if "GRADIO_TEMP_DIR" not in os.environ:
        os.environ["GRADIO_TEMP_DIR"] = str(own_folder())
    import gradio
    from gradio import http_server

    http_server.Server.run_in_thread = _run_in_thread
    return gradio


def _run_in_thread(server: Any) -> None:
    """Start the server without Gradio's five-second timeout, for busy machines; at its end, wait for pages 1 s only."""
    server.config.timeout_graceful_shutdown = 1
    server.thread = threading.Thread(target=server.run, name="serving", daemon=True)
    server.thread.start()
    while not server.started:
        server.thread.join(0.005)
        if not server.thread.is_alive():
            from gradio.exceptions import ServerFailedToStartError

            raise ServerFailedToStartError("The server could not be started.")


def upload_folder() -> Path:
    """Return the folder of the uploads of this program."""
    load_gradio()
    return Path(os.environ["GRADIO_TEMP_DIR"])


def launch(
    page: Servable,
    *,
    host: str = HOST,
    port: int | None = None,
    share: bool = False,
    login: Mapping[str, str] | None = None,
    root_path: str | None = None,
    max_file_mib: int | None = None,
    allowed_hosts: Sequence[str] = (),
    api: ASGIApp | None = None,
    upload_quota_mib: int = QUOTA_MIB,
    ssl: tuple[str, str] | None = None,
) -> str:
    """Serve a page in the background.

    Args:
        page: the page to serve.
        host: address to listen on.
        port: None for 7860 or the next free one, 0 for any free one.
        share: also create a public link through Gradio's servers, `page.demo.share_url`.
        login: passwords by name; no login is required if empty.
        root_path: the path or address under which a proxy serves the page.
        max_file_mib: limit for one upload; None for the limit of a picture file.
        allowed_hosts: further host names under which the page may be opened.
        api: the application that answers under `/v1` and `/health`, with an access check of its own.
        upload_quota_mib: limit for one visitor's uploads together that were not sent yet.
        ssl: files of the certificate and its private key, to serve over HTTPS.

    Returns:
        The local address.

    Raises:
        OSError: The port is taken, or this machine has no such address.
    """
    _bypass_proxy("localhost", "127.0.0.1", host)
    known = KnownHosts(host, hosts_of(allowed_hosts, root_path))
    demo, most_bytes = page.demo, (max_file_mib or limits().file_mb) * 2**20
    page.context.uploads.most_bytes = upload_quota_mib * 2**20
    demo.queue(max_size=None)  # the engine has the queue
    _, address, _ = demo.launch(
        server_name=host,
        server_port=find_port(host, port),
        share=share,
        auth=list(login.items()) if login else None,
        auth_message=_login_lines() if login else None,
        root_path=root_path,
        ssl_certfile=ssl[0] if ssl else None,
        ssl_keyfile=ssl[1] if ssl else None,
        ssl_verify=False,  # of Gradio's requests to itself
        max_file_size=most_bytes,
        app_kwargs={"middleware": _middleware(page, known, api), "routes": _routes(page, most_bytes)},
        theme=theme(),
        css_paths=[*STYLES],
        head=_head(),
        **SETTINGS,
    )
    if demo.share_url:
        known.add(demo.share_url)
    return str(address)


def _middleware(page: Servable, known: KnownHosts, api: ASGIApp | None) -> list[Any]:
    """Return what a request goes through before it reaches Gradio, in this order."""
    from starlette.middleware import Middleware

    beside = [Middleware(Beside, api=api)] if api else []
    return [Middleware(Hosts, known=known), *beside, Middleware(Gate, page=page)]


def _routes(page: Servable, most_bytes: int) -> list[Any]:
    return own_routes(page.context.uploads, most_bytes, page.live.connect if page.live else None)


class Beside:
    """ASGI middleware that routes requests for the API past the page and its login.

    Args:
        app: the page.
        api: the API.
    """

    def __init__(self, app: ASGIApp, api: ASGIApp) -> None:
        self.app, self.api = app, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        is_for_api = scope["type"] == "http" and (path.startswith("/v1/") or path == "/health")
        await (self.api if is_for_api else self.app)(scope, receive, send)


def _login_lines() -> str:
    """Return the text of the login page; a script can run there only as the error handler of an image."""
    script = html.escape(LOGIN_SCRIPT.read_text(encoding="utf-8"))
    lines = "<br>".join(texts_in(code).guessing_waits for code in CODES)
    return f'{lines}<img hidden alt="" src="data:," onerror="{script}">'


def _head() -> str:
    scripts = "".join(f"<script>{path.read_text(encoding='utf-8')}</script>" for path in SCRIPTS)
    return f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">{scripts}'


def theme() -> Any:
    """Return the theme: muted colours for light and dark, and system fonts; `assets/page.css` does the rest."""
    themes = load_gradio().themes
    return themes.Base(
        primary_hue=themes.colors.teal,
        secondary_hue=themes.colors.teal,
        neutral_hue=themes.colors.slate,
        radius_size=themes.sizes.radius_lg,
        font=("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"),
        font_mono=("ui-monospace", "Menlo", "Consolas", "monospace"),
    ).set(
        body_background_fill="*neutral_50",
        block_radius="14px",
        body_text_color="*neutral_800",
        body_text_color_subdued="*neutral_500",
        color_accent="*primary_700",
        border_color_accent_subdued="*primary_100",
        color_accent_soft="*primary_50",
        slider_color="*primary_600",
    )


def _bypass_proxy(*hosts: str) -> None:
    """Exclude hosts from the proxy, through which Gradio would otherwise check whether its own server is up."""
    known = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    names = dict.fromkeys([*filter(None, known.split(",")), *hosts])
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(names)
