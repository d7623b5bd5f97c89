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
from typing import Any

from omnilmm.api.keys import KEY, check_exposed
from omnilmm.engine.provider import ModelProvider
from omnilmm.errors import OmniLMMError
from omnilmm.hub_space import on_zero_gpu
from omnilmm.network import prepare_proxies
from omnilmm.ui import texts
from omnilmm.ui.access import accounts
from omnilmm.ui.download_bar import DownloadBar
from omnilmm.ui.flags import (
    Parser,
    add_api_flags,
    add_live_flags,
    add_loading_flags,
    add_page_flags,
    check_certificate,
    check_live,
    check_requested,
    flags_of_environment,
    require,
    text_keys,
)
from omnilmm.ui.network import find_port
from omnilmm.ui.startup import offer_of, provider_of, title_of
from omnilmm.ui.streams import configure_streams, one_line
from omnilmm.ui.texts import ENGLISH


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
    from omnilmm.engine.remote.servers import Servers
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page, load the model meanwhile, and wait for Ctrl-C."""
    started = time.monotonic()
    configure_streams()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)
    signal.signal(signal.SIGTERM, _leave)
    try:
        flags = parser().parse_args([*flags_of_environment(), *(sys.argv[1:] if arguments is None else arguments)])
        port = find_port(flags.host, flags.port)  # fail early, before torch is imported
        login = accounts(flags.auth)
        key = os.environ.get(KEY)
        if flags.api:
            check_exposed(flags.host, key, is_shared=flags.share, has_accounts=bool(login))
        require("gradio", extra="gradio")
        check_requested(flags)
        check_certificate(flags.ssl_certfile, flags.ssl_keyfile)
        check_live(flags)
        prepare_proxies()  # Gradio's own client reads them
        say(texts.loading(title_of(flags)))
        from omnilmm.ui.gradio_page.page import Page  # importing Gradio takes seconds, which `--help` avoids
        from omnilmm.ui.gradio_page.serving import launch

        with DownloadBar() as bar:
            provider = provider_of(flags, bar.report)
            is_fixed = flags.fixed_model or on_zero_gpu()
            offer = None if is_fixed else offer_of(flags, provider)
            page = Page(provider, offer, flags.queue_size, live_parts(flags, provider) if flags.live else None)
            if provider.failure:  # known before anybody could open the page
                provider.wait()
            address = launch(
                page,
                host=flags.host,
                port=port,
                share=flags.share,
                login=login,
                root_path=flags.root_path,
                allowed_hosts=flags.allowed_hosts,
                max_file_mib=flags.max_file_size,
                api=api_of(provider, flags, key) if flags.api else None,
                upload_quota_mib=flags.upload_quota_mib,
                ssl=(flags.ssl_certfile, flags.ssl_keyfile) if flags.ssl_certfile else None,
            )
            say(texts.served(address, time.monotonic() - started))
            if flags.api:
                say(texts.api_served(address))
            if page.demo.share_url:
                say(texts.shared(page.demo.share_url))
            if flags.open:
                webbrowser.open(address)
            try:
                provider.wait()
            except OmniLMMError as error:
                if is_fixed or not page.visitors.had_visitors:
                    raise
                sys.stderr.write(f"Error: {one_line(error)}\n")  # another model can be chosen on the page
            finally:
                provider.stop()  # no effect once the model is loaded
    except KeyboardInterrupt:
        return 1
    except (OmniLMMError, OSError) as error:
        sys.stderr.write(f"Error: {one_line(error)}\n")
        return 2
    with suppress(KeyboardInterrupt):  # the usual way to stop
        if provider.is_ready:
            say(ENGLISH.model_line(provider))
        page.demo.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
