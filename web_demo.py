"""The Gradio page: talk about pictures in the browser.

    python web_demo.py [--model NAME] [--device auto] [--dtype auto] [--host 127.0.0.1] [--port 7860] [--share] [--open]
                       [--auth user:password] [--root-path /chat] [--max-file-size 50] [--queue-size 100] [--api]

The page is served while the model is still being downloaded and loaded, and shows the progress. Its widgets and
handlers are in `omnilmm.ui.gradio_page`; this file has the flags.
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
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from omnilmm.api.keys import KEY, check_exposed
from omnilmm.engine.provider import ModelProvider
from omnilmm.errors import OmniLMMError
from omnilmm.hub_space import on_zero_gpu
from omnilmm.network import prepare_proxies
from omnilmm.ui import texts
from omnilmm.ui.access import accounts
from omnilmm.ui.download_bar import DownloadBar
from omnilmm.ui.flag_values import check_certificate, check_live, check_requested, require, text_keys
from omnilmm.ui.flags import (
    Parser,
    add_api_flags,
    add_live_flags,
    add_loading_flags,
    add_page_flags,
    flags_of_environment,
)
from omnilmm.ui.network import find_port
from omnilmm.ui.startup import offer_of, provider_of, title_of
from omnilmm.ui.streams import configure_streams, one_line
from omnilmm.ui.texts import ENGLISH

if TYPE_CHECKING:
    from omnilmm.engine.events import Report
    from omnilmm.ui.gradio_page.page import Page


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    flags = Parser(description="Talk about pictures in the browser.")
    add_loading_flags(flags)
    add_page_flags(flags, port=7860)
    add_api_flags(flags)
    add_live_flags(flags)
    flags.add_argument("--share", action="store_true", help="also make a public link, through Gradio's servers")
    return flags


def _leave(*_: object) -> None:
    """Exit normally, so that exit handlers run; only once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def say(line: str) -> None:
    """Print a line and flush it, so that a pipe receives it at once."""
    print(line, flush=True)


def api_of(provider: ModelProvider, flags: argparse.Namespace, key: str | None) -> Any:
    """Return the API as an ASGI application."""
    from omnilmm.api.app import application
    from omnilmm.api.fetching import fetch

    return application(provider, key=key, fetch=fetch if flags.api_fetch_urls else None, most_answers=flags.queue_size)


def live_parts(flags: argparse.Namespace, provider: ModelProvider) -> Any:
    """Return what the live view needs; the speech recognition model is loaded once the model itself is."""
    from omnilmm.engine.servers import Servers
    from omnilmm.live import BROWSER
    from omnilmm.live.detection import detector
    from omnilmm.live.recognition import load_recogniser
    from omnilmm.live.talk import Parts

    text = Servers([flags.text_url], text_keys(flags)).choose(flags.text_model).load() if flags.text_url else None
    if flags.speech_model == BROWSER:
        return Parts(None, detector, flags.voice, text, browser_hears=True)
    parts = Parts(None, detector, flags.voice, text, is_loading=True)

    def load() -> None:
        with suppress(OmniLMMError):  # reported elsewhere
            provider.wait()
        say(texts.loading_speech(flags.speech_model))
        try:
            parts.recogniser = load_recogniser(flags.speech_model, offline=flags.offline)
        except OmniLMMError as error:
            sys.stderr.write(f"Error: {one_line(error)} Questions in the live view are typed.\n")
        finally:
            parts.is_loading = False
        if parts.recogniser is not None and find_spec("silero_vad") is None:
            say(texts.no_hands_free())

    threading.Thread(target=load, name="loading speech", daemon=True).start()
    return parts


def checked_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the flags, with the accounts; checked before torch and Gradio are imported.

    Raises:
        OmniLMMError: Flags that cannot be met.
        OSError: The port is taken, or this machine has no such address.
    """
    flags = parser().parse_args([*flags_of_environment(), *arguments])
    find_port(flags.host, flags.port)  # fail early; any free port is looked for when the page is served
    flags.login = accounts(flags.auth)
    if flags.api:
        check_exposed(flags.host, os.environ.get(KEY), is_shared=flags.share, has_accounts=bool(flags.login))
    require("gradio", extra="gradio")
    check_requested(flags)
    check_certificate(flags.ssl_certfile, flags.ssl_keyfile)
    check_live(flags)
    return flags


def build(flags: argparse.Namespace, report: Report) -> Page:
    """Return the page; its model is loaded in the background.

    Raises:
        OmniLMMError: The model cannot be loaded, as is known already.
    """
    from omnilmm.ui.gradio_page.page import Page  # importing Gradio takes seconds, which `--help` avoids

    provider = provider_of(flags, report)
    offer = None if is_fixed(flags) else offer_of(flags, provider)
    page = Page(provider, offer, flags.queue_size, live_parts(flags, provider) if flags.live else None)
    if provider.failure:  # known before anybody could open the page
        provider.wait()
    return page


def is_fixed(flags: argparse.Namespace) -> bool:
    """Return whether visitors may not choose another model."""
    return bool(flags.fixed_model or on_zero_gpu())


def serve(page: Page, flags: argparse.Namespace) -> str:
    """Serve the page in the background; returns its address."""
    from omnilmm.ui.gradio_page.serving import launch

    return launch(
        page,
        host=flags.host,
        port=flags.port,
        share=flags.share,
        login=flags.login,
        root_path=flags.root_path,
        allowed_hosts=flags.allowed_hosts,
        max_file_mib=flags.max_file_size,
        api=api_of(page.context.provider, flags, os.environ.get(KEY)) if flags.api else None,
        upload_quota_mib=flags.upload_quota_mib,
        ssl=(flags.ssl_certfile, flags.ssl_keyfile) if flags.ssl_certfile else None,
    )


def announce(page: Page, address: str, flags: argparse.Namespace, seconds: float) -> None:
    """Print where the page is served, and open it if asked to."""
    say(texts.served(address, seconds))
    if flags.api:
        say(texts.api_served(address))
    if page.demo.share_url:
        say(texts.shared(page.demo.share_url))
    if flags.open:
        webbrowser.open(address)


def wait_for_model(page: Page, flags: argparse.Namespace) -> None:
    """Wait until the first model is loaded.

    Raises:
        OmniLMMError: It could not be loaded, and no visitor is there to choose another one.
    """
    try:
        page.context.provider.wait()
    except OmniLMMError as error:
        if is_fixed(flags) or not page.visitors.had_visitors:
            raise
        sys.stderr.write(f"Error: {one_line(error)}\n")
    finally:
        page.context.provider.stop()  # no effect once the model is loaded


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page, load the model meanwhile, and wait for Ctrl-C."""
    started = time.monotonic()
    configure_streams()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)
    signal.signal(signal.SIGTERM, _leave)
    try:
        flags = checked_flags(sys.argv[1:] if arguments is None else arguments)
        prepare_proxies()  # Gradio's own client reads them
        say(texts.loading(title_of(flags)))
        with DownloadBar() as bar:
            page = build(flags, bar.report)
            announce(page, serve(page, flags), flags, time.monotonic() - started)
            wait_for_model(page, flags)
    except KeyboardInterrupt:
        return 1
    except (OmniLMMError, OSError) as error:
        sys.stderr.write(f"Error: {one_line(error)}\n")
        return 2
    with suppress(KeyboardInterrupt):  # the usual way to stop
        if page.context.provider.is_ready:
            say(ENGLISH.model_line(page.context.provider))
        page.demo.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
