"""Serves a Gradio page privately: on this machine alone, telling nobody, keeping nothing, loading nothing from afar.

Gradio is imported only when a page is built, with its settings in place: it reads some of them when it is imported.
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
from omnilmm.ui.leftovers import own_folder
from omnilmm.ui.network import HOST, ICON, POLICY, find_port
from omnilmm.ui.texts import CODES, texts_in
from omnilmm.ui.upload import QUOTA_MIB

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

STYLES = tuple(ROOT / "assets" / name for name in ("page.css", "past_chats.css"))
SCRIPTS = tuple(ROOT / "assets" / name for name in ("history.js", "past_chats.js", "page.js"))
LOGIN_SCRIPT = ROOT / "assets" / "login.js"
# Uploads that were attached but never sent; what was sent is deleted when its turn is saved.
UPLOADS_CHECKED_S, UPLOADS_KEPT_S = 600, 3600


def load_gradio() -> ModuleType:
    """Import gradio: without its telemetry, and with a private folder for uploads that goes with the program."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if "GRADIO_TEMP_DIR" not in os.environ:
        os.environ["GRADIO_TEMP_DIR"] = str(own_folder())
    import gradio
    from gradio import http_server

    http_server.Server.run_in_thread = _run_in_thread
    return gradio


def _run_in_thread(server: Any) -> None:
    """Gradio's own gives up after five seconds, however busy the machine is, and waits as long for pages to close."""
    server.config.timeout_graceful_shutdown = 1
    server.thread = threading.Thread(target=server.run, name="serving", daemon=True)
    server.thread.start()
    while not server.started:
        server.thread.join(0.005)
        if not server.thread.is_alive():
            from gradio.exceptions import ServerFailedToStartError

            raise ServerFailedToStartError("The server could not be started.")


def upload_folder() -> Path:
    """Where uploads lie while the program runs."""
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
) -> str:
    """Serve a page in the background.

    Args:
        page: which one.
        host: address to listen on.
        port: None for 7860 or the next free one, 0 for any free one.
        share: also make a public link through Gradio's servers, `page.demo.share_url`.
        login: names and passwords; nobody is asked for one if there are none.
        root_path: where a proxy in front of it serves the page.
        max_file_mib: of an upload; None for what a picture file may have.
        allowed_hosts: names under which it is opened, besides those of this machine.
        api: what answers under `/v1` and `/health`, with a check of its own for who may.
        upload_quota_mib: of one visitor's uploads together that were not sent yet.

    Returns:
        The local address.

    Raises:
        OSError: The port is taken, or this machine has no such address.
    """
    from starlette.middleware import Middleware

    from omnilmm.ui.hosts import Hosts, KnownHosts, hosts_of

    _bypass_proxy("localhost", "127.0.0.1", host)
    known = KnownHosts(host, hosts_of(allowed_hosts, root_path))
    demo, most_bytes = page.demo, (max_file_mib or limits().file_mb) * 2**20
    page.context.uploads.most_bytes = upload_quota_mib * 2**20
    demo.queue(max_size=None)  # who waits is the engine's
    _, address, _ = demo.launch(
        server_name=host,
        server_port=find_port(host, port),
        share=share,
        prevent_thread_lock=True,
        quiet=True,
        theme=theme(),
        css_paths=[*STYLES],
        head=_head(),
        favicon_path=ICON,
        footer_links=[],
        run_history=False,  # it would keep questions and answers in the browser's storage
        enable_monitoring=False,
        ssr_mode=False,
        auth=list(login.items()) if login else None,
        auth_message=_login_lines() if login else None,
        root_path=root_path,
        max_file_size=most_bytes,
        state_session_capacity=256,  # what Gradio itself keeps of each visitor's widgets
        app_kwargs={
            "middleware": [
                Middleware(Hosts, known=known),
                *([Middleware(Beside, api=api)] if api else []),
                Middleware(Gate, page=page),
            ],
            "routes": own_routes(page.context.uploads, most_bytes),
        },
        _frontend=False,  # it does not ask itself whether it is there: a busy machine takes more than 3 s
    )
    if demo.share_url:
        known.add(demo.share_url)
    return str(address)


class Beside:
    """Leads requests to the API past the page, and its login.

    Args:
        app: the page.
        api: the other one.
    """

    def __init__(self, app: ASGIApp, api: ASGIApp) -> None:
        self.app, self.api = app, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        is_for_api = scope["type"] == "http" and (path.startswith("/v1/") or path == "/health")
        await (self.api if is_for_api else self.app)(scope, receive, send)


def _login_lines() -> str:
    """What stands where one signs in; the only way for a script onto that page is an image that fails."""
    script = html.escape(LOGIN_SCRIPT.read_text(encoding="utf-8"))
    lines = "<br>".join(texts_in(code).guessing_waits for code in CODES)
    return f'{lines}<img hidden alt="" src="data:," onerror="{script}">'


def _head() -> str:
    scripts = "".join(f"<script>{path.read_text(encoding='utf-8')}</script>" for path in SCRIPTS)
    return f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">{scripts}'


def theme() -> Any:
    """Calm colours for light and dark, fonts of the system; `assets/page.css` does the rest."""
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
    """Gradio asks its own server whether it is up, and would ask the proxy of a company for it."""
    known = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    names = dict.fromkeys([*filter(None, known.split(",")), *hosts])
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(names)
