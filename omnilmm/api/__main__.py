"""Serve the API without a page.

python -m omnilmm.api --model minicpm-v-2.6 --port 8000
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from omnilmm.api.fetching import fetch
from omnilmm.api.keys import KEY, check_exposed
from omnilmm.engine.provider import ModelProvider
from omnilmm.errors import OmniLMMError
from omnilmm.images.limits import limits
from omnilmm.ui import texts
from omnilmm.ui.download_bar import DownloadBar
from omnilmm.ui.flag_values import check_certificate, check_requested, require
from omnilmm.ui.flags import Parser, add_loading_flags, add_ssl_flags
from omnilmm.ui.network import HOST, find_port
from omnilmm.ui.startup import provider_of, title_of
from omnilmm.ui.streams import configure_streams, one_line

PORT = 8000


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    flags = Parser(prog="python -m omnilmm.api", description="Answer about pictures through an OpenAI-compatible API.")
    add_loading_flags(flags)
    own = flags.add_argument_group("the API")
    own.add_argument("--host", default=HOST, help="address to listen on (default: %(default)s, this machine alone)")
    add_ssl_flags(own)
    own.add_argument("--port", type=int, default=PORT, help="port to listen on, 0 for any (default: %(default)s)")
    own.add_argument(
        "--max-file-size", type=int, default=limits().file_mb, metavar="MIB", help="of a picture (default: %(default)s)"
    )
    own.add_argument("--queue-size", type=int, metavar="N", help="answers given and waited for at once")
    own.add_argument("--api-fetch-urls", action="store_true", help="fetch pictures that a request names by address")
    own.add_argument("--allowed-host", dest="allowed_hosts", action="append", default=[], metavar="NAME")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; the model loads in the background."""
    configure_streams()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        flags = parser().parse_args(arguments)
        key = os.environ.get(KEY)
        for package in ("fastapi", "uvicorn"):
            require(package, extra="api")
        check_exposed(flags.host, key)
        find_port(flags.host, flags.port)  # fail early
        check_requested(flags)
        check_certificate(flags.ssl_certfile, flags.ssl_keyfile)
        print(texts.loading(title_of(flags)), flush=True)
        with DownloadBar() as bar:
            _serve(flags, key, provider_of(flags, bar.report))
    except KeyboardInterrupt:
        return 0
    except (OmniLMMError, OSError) as error:
        sys.stderr.write(f"Error: {one_line(error)}\n")
        return 2
    return 0


def _serve(flags: argparse.Namespace, key: str | None, provider: ModelProvider) -> None:
    from omnilmm.api.app import application
    from omnilmm.api.serving import serve
    from omnilmm.ui.hosts import Hosts, KnownHosts

    app = application(provider, key=key, fetch=fetch if flags.api_fetch_urls else None, most_answers=flags.queue_size)
    guarded = Hosts(app, KnownHosts(flags.host, flags.allowed_hosts))
    ssl = {"ssl_certfile": flags.ssl_certfile, "ssl_keyfile": flags.ssl_keyfile}
    serve(provider, guarded, host=flags.host, port=flags.port, log_level="warning", **ssl)


if __name__ == "__main__":
    sys.exit(main())
