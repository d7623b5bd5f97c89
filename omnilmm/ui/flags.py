"""Command-line flags shared by the programs: the model, its source and device; and those of both pages."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import NoReturn

from omnilmm import __version__
from omnilmm.catalog import BUILT_IN
from omnilmm.errors import OptionsError
from omnilmm.hardware import DEVICES, DTYPE_CHOICES
from omnilmm.hub_space import on_space
from omnilmm.images.limits import limits
from omnilmm.live import SPEECH_MODEL, VOICES
from omnilmm.ui.network import HOST
from omnilmm.ui.upload import QUOTA_MIB

HUBS = ("huggingface", "modelscope")
LOADING = (
    "model",
    "device",
    "dtype",
    "revision",
    "hub",
    "offline",
    "max_memory",
    "feature_cache_mib",
    "prefix_cache_mib",
    "max_slices",
    "quant",
    "mmproj",
)
MOST_AT_ONCE = 64
# Defaults of `omnilmm.engine.loading.load_engine`, repeated here because importing it would load torch.
FEATURE_CACHE_MIB, PREFIX_CACHE_MIB = 256, 1024
KEY_VARIABLE = "OPENAI_API_KEY"  # as with OpenAI's own client
# Holds the flags where a page is started without a command line: on a Hugging Face Space, in a container.
VARIABLE = "OMNILMM_FLAGS"
# A Space is a container of its own, whose address can be reached through the service alone.
SERVING = ("--host", "0.0.0.0", "--port", "7860")  # noqa: S104


class Parser(argparse.ArgumentParser):
    """An argument parser that reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (--help lists the flags)\n")


