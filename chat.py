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
import base64
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnilmm.sentences import Sentence
from omnilmm.ui.flags import (
    Parser,
    add_batch_flags,
    add_loading_flags,
    check_for_server,
    engine_keys,
    loading_arguments,
    loading_line,
    requested_model,
)
from omnilmm.ui.streams import can_encode, configure_streams, is_piped, one_line, read_line, read_piped, require_text

if TYPE_CHECKING:
    from omnilmm.batch.answering import Reply
    from omnilmm.catalog import ModelCard
    from omnilmm.conversation import Conversation, Part, Picture, Video
    from omnilmm.engine.events import Engine, Event
    from omnilmm.engine.options import Mode
    from omnilmm.versions import VideoSampling

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
TYPED_PICTURE = "<image>"  # marks where the picture goes in the published message form


def img2base64(file_name: str | Path) -> str:
    """Return the content of a picture file as base64 text."""
    return base64.b64encode(Path(file_name).read_bytes()).decode("utf-8")


class OmniLMMChat:
    """A model to talk to about pictures.

    Args:
        model: a name in `configs/`, a hub id, the folder of a checkpoint, or a GGUF file; with `engine_url` its id on
            the server. The built-in model, or the only one of the server, if left out.
        device: "auto", "cpu", "cuda", "cuda:N", "mps" or "balanced".
        dtype: "auto", "bf16", "fp16", "fp32", "int8" or "int4".
        engine_url: base URL of an OpenAI-compatible server that answers, such as "http://127.0.0.1:8080/v1", or
            several; then the other arguments have no effect.
        engine_key: key of the server, or one for each.
        **loading: adapter, revision, hub, offline, max_memory, report, quant, mmproj; see
            `omnilmm.engine.loading.load_engine`.

    Raises:
        ModelNotFoundError, HardwareError, CheckpointError: It cannot be loaded; the message says what can.
        ServerError: The server cannot be reached, or refuses.
    """

    def __init__(
        self,
        model: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        *,
        engine_url: str | Sequence[str] = (),
        engine_key: str | Sequence[str] = (),
        **loading: Any,
    ) -> None:
        if engine_url:
            from omnilmm.engine.remote.servers import Servers

            servers = Servers(_several(engine_url), _several(engine_key))
            self.engine: Engine = servers.choose(model).load()
            return
        from omnilmm.hardware import prepare_environment

        prepare_environment(device)  # before torch is imported
        from omnilmm.engine.loading import load_engine

        self.engine = load_engine(model or "built-in", device, dtype, **loading)

    def chat(self, input: Mapping[str, Any]) -> str:  # noqa: A002  # the published name
        """Answer in the published form.

        Args:
            input: "image": base64 text of a picture file (also as bytes, with line breaks, or in a data URI), the
                file's bytes, any picture that `stream` takes, or absent; "video" instead: path or bytes of a video
                file; "question": a list of
                `{"role": …, "content": text}`, as JSON or as it is. The picture stands where the first message
                says `<image>`, else before its text.
        """
        from omnilmm.engine.events import Finished

        given = _published_conversation(input, self.engine.card.require_video)
        *_, last = self._answer(given, "sampling", {})
        return last.text if isinstance(last, Finished) else ""

    process = chat

    def stream(
        self, messages: Sequence[Mapping[str, Any]] | Conversation, mode: Mode = "sampling", **options: Any
    ) -> Iterator[str]:
        """Stream an answer; leaving the loop stops the model.

        Args:
            messages: `{"role": …, "content": …}`, content being text, a picture (PIL image, numpy array of uint8,
                `Path`, bytes, open file), a part as transformers or OpenAI write it (`{"type": "image", …}`,
                `{"type": "image_url", …}`), a video (its `Path`, or `{"type": "video", "video": path}`), or a list of
                them; or a `Conversation`. Nothing is fetched.
            mode: "sampling" or "greedy" (the most likely token each time, as temperature 0), which stream, or "beam"
                (one piece, when the search is over).
            **options: temperature, top_p, top_k, repetition_penalty, seed, max_new_tokens; with "greedy":
                repetition_penalty, max_new_tokens; with "beam": beams, repetition_penalty, length_penalty,
                max_new_tokens. With all: thinking, whether the model should
                think before it answers, where it has a switch for it (the thought is not yielded here, see
                `events`); max_slices, per picture; finer_detail (4.6, 4.7). The model's defaults where left out.

        Raises:
            InputError, ImageError, OptionsError, ContextLengthError: Says what was expected, and what was given.
        """
        from omnilmm.engine.events import Finished, TextDelta

        shown = ""
        for event in self.events(messages, mode, **options):
            if isinstance(event, TextDelta):
                shown += event.text
                yield event.text
            elif isinstance(event, Finished) and event.text != shown:
                yield event.text

    def events(
        self, messages: Sequence[Mapping[str, Any]] | Conversation, mode: Mode = "sampling", **options: Any
    ) -> Iterator[Event]:
        """Like `stream`, but yields all events of the engine: progress, thoughts, previews, and figures at the end."""
        from omnilmm.conversation import Conversation
        from omnilmm.prompts.messages import conversation_from_dicts

        if isinstance(messages, Conversation):
            return self._answer(messages, mode, options)
        conversation = conversation_from_dicts(messages, self.engine.card.require_video)
        return self._answer(conversation, mode, options)

    def map(
        self,
        pictures: Iterable[Any],
        question: str | Iterable[str],
        mode: Mode = "sampling",
        *,
        at_once: int = 8,
        **options: Any,
    ) -> Iterator[Reply]:
        """Ask about many pictures, several at a time; yields a reply for each, in their order.

        A picture that cannot be read is a reply with its `error`, and stops nothing. Leaving the loop stops the model.

        Args:
            pictures: pictures as `stream` takes them, or paths as text; videos as their paths.
            question: one for all, or one for each.
            mode: as in `stream`.
            **options: as in `stream`.
            at_once: number of questions answered concurrently.

        Raises:
            OptionsError: An option is invalid. In the loop, InputError: there are more pictures or more questions.
        """
        from omnilmm.batch.answering import answer_all
        from omnilmm.batch.pictures import about_each
        from omnilmm.engine.options import options_for

        card = self.engine.card
        questions = about_each(card, pictures, question, options_for(card, mode, **options))
        return answer_all(self.engine, questions, at_once)

    def _answer(self, conversation: Conversation, mode: Mode, options: dict[str, Any]) -> Iterator[Event]:
        from omnilmm.engine.options import options_for

        chosen = options_for(self.engine.card, mode, **options)
        return self.engine.stream(conversation, chosen, owner="python")


