"""The Gradio page: talk about pictures in the browser.

    python web_demo.py [--model NAME] [--device auto] [--dtype auto] [--host 127.0.0.1] [--port 7860] [--share] [--open]
                       [--auth user:password] [--root-path /chat] [--max-file-size 50] [--queue-size 100]

The page is served while the model is still being fetched and loaded, and shows how far that is. Its widgets and
handlers are in `omnilmm.ui.gradio_page`; here are the flags.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

from omnilmm.catalog import cards, find
from omnilmm.engine.events import Engine
from omnilmm.engine.starting import StartingEngine
from omnilmm.errors import OmniLMMError
from omnilmm.hardware import on_zero_gpu, prepare_environment, resolve_device
from omnilmm.images.pixels import MAX_FILE_BYTES
from omnilmm.ui import texts
from omnilmm.ui.access import accounts
from omnilmm.ui.flags import add_loading_flags, loading_arguments
from omnilmm.ui.listing import Listed
from omnilmm.ui.server import HOST, find_port, launch
from omnilmm.ui.space import flags_of_environment
from omnilmm.ui.terminal import DownloadBar


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(prog="web_demo.py", description="Talk about pictures in the browser.")
    add_loading_flags(flags)
    flags.add_argument("--host", default=HOST, help="address to listen on (default: %(default)s, this machine alone)")
    flags.add_argument("--port", type=int, help="port to listen on, 0 for any (default: 7860 or the next free one)")
    flags.add_argument("--share", action="store_true", help="also make a public link, through Gradio's servers")
    flags.add_argument("--open", action="store_true", help="open the page in the browser")
    guests = flags.add_argument_group("for more than one person")
    guests.add_argument(
        "--auth",
        action="append",
        default=[],
        metavar="USER:PASSWORD",
        help="ask for a login; may be given several times, or name a file with one user:password per line",
    )
    guests.add_argument("--fixed-model", action="store_true", help="visitors cannot choose another model")
    guests.add_argument("--root-path", metavar="/PATH", help="where a proxy in front of the page serves it")
    most = MAX_FILE_BYTES // 2**20
    guests.add_argument(
        "--max-file-size", type=int, default=most, metavar="MIB", help="of an upload (default: %(default)s)"
    )
    guests.add_argument(
        "--queue-size", type=int, metavar="N", help="answers given and waited for at once; more are refused"
    )
    return flags


def _maker(flags: argparse.Namespace, bar: DownloadBar) -> Callable[[str], StartingEngine]:
    """How the engine of a model is made: loaded in the background, its download shown here and on the page."""

    def make(model: str) -> StartingEngine:
        arguments = loading_arguments(flags) | {"model": model}

        def load(report: Callable[[int, int], None]) -> Engine:
            prepare_environment(arguments["device"])  # before torch is imported
            from omnilmm.engine.space import load_page_engine

            def both(done: int, total: int) -> None:
                bar.report(done, total)
                report(done, total)

            return load_page_engine(**arguments, report=both)

        if on_zero_gpu():  # wants the model before the page is served, loaded on this thread
            engine = load(lambda done, total: None)
            return StartingEngine(engine.card, lambda report: engine)
        return StartingEngine(find(model), load)

    return make


def _listed(flags: argparse.Namespace) -> list[Listed]:
    """All models, and what this machine is for each of them."""
    from omnilmm.engine.fetching import cached
    from omnilmm.engine.memory import free_memory

    free = free_memory(resolve_device(flags.device).value)
    return [
        Listed(
            card,
            None if free is None else card.best_dtype(free / 2**30),
            Path(card.location).is_dir() or cached(card.source, card.revision, flags.hub) is not None,
        )
        for card in cards().values()
    ]


def _leave(*_: object) -> None:
    """End in the usual way, so that what is registered for the exit runs; once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page, load the model meanwhile, and wait for Ctrl-C."""
    started = time.monotonic()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _leave)
    try:
        flags = parser().parse_args([*flags_of_environment(), *(sys.argv[1:] if arguments is None else arguments)])
        port = find_port(flags.host, flags.port)  # what can fail at once does not wait for torch
        login = accounts(flags.auth)
        say(texts.loading(find(flags.model)))
        from omnilmm.ui.gradio_page.page import Page  # Gradio takes seconds, `--help` does without it
        from omnilmm.ui.gradio_page.shared import Models

        with DownloadBar() as bar:
            make = _maker(flags, bar)
            engine = make(flags.model)
            models = None if flags.fixed_model or on_zero_gpu() else Models(make, lambda: _listed(flags))
            page = Page(engine, models, flags.queue_size)
            if engine.failure:  # known before anybody could open the page
                engine.wait()
            address = launch(
                page.demo,
                host=flags.host,
                port=port,
                share=flags.share,
                login=login,
                root_path=flags.root_path,
                max_file_mib=flags.max_file_size,
            )
            say(texts.served(address, time.monotonic() - started))
            if page.demo.share_url:
                say(texts.shared(page.demo.share_url))
            if flags.open:
                webbrowser.open(address)
            try:
                engine.wait()
            finally:
                engine.stop()  # of no effect once the model is there
    except KeyboardInterrupt:
        return 1
    except (OmniLMMError, OSError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    say(texts.model_line(engine))
    page.demo.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
