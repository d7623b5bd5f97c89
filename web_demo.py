"""The Gradio page: talk about pictures in the browser.

    python web_demo.py [--model NAME] [--device auto] [--dtype auto] [--host 127.0.0.1] [--port 7860] [--share] [--open]

The page is served while the model is still being fetched and loaded, and shows how far that is.

Flags, handlers and wiring; what a turn is stands in `omnilmm.ui.session`. Every handler paints the whole state of its
session, so it does not matter in which order the answers of two handlers reach the browser. Waiting and fairness are
the engine's: no handler has a limit of its own.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnilmm.catalog import find
from omnilmm.conversation import Picture
from omnilmm.engine.events import Engine
from omnilmm.engine.options import Mode, Options
from omnilmm.engine.starting import StartingEngine
from omnilmm.errors import ImageError, OmniLMMError
from omnilmm.hardware import prepare_environment
from omnilmm.images.pixels import open_picture
from omnilmm.ui import markup, texts
from omnilmm.ui.controls import Control, chosen_options, length_control, mode_controls
from omnilmm.ui.flags import add_loading_flags, loading_arguments
from omnilmm.ui.samples import Sample, samples
from omnilmm.ui.server import HOST, UPLOADS_CHECKED_S, UPLOADS_KEPT_S, find_port, launch, load_gradio
from omnilmm.ui.session import Draft, Session, Sessions
from omnilmm.ui.terminal import DownloadBar

if TYPE_CHECKING:
    import gradio as gr

log = logging.getLogger("omnilmm.page")

Question = dict[str, Any]  # the value of the question box: "text" and "files"
TICK_S = 0.5
EMPTY: Question = {"text": "", "files": []}
Painted = tuple[Any, ...]  # values of Page.painted


class Page:
    """The widgets of the page, their handlers, and the sessions of its visitors.

    Args:
        engine: answers the questions.
    """

    def __init__(self, engine: Engine) -> None:
        global gr  # a name of this module, but only now: `--help` does without it
        gr = load_gradio()
        self.engine, self.sessions = engine, Sessions()
        uploads = (UPLOADS_CHECKED_S, UPLOADS_KEPT_S)
        with gr.Blocks(title=texts.TITLE, analytics_enabled=False, delete_cache=uploads) as self.demo:
            self.header = gr.HTML(self._model_html, elem_id="header")
            # Until the model is there; asked for by every open page on its own.
            self.ticks = gr.Timer(TICK_S, active=isinstance(engine, StartingEngine))
            with gr.Row(elem_id="page"):
                with gr.Column(scale=3, min_width=340, elem_id="talk"):
                    self._talk()
                with gr.Column(scale=1, min_width=280, elem_id="side"):
                    self._settings()
            self._wire()

    # --- widgets ------------------------------------------------------------------------------------------------------

    def _talk(self) -> None:
        self.chat = gr.Chatbot(
            elem_id="chat",
            label=texts.TITLE,
            show_label=False,
            placeholder=texts.EMPTY_CHAT,
            buttons=["copy"],
            group_consecutive_messages=False,  # so that the copy button of an answer copies the answer alone
            layout="bubble",
            height=None,
        )
        self.notice = gr.HTML(elem_id="notice", visible=True)
        self.shown = gr.Number(0, visible=False)  # messages on the page: the server may have lost them
        self.box = gr.MultimodalTextbox(
            elem_id="question",
            file_count="multiple",
            file_types=["image"],
            label=texts.QUESTION,
            show_label=False,
            placeholder=texts.QUESTION_PLACEHOLDER,
            max_plain_text_length=1_000_000,  # a long question stays a question
            autofocus=True,
        )
        with gr.Row(elem_id="actions"):
            self.regenerate = gr.Button(texts.REGENERATE, size="sm", elem_id="regenerate")
            self.clear = gr.Button(texts.CLEAR, size="sm", elem_id="clear")
        with gr.Row(elem_id="samples"):
            self.samples = [
                (sample, gr.Button(sample.question, icon=sample.picture, elem_classes="sample")) for sample in samples()
            ]

    def _settings(self) -> None:
        card = self.engine.card
        with gr.Accordion(texts.SETTINGS, elem_id="settings"):
            modes = [(label, mode) for mode, label in texts.MODES.items()]
            self.mode = gr.Radio(modes, value="sampling", label=texts.DECODE_TYPE, elem_id="mode")
            self.columns, self.controls = [], []
            for mode in texts.MODES:
                with gr.Column(visible=mode == "sampling", elem_id=f"{mode}-controls") as column:
                    self.controls += [(mode, control.name, _widget(control)) for control in mode_controls(card, mode)]
                self.columns.append(column)
            length = length_control(card)
            self.controls.append((None, length.name, _widget(length)))
        with gr.Accordion(texts.ABOUT, elem_id="about"):
            gr.Markdown(texts.about(card))

    def _wire(self) -> None:
        self.painted = [self.chat, self.box, self.notice, self.shown]
        settings = [self.mode, *(widget for _, _, widget in self.controls)]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        # A question sent while another is answered stops that one, so no click is swallowed.
        answers = quiet | {"concurrency_limit": None, "trigger_mode": "multiple", "outputs": self.painted}
        self.box.submit(self.ask, [self.box, self.shown, *settings], **answers)
        self.regenerate.click(self.again, [self.shown, *settings], **answers)
        for sample, button in self.samples:
            button.click(self.ask_sample(sample), [self.shown, *settings], **answers)
        self.clear.click(self.forget, outputs=self.painted, concurrency_limit=None, **quiet)
        self.box.stop(self.stop, queue=False, **quiet)
        self.mode.change(self.show_controls, self.mode, self.columns, queue=False, **quiet)
        self.ticks.tick(self.show_model, outputs=[self.header, self.ticks], queue=False, **quiet)
        self.demo.unload(self.leave)

    # --- handlers -----------------------------------------------------------------------------------------------------

    def ask(self, request: gr.Request, question: Question, shown: int, mode: Mode, *values: Any) -> Iterator[Painted]:
        """Answer what is in the box; it stays there if nothing comes of it."""
        session = self._session(request)

        def drafts() -> Iterator[Draft]:
            pictures = [_open(file) for file in question["files"]]
            yield from session.ask(self.engine, (*pictures, question["text"]), self._options(mode, values))

        yield from self._turn(session, shown, drafts, question)

    def ask_sample(self, sample: Sample) -> Callable[..., Iterator[Painted]]:
        """A handler that asks about a sample picture; what is in the box stays there."""

        def handler(request: gr.Request, shown: int, mode: Mode, *values: Any) -> Iterator[Painted]:
            session = self._session(request)

            def drafts() -> Iterator[Draft]:
                parts = (open_picture(sample.picture), sample.question)
                yield from session.ask(self.engine, parts, self._options(mode, values))

            yield from self._turn(session, shown, drafts)

        return handler

    def again(self, request: gr.Request, shown: int, mode: Mode, *values: Any) -> Iterator[Painted]:
        """Answer the last question anew."""
        session = self._session(request)

        def drafts() -> Iterator[Draft]:
            yield from session.again(self.engine, self._options(mode, values))

        yield from self._turn(session, shown, drafts)

    async def stop(self, request: gr.Request) -> None:
        """Stop the running answer; the handler that shows it puts it away."""
        self._session(request).stop()

    def forget(self, request: gr.Request) -> Painted:
        """Start over."""
        session = self._session(request)
        session.clear()
        return self._paint(session)

    async def leave(self, request: gr.Request) -> None:
        """The tab was closed or loaded anew: nothing of its conversation stays."""
        key = str(request.session_hash)
        self.sessions.close(key)
        self.demo.state_holder.session_data.pop(key, None)  # Gradio's own copy of all that the widgets showed

    def show_model(self) -> tuple[str, Any]:
        """The line about the model, and whether to go on asking for it."""
        return self._model_html(), gr.Timer(active=not self._is_ready())

    def show_controls(self, mode: Mode) -> list[Any]:
        """Show the controls of a mode alone."""
        return [gr.Column(visible=mode == shown) for shown in texts.MODES]

    # --- what the handlers share --------------------------------------------------------------------------------------

    def _is_ready(self) -> bool:
        return not isinstance(self.engine, StartingEngine) or self.engine.is_ready

    def _model_html(self) -> str:
        engine = self.engine
        if isinstance(engine, StartingEngine) and not engine.is_ready:
            return markup.header_html(texts.TITLE, texts.starting_line(engine.card, engine.progress, engine.failure))
        return markup.header_html(texts.TITLE, texts.model_line(engine))

    def _session(self, request: gr.Request) -> Session:
        return self.sessions.of(str(request.session_hash))

    def _options(self, mode: Mode, values: Sequence[Any]) -> Options:
        named = zip(self.controls, values, strict=True)
        chosen = {name: value for (of, name, _), value in named if of in (mode, None)}
        return chosen_options(self.engine.card, mode, chosen)

    def _turn(
        self, session: Session, shown: int, drafts: Callable[[], Iterator[Draft]], question: Question | None = None
    ) -> Iterator[Painted]:
        """Paint a turn while it is answered; `question` leaves the box, and comes back if nothing comes of it."""
        if shown and not session.conversation.messages and not session.busy:
            yield self._paint(session, notice=texts.LOST, box=question)
            return
        state, notice, box = "withdrawn", texts.WITHDRAWN, EMPTY if question else None
        try:
            for draft in drafts():
                state = draft.state
                if state == "growing":
                    yield self._paint(session, draft, box=box)
                    box = None  # emptied once: by now there may be a new question in it
        except OmniLMMError as error:
            log.info("A question was refused", exc_info=True)
            state, notice = "failed", str(error)
        except Exception:
            log.exception("A turn failed")
            state, notice = "failed", texts.FAILED
        if session.closed:
            return
        if state == "kept":
            self._delete_uploads(question)
        if state in ("kept", "forgotten") or session.busy:  # busy: the next question has taken over the page
            yield self._paint(session)
        else:
            yield self._paint(session, notice=notice, box=question)

    def _paint(
        self, session: Session, draft: Draft | None = None, notice: str = "", box: Question | None = None
    ) -> Painted:
        """The whole state of a session as values of `painted`; the box keeps its content unless there is a new one."""
        buttons = {"submit_btn": not session.busy, "stop_btn": texts.STOP if session.busy else False}
        return (
            markup.chat_messages(session, draft),
            gr.MultimodalTextbox(**buttons) if box is None else gr.MultimodalTextbox(value=box, **buttons),
            markup.notice_html(notice),
            len(session.conversation.messages),
        )

    def _delete_uploads(self, question: Question | None) -> None:
        """The pictures of a kept question live on in its conversation alone."""
        icons = {button.icon["path"] for _, button in self.samples}  # equal files share one place
        for file in question["files"] if question else ():
            if file not in icons:
                Path(file).unlink(missing_ok=True)


def _widget(control: Control) -> Any:
    """A slider; a text field for what may stay empty (a number field sends 0 when it is)."""
    common = {"label": control.label, "info": control.help, "elem_id": control.name}
    limit = control.limit
    if control.default is None:
        return gr.Textbox(max_lines=1, placeholder=texts.CHANCE, **common)
    precision = 0 if limit.whole else 2
    return gr.Slider(limit.low, limit.high, control.default, step=limit.step, precision=precision, **common)


def _open(file: str) -> Picture:
    try:
        return open_picture(Path(file))
    except ImageError as error:
        raise ImageError(f"{Path(file).name}: {error}") from error


def build(engine: Engine) -> gr.Blocks:
    """The page for an engine, not yet served."""
    return Page(engine).demo


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(prog="web_demo.py", description="Talk about pictures in the browser.")
    add_loading_flags(flags)
    flags.add_argument("--host", default=HOST, help="address to listen on (default: %(default)s, this machine alone)")
    flags.add_argument("--port", type=int, help="port to listen on, 0 for any (default: 7860 or the next free one)")
    flags.add_argument("--share", action="store_true", help="also make a public link, through Gradio's servers")
    flags.add_argument("--open", action="store_true", help="open the page in the browser")
    return flags


def _load(arguments: dict[str, Any], bar: DownloadBar, report: Callable[[int, int], None]) -> Engine:
    """The model, with its download shown in the terminal and on the page."""
    prepare_environment(arguments["device"])  # before torch is imported
    from omnilmm.engine.loading import load_engine

    def both(done: int, total: int) -> None:
        bar.report(done, total)
        report(done, total)

    return load_engine(**arguments, report=both)


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
    flags = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _leave)
    try:
        port = find_port(flags.host, flags.port)  # what can fail at once does not wait for torch
        card = find(flags.model)
        say(texts.loading(card))
        with DownloadBar() as bar:
            engine = StartingEngine(card, lambda report: _load(loading_arguments(flags), bar, report))
            demo = build(engine)
            if engine.failure:  # known before anybody could open the page
                engine.wait()
            address = launch(demo, host=flags.host, port=port, share=flags.share)
            say(texts.served(address, time.monotonic() - started))
            if demo.share_url:
                say(texts.shared(demo.share_url))
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
    demo.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