class MiniCPMVChat(OmniLMMChat):
    """`OmniLMMChat` under the name that the makers' later examples give it.

    Args:
        model_path: as `model` of `OmniLMMChat`.
        device: as in `OmniLMMChat`.
        dtype: as in `OmniLMMChat`.
        multi_gpus: whether to spread the model over all GPUs, `device="balanced"`.
        **loading: as in `OmniLMMChat`.
    """

    def __init__(
        self,
        model_path: str = "built-in",
        device: str = "auto",
        dtype: str = "auto",
        *,
        multi_gpus: bool = False,
        **loading: Any,
    ) -> None:
        super().__init__(model_path, "balanced" if multi_gpus else device, dtype, **loading)


def _several(texts: str | Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts


def _published_conversation(
    given: Mapping[str, Any], videos: Callable[[], VideoSampling] | None = None
) -> Conversation:
    from omnilmm.errors import InputError
    from omnilmm.images.videos import open_video
    from omnilmm.prompts.messages import conversation_from_dicts, no_videos

    videos = videos or no_videos
    question = given.get("question")
    try:
        messages = json.loads(question) if isinstance(question, str | bytes) else question
    except ValueError as error:
        raise InputError("question_no_json", reason=error) from error
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise InputError("question_no_list")
    conversation = conversation_from_dicts(messages, videos)
    if given.get("video") is not None:
        return _with_picture(conversation, open_video(given["video"], videos()))
    image = given.get("image")
    if image is None or (isinstance(image, str | bytes) and not image.strip()):
        return conversation
    return _with_picture(conversation, _published_picture(image))


def _published_picture(image: Any) -> Picture:
    """Open the picture of the published form, where text is base64 or a data URI, never a path."""
    from omnilmm.images.pixels import open_picture
    from omnilmm.images.sources import decoded, picture_from

    return open_picture(decoded(image)) if isinstance(image, str) else picture_from(image)


def _with_picture(conversation: Conversation, picture: Picture | Video) -> Conversation:
    """Put the picture where the first message says `<image>`, else before its text.

    Every template puts a line break between a leading picture and its text; one that was typed there is not doubled.
    """
    if not conversation.messages:
        return conversation
    first, *others = conversation.messages
    parts: list[Part] = [*first.parts]
    place = next((number for number, part in enumerate(parts) if isinstance(part, str)), len(parts))
    text = parts[place] if place < len(parts) else ""
    before, typed, after = text.rpartition(TYPED_PICTURE) if isinstance(text, str) else ("", "", "")
    before, after = (piece if piece.strip() else "" for piece in (before, after))
    if typed and not before:
        after = after.removeprefix("\n")
    parts[place : place + 1] = [part for part in (before, picture, after) if part]
    return replace(conversation, messages=(replace(first, parts=tuple(parts)), *others))


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
    choice.add_argument(
        "--mode", choices=("sampling", "greedy", "beam"), help="(default: sampling; with --ocr and --caption: greedy)"
    )
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
    from omnilmm.engine.remote.servers import Servers
    from omnilmm.ui.listing import write_served

    write_served(Servers(args.engine_urls, engine_keys(args)).refresh().values(), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
