"""Talk about pictures from Python and from the terminal.

Python: `OmniLMMChat().stream([{"role": "user", "content": [Path("a.png"), "What is in this picture?"]}])`, or the
published form `OmniLMMChat().chat({"image": img2base64("a.png"), "question": json.dumps(messages)})`.
Terminal: `python chat.py --image a.png "What is in this picture?"`; without a question it starts a chat, and
`echo "What is in this picture?" | python chat.py --image a.png` answers what is piped in.
`python chat.py --batch FOLDER "What is in this picture?" --out answers.jsonl` asks about many pictures.
`--list-models` lists the models and what fits this machine, `--check` proves that a model works here.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnilmm.chat import MiniCPMVChat, OmniLMMChat, img2base64
from omnilmm.engine.options import MODES
from omnilmm.sentences import Sentence
from omnilmm.ui.flag_values import check_for_server, engine_keys, loading_arguments, loading_line, requested_model
from omnilmm.ui.flags import Parser, add_batch_flags, add_loading_flags
from omnilmm.ui.streams import can_encode, configure_streams, is_piped, one_line, read_line, read_piped, require_text

if TYPE_CHECKING:
    from omnilmm.catalog import ModelCard
    from omnilmm.conversation import Picture, Video
    from omnilmm.engine.events import Engine

__all__ = ["MiniCPMVChat", "OmniLMMChat", "img2base64", "main", "parser"]

OPTIONS: dict[str, tuple[type[int] | type[float], str]] = {
    "max_new_tokens": (int, "length limit"),
    "repetition_penalty": (float, "above 1: repeat less"),
    "temperature": (float, "sampling: 0 = always the most likely token, as --mode greedy; higher is more varied"),
    "top_p": (float, "sampling: share of probability to draw from"),
    "top_k": (int, "sampling: tokens to draw from"),
    "seed": (int, "sampling: same seed, same answer"),
    "beams": (int, "beam search: how many"),
    "length_penalty": (float, "beam search: above 0 favours longer answers"),
}
ABILITIES = ("thinking", "max_slices", "finer_detail")  # options that only some models have


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; imports nothing heavy, so that --help responds at once."""
    top = Parser(description="Talk about pictures in the terminal.")
    top.add_argument(
        "question",
        nargs="?",
        help="ask this and leave; without it, or with -, what is piped in is the question; at a terminal: a chat",
    )
    top.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture; may be repeated")
    top.add_argument("--video", action="append", default=[], metavar="FILE", help="a video; may be repeated")
    top.add_argument(
        "--load", type=Path, metavar="FILE", help="go on with a conversation that a page or /save exported"
    )
    top.add_argument("--system", metavar="TEXT", help="system prompt, where the model has one")
    top.add_argument("--json", action="store_true", help="print one JSON object instead of the text")
    top.add_argument("--check", action="store_true", help="load the model, ask it about a picture, say what was found")
    top.add_argument("--list-models", action="store_true", help="the known models, and which of them fit here")
    add_batch_flags(top)
    add_loading_flags(top)
    choice = top.add_argument_group("how to answer (the model's defaults where left out)")
    choice.add_argument("--mode", choices=MODES, help="(default: sampling; with --ocr and --caption: greedy)")
    for name, (kind, what) in OPTIONS.items():
        choice.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=what)
    choice.add_argument(
        "--thinking",
        action=argparse.BooleanOptionalAction,
        help="think before answering, where the model has a switch for it; the length limit counts the thought, too",
    )
    choice.add_argument(
        "--finer-detail",
        action=argparse.BooleanOptionalAction,
        help="four times as many tokens for each slice (4.6, 4.7): finer detail, slower",
    )
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 for an answer, 1 for an error or a stopped answer, 2 for invalid flags.
    """
    configure_streams()
    args = parser().parse_args(arguments)
    if args.json and args.question is None and args.preset is None and not is_piped():
        parser().error("--json needs a question")
    if args.preset and args.question is not None:
        parser().error(f"--{args.preset} is a question itself: leave out {args.question!r}")
    others = {
        "--image": args.image,
        "--video": args.video,
        "--load": args.load,
        "--json": args.json,
        "--check": args.check,
    }
    if args.batch and any(others.values()):
        parser().error(f"--batch goes without {', '.join(name for name, given in others.items() if given)}")
    if args.out and not args.batch:
        parser().error("--out needs --batch")
    args.mode = args.mode or ("greedy" if args.preset else "sampling")
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")

    from omnilmm.errors import HardwareError, ModelNotFoundError, OmniLMMError, OptionsError

    try:
        return _run(args)
    except OmniLMMError as error:
        if args.json:
            _print_json({"error": one_line(error), "type": type(error).__name__, "code": error.code})
        else:
            print(f"Error: {one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, OptionsError | ModelNotFoundError | HardwareError) else 1
    except BrokenPipeError:  # the reader, such as `head`, has gone; nothing more may be flushed there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 1


def _print_json(document: Mapping[str, Any]) -> None:
    """Print JSON in one line, in ASCII alone if the output cannot encode the rest."""
    line = json.dumps(document, ensure_ascii=False)
    print(line if can_encode(line, sys.stdout) else json.dumps(document))


def _question(args: argparse.Namespace) -> str | None:
    """Return what to ask: the argument, or the piped input; None for a chat.

    Raises:
        InputError: It is empty, or not text.
    """
    from omnilmm.errors import InputError

    if args.question == "-" or (args.question is None and is_piped() and not args.check and not args.preset):
        return read_piped()
    if args.question is not None and not require_text(args.question, Sentence("the_question")).strip():
        raise InputError("question_empty")
    return str(args.question) if args.question is not None else None


def _run(args: argparse.Namespace) -> int:
    from omnilmm.archive import read_conversation_file
    from omnilmm.batch.program import preset
    from omnilmm.catalog import cards
    from omnilmm.conversation import Conversation
    from omnilmm.engine.options import options_for
    from omnilmm.images.pixels import open_picture
    from omnilmm.images.videos import is_video_file, open_video
    from omnilmm.model_lookup import find
    from omnilmm.ui.terminal import Terminal
    from omnilmm.ui.texts import ENGLISH

    if args.list_models:
        return _list_models(args)
    # Everything that can be wrong is checked before the model is loaded.
    given = {name: getattr(args, name) for name in (*OPTIONS, *ABILITIES)}
    engine = _of_server(args) if args.engine_urls else None
    card = engine.card if engine else find(requested_model(args))
    # The options that a model outside the catalog has are known only once it is loaded.
    is_known = card.base_name in cards() or engine is not None
    options_for(card, args.mode, **given if is_known else given | dict.fromkeys(ABILITIES))
    if args.batch:
        return _batch(args, card, given, engine)
    question = preset(card, args.preset) if args.preset else _question(args)
    videos = [name for name in (*args.video, *args.image) if name in args.video or is_video_file(name)]
    if videos and args.check:
        parser().error("--check asks about a picture, not about a video")
    if videos and card.family != "library":
        card.require_video()
    pictures = [open_picture(name) for name in args.image if name not in videos]
    conversation = read_conversation_file(args.load) if args.load else Conversation()
    if args.system is not None:
        conversation = replace(conversation, system=require_text(args.system, Sentence("the_system_prompt")))

    engine = engine or _loaded(args)
    if args.check:
        return _check(engine, pictures, question)
    options = options_for(engine.card, args.mode, **given)  # a model outside the catalog is known only now
    shown: list[Picture | Video] = [*(open_video(name, engine.card.require_video()) for name in videos), *pictures]
    terminal = Terminal(engine, options, conversation, shown)
    if args.json:
        terminal.out = terminal.notes = io.StringIO()
    if question is None:
        terminal.note(ENGLISH.model_line(engine))
        terminal.run(read_line)
        return 0
    finished = terminal.ask(question)
    if args.json and finished:
        _print_json(asdict(finished) | {"model": engine.card.name})
    return 0 if finished else 1


def _loaded(args: argparse.Namespace) -> Engine:
    """Load the model on this machine."""
    from omnilmm.ui.download_bar import DownloadBar

    with DownloadBar() as bar:
        return OmniLMMChat(**loading_arguments(args), report=bar.report).engine


def _of_server(args: argparse.Namespace) -> Engine:
    """Return the engine of a model on a server."""
    check_for_server(args)
    return OmniLMMChat(args.model, engine_url=args.engine_urls, engine_key=engine_keys(args)).engine


def _batch(args: argparse.Namespace, card: ModelCard, given: dict[str, Any], engine: Engine | None = None) -> int:
    """Ask about many pictures; the rows go to `--out`, everything else to stderr."""
    from omnilmm.batch.listing import read_listing
    from omnilmm.batch.program import Batch, preset
    from omnilmm.batch.rows import check_name
    from omnilmm.engine.options import options_for

    if args.out:
        check_name(args.out)
    question = preset(card, args.preset) if args.preset else args.question
    if question is not None:
        require_text(question, Sentence("the_question"))
    listing = read_listing(args.batch, question)
    if listing.skipped:
        few = ", ".join(listing.skipped[:3]) + (" …" if len(listing.skipped) > 3 else "")
        print(f"Skipped, neither pictures nor videos: {few} ({len(listing.skipped)})", file=sys.stderr)
    engine = engine or _loaded(args)
    options = options_for(engine.card, args.mode, **given)
    loading = loading_line(args, engine.device.value if args.engine_urls else None, engine.dtype.value)
    batch = Batch(engine, listing.entries, options, args.out, args.system, args.at_once, loading=loading)
    try:
        failed = batch.run()
    except KeyboardInterrupt:
        if args.out:
            print(f"Stopped. The answers so far are in {args.out}; the same command goes on.", file=sys.stderr)
        raise
    if failed:
        print(f"{failed} of {len(listing.entries)} have no answer: see their rows for the error.", file=sys.stderr)
    return 1 if failed else 0


def _check(engine: Engine, pictures: list[Picture], question: str | None) -> int:
    """Prove that a model works on this machine.

    Returns:
        0 if all is well; raises otherwise.
    """
    from omnilmm.engine.checking import QUESTION, check
    from omnilmm.engine.remote.engine import RemoteEngine
    from omnilmm.errors import OptionsError
    from omnilmm.images.pixels import open_picture
    from omnilmm.ui.samples import samples

    if isinstance(engine, RemoteEngine):
        raise OptionsError("check_on_server")
    picture = pictures[0] if pictures else open_picture(samples()[0].picture)
    for what, found in check(engine, picture, question or QUESTION):
        print(f"{what + ':':<18}{found}", flush=True)
    print("all is well")
    return 0


def _list_models(args: argparse.Namespace) -> int:
    if args.engine_urls:
        return _list_served(args)
    from omnilmm.engine.choosing import free_bytes, listed
    from omnilmm.hardware import resolve_device
    from omnilmm.ui.listing import write_listing

    free = free_bytes(args.device)
    device = str(resolve_device(args.device))
    write_listing(listed(args.device, args.hub), None if free is None else free / 2**30, device, sys.stdout)
    return 0


def _list_served(args: argparse.Namespace) -> int:
    from omnilmm.engine.servers import Servers
    from omnilmm.ui.listing import write_served

    write_served(Servers(args.engine_urls, engine_keys(args)).refresh().values(), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