def add_loading_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--version` and the flags named in LOADING."""
    parser.add_argument("--version", action="version", version=f"OmniLMM Chat {__version__}")
    flags = parser.add_argument_group("which model, and on what")
    flags.add_argument(
        "--model",
        help=f"name in configs/, hub id, folder, or GGUF file (default: {BUILT_IN}); with --engine-url: its id there",
    )
    flags.add_argument(
        "--engine-url",
        dest="engine_urls",
        action="append",
        default=[],
        metavar="URL",
        help="let a model on an OpenAI-compatible server answer, such as http://127.0.0.1:8080/v1; may be repeated",
    )
    flags.add_argument(
        "--engine-key",
        dest="engine_keys",
        action="append",
        default=[],
        metavar="KEY",
        help="key of the server, or one for each --engine-url in their order (default: OPENAI_API_KEY)",
    )
    flags.add_argument(
        "--adapter", metavar="DIR", help="folder of a LoRA adapter for that model; see docs/fine-tuning.md"
    )
    flags.add_argument("--device", default="auto", help=f"{DEVICES} (default: %(default)s)")
    flags.add_argument(
        "--dtype",
        default="auto",
        help=f"{DTYPE_CHOICES}; the last two save memory and may be slower (default: %(default)s)",
    )
    flags.add_argument("--quant", metavar="Q4_K_M", help="of a model in GGUF (default: the best that fits the memory)")
    flags.add_argument("--mmproj", metavar="FILE", help="of a model in GGUF: the part that sees, if it is not found")
    flags.add_argument("--max-memory", metavar="0=10GiB,cpu=20GiB", help="with --device balanced: at most this much")
    flags.add_argument("--revision", metavar="COMMIT", help="commit, tag or branch of the hub (default: the newest)")
    flags.add_argument("--hub", choices=HUBS, default=HUBS[0], help="where to download from (default: %(default)s)")
    flags.add_argument("--offline", action="store_true", help="use what is on this disk, touch no network")
    flags.add_argument(
        "--feature-cache",
        dest="feature_cache_mib",
        type=_mib,
        default=FEATURE_CACHE_MIB,
        metavar="MIB",
        help="memory for image features, so that each picture is encoded once (default: %(default)s)",
    )
    flags.add_argument(
        "--prefix-cache",
        dest="prefix_cache_mib",
        type=_mib,
        default=PREFIX_CACHE_MIB,
        metavar="MIB",
        help="memory for KV caches of conversations, which follow-ups reuse (default: %(default)s)",
    )
    flags.add_argument(
        "--max-slices",
        type=int,
        metavar="N",
        help="cut a picture into at most N slices, 1 to 36: more for small print (default: the model's)",
    )


def add_batch_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for questions about many pictures, and the questions that need not be typed."""
    batch = parser.add_argument_group("many pictures")
    batch.add_argument(
        "--batch",
        type=Path,
        metavar="FOLDER_OR_LIST",
        help="ask about every picture of a folder, or of a list: a text file with a path per line, or a CSV, TSV or "
        "JSONL file with the columns picture and, for questions of their own, question",
    )
    batch.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=".jsonl or .csv, one row per answer; the same command again goes on where it was stopped (default: JSON "
        "lines on the standard output)",
    )
    batch.add_argument(
        "--at-once", type=_count, default=8, metavar="N", help="answers generated concurrently (default: %(default)s)"
    )
    preset = parser.add_mutually_exclusive_group()
    preset.add_argument(
        "--ocr", dest="preset", action="store_const", const="ocr", help="instead of a question: read all the text"
    )
    preset.add_argument(
        "--caption", dest="preset", action="store_const", const="caption", help="instead of a question: describe it"
    )


def add_page_flags(parser: argparse.ArgumentParser, port: int) -> None:
    """Add the flags that both pages take: where they are served, and to whom.

    Args:
        parser: the parser of the program.
        port: the default port, which is tried first.
    """
    page = parser.add_argument_group("the page")
    page.add_argument("--host", default=HOST, help="address to listen on (default: %(default)s, this machine alone)")
    page.add_argument("--port", type=int, help=f"port to listen on, 0 for any (default: {port} or the next free one)")
    add_ssl_flags(page)
    page.add_argument("--open", action="store_true", help="open the page in the browser")
    guests = parser.add_argument_group("for more than one person")
    guests.add_argument(
        "--auth",
        action="append",
        default=[],
        metavar="USER:PASSWORD",
        help="ask for a login; may be given several times, or name a file with one user:password per line",
    )
    guests.add_argument("--fixed-model", action="store_true", help="visitors cannot choose another model")
    guests.add_argument(
        "--allowed-host",
        dest="allowed_hosts",
        action="append",
        default=[],
        metavar="NAME",
        help="another name under which the page is opened, e.g. by a proxy; may be given several times (* for any)",
    )
    guests.add_argument("--root-path", metavar="/PATH", help="where a proxy in front of the page serves it")
    guests.add_argument(
        "--max-file-size", type=int, default=limits().file_mb, metavar="MIB", help="of an upload (default: %(default)s)"
    )
    guests.add_argument(
        "--upload-quota",
        dest="upload_quota_mib",
        type=_mib,
        default=QUOTA_MIB,
        metavar="MIB",
        help="of one visitor's uploads together that were not sent yet (default: %(default)s)",
    )
    guests.add_argument(
        "--queue-size", type=int, metavar="N", help="answers given and waited for at once; more are refused"
    )


def add_ssl_flags(parser: argparse._ActionsContainer) -> None:
    """Add the flags of HTTPS."""
    parser.add_argument(
        "--ssl-certfile", metavar="FILE", help="serve over HTTPS with this certificate (PEM), needs --ssl-keyfile"
    )
    parser.add_argument("--ssl-keyfile", metavar="FILE", help="the private key of the certificate (PEM)")


def add_api_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the API that is served beside a page."""
    api = parser.add_argument_group("for programs")
    api.add_argument(
        "--api", action="store_true", help="also answer programs, under /v1 as OpenAI's API does; see docs/api.md"
    )
    api.add_argument("--api-fetch-urls", action="store_true", help="fetch pictures that a request names by address")


def add_live_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the live view."""
    live = parser.add_argument_group("speaking with the model; see docs/live.md")
    live.add_argument("--live", action="store_true", help="a view with camera, microphone and spoken answers")
    live.add_argument(
        "--speech-model",
        default=SPEECH_MODEL,
        metavar="NAME",
        help="recognises speech: hub id or folder, pocketsphinx (English), browser (the visitor's own, which may send "
        "the voice to a company; the page asks first), or none (default: %(default)s)",
    )
    live.add_argument(
        "--voice",
        choices=VOICES,
        default=VOICES[0],
        help="speaks answers: the browser's own voices, espeak-ng on this machine, or none (default: %(default)s, the "
        "browser's if it has one that works offline, else espeak-ng)",
    )
    live.add_argument(
        "--text-url",
        metavar="URL",
        help="OpenAI-compatible server of a text model, which can answer from descriptions of what the camera shows",
    )
    live.add_argument(
        "--text-key", metavar="KEY", help="its key (default: OPENAI_API_KEY, unless that is for --engine-url)"
    )
    live.add_argument("--text-model", metavar="ID", help="its id there (default: the only one there is)")


def add_live_link_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a page that links to the live view of another one."""
    live = parser.add_argument_group("speaking with the model; see docs/live.md")
    live.add_argument(
        "--live-url", metavar="URL", help="address of a page started with `web_demo.py --live`, to show a link to it"
    )
    live.add_argument("--live", action="store_true", help="not on this page: see --live-url")


def flags_of_environment() -> list[str]:
    """Return the flags in the environment variable, on a Space after those it needs; command-line flags follow and win.

    Raises:
        OptionsError: The variable cannot be read.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        return [*(SERVING if on_space() else ()), *shlex.split(text)]
    except ValueError as error:
        raise OptionsError("flags_unreadable", variable=VARIABLE, reason=error, given=text) from error


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_AT_ONCE:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {MOST_AT_ONCE}, got {text!r}")
    return int(text)


def _mib(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected MiB as a whole number from 0 on, got {text!r}")
    return int(text)
