"""The Streamlit page: talk about pictures in the browser.

    python web_demo_streamlit.py [--model NAME] [--device auto] [--dtype auto] [--host 127.0.0.1] [--port 8501] [--open]
    streamlit run web_demo_streamlit.py -- [--model NAME] [--device auto] [--dtype auto]

This file has the flags, the server, and the wiring of the page; its parts are in `omnilmm.ui.streamlit_page`. It is
also the script that Streamlit runs for every visitor and every click. No answer is generated in that script: each has
its own thread (`omnilmm.ui.answering`), which the page polls.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from omnilmm.engine.provider import ModelProvider
from omnilmm.errors import OmniLMMError
from omnilmm.ui import texts
from omnilmm.ui.access import Guard, accounts
from omnilmm.ui.download_bar import DownloadBar
from omnilmm.ui.flag_values import check_certificate, check_live_link, check_requested, require
from omnilmm.ui.flags import Parser, add_live_link_flags, add_loading_flags, add_page_flags, flags_of_environment
from omnilmm.ui.network import find_port
from omnilmm.ui.startup import offer_of, provider_of, title_of
from omnilmm.ui.streams import configure_streams, one_line
from omnilmm.ui.texts import ENGLISH

Make = Callable[[], ModelProvider]

STARTED_S = time.monotonic()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    flags = Parser(description="Talk about pictures in the browser.")
    add_loading_flags(flags)
    add_page_flags(flags, port=8501)
    add_live_link_flags(flags)
    return flags


def _maker(flags: argparse.Namespace, bar: DownloadBar) -> Make:
    return partial(provider_of, flags, bar.report)


def build(make: Make, flags: argparse.Namespace) -> Any:
    """Return the page as an ASGI application, `streamlit.starlette.App`, which loads the model once it is served."""
    from starlette.middleware import Middleware
    from streamlit.starlette import App

    from omnilmm.ui.hosts import Hosts, KnownHosts, hosts_of
    from omnilmm.ui.streamlit_page import server_state, serving, sessions
    from omnilmm.ui.streamlit_page.routes import Gate

    @asynccontextmanager
    async def lifespan(_: App) -> AsyncIterator[None]:
        provider = make()
        server_state.serve(provider, None if flags.fixed_model else offer_of(flags, provider), flags.queue_size)
        server_state.SERVER.quota_bytes = flags.upload_quota_mib * 2**20
        server_state.SERVER.live_url = flags.live_url
        print(texts.served(serving.address(), time.monotonic() - STARTED_S), flush=True)
        if flags.open:
            webbrowser.open(serving.address())
        try:
            yield
        finally:
            server_state.stop()

    known = KnownHosts(serving.bound, hosts_of(flags.allowed_hosts, flags.root_path))
    hosts = Middleware(Hosts, known=known)
    guards = [Middleware(Guard, accounts=accounts(flags.auth))] if flags.auth else []
    guards += [Middleware(Gate), Middleware(serving.Policy)]
    # `streamlit run` finds this line by the name and the class in it, and then reads `app` of this module.
    app = App(Path(__file__).resolve(), lifespan=lifespan, middleware=[hosts, *guards])
    sessions.own_runtime(app)
    return app


def __getattr__(name: str) -> Any:
    """Return the `app` for `streamlit run web_demo_streamlit.py`."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    flags = parser().parse_args([*flags_of_environment(), *sys.argv[1:]])
    check_live_link(flags)
    return build(_maker(flags, DownloadBar()), flags)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page and load the model meanwhile, until Ctrl-C."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    configure_streams()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)
    failures: list[Exception] = []
    is_loaded = threading.Event()
    try:
        flags = parser().parse_args([*flags_of_environment(), *given])
        find_port(flags.host, flags.port)  # fail early, before the libraries are imported
        accounts(flags.auth)
        require("streamlit", extra="streamlit")
        check_requested(flags)
        check_certificate(flags.ssl_certfile, flags.ssl_keyfile)
        check_live_link(flags)
        print(texts.loading(title_of(flags)), flush=True)
        from omnilmm.ui.streamlit_page import serving

        with DownloadBar() as bar:
            page = build(_watched(_maker(flags, bar), flags.fixed_model, failures, is_loaded), flags)
            settings = serving.settings(
                flags.host,
                find_port(flags.host, flags.port),
                root_path=flags.root_path,
                max_file_mib=flags.max_file_size,
                ssl=(flags.ssl_certfile, flags.ssl_keyfile) if flags.ssl_certfile else None,
            )
            page.run(config=settings)
    except KeyboardInterrupt:
        if not failures:
            return 0 if is_loaded.is_set() else 1
    except (OmniLMMError, OSError) as error:
        failures.append(error)
    for failure in failures:
        sys.stderr.write(f"Error: {one_line(failure)}\n")
    return 2 if failures else 0


def _watched(make: Make, is_fixed: bool, failures: list[Exception], is_loaded: threading.Event) -> Make:
    """Wrap `make` to report the outcome of the first model in the terminal.

    If it fails, the program ends, unless a visitor has the page open, where another model can be chosen.
    """
    from omnilmm.ui.streamlit_page import server_state

    def tell(provider: ModelProvider) -> None:
        try:
            provider.wait()
        except OmniLMMError as error:
            if is_fixed or not server_state.SERVER.had_visitors:
                failures.append(error)
                os.kill(os.getpid(), signal.SIGINT)
                return
            sys.stderr.write(f"Error: {one_line(error)}\n")
        else:
            print(ENGLISH.model_line(provider), flush=True)
        is_loaded.set()

    def made() -> ModelProvider:
        provider = make()
        threading.Thread(target=tell, args=(provider,), name="telling", daemon=True).start()
        return provider

    return made


def _draws() -> bool:
    """Return whether Streamlit runs this file as the script of a page."""
    if "streamlit" not in sys.modules:
        return False
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    return get_script_run_ctx(suppress_warning=True) is not None


if __name__ == "__main__":
    if _draws():
        from omnilmm.ui.streamlit_page.page import draw

        draw()
    else:
        sys.exit(main())
