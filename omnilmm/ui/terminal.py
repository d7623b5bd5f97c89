"""The chat in a terminal: questions from a prompt, answers streamed to stdout, everything else to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from omnilmm.archive import read_conversation_file, write_conversation_file
from omnilmm.conversation import Conversation, Message, Picture, Thought, Video
from omnilmm.engine.events import Engine, Finished, Progress, TextDelta, ThoughtDelta
from omnilmm.engine.options import Options
from omnilmm.errors import InputError, OmniLMMError
from omnilmm.images.pixels import open_picture
from omnilmm.images.video_sampling import groups_of
from omnilmm.images.videos import is_video_file, open_video
from omnilmm.sentences import Sentence
from omnilmm.ui.note import Note
from omnilmm.ui.photos import is_about_a_photo
from omnilmm.ui.streams import can_encode, one_line, require_text
from omnilmm.ui.texts import ENGLISH

HELP = """Type a question. Commands:
  /image FILE     show a picture or a video with the next question
  /system [TEXT]  set the system prompt; without text: remove it
  /retry          answer the last question again
  /undo           forget the last question and its answer
  /clear          forget everything but the system prompt
  /save FILE      write the conversation as JSON, pictures included
  /load FILE      go on with a saved conversation
  /quit           leave (also Ctrl-D); Ctrl-C stops an answer"""

PHOTO = (
    "Note: this looks like a photo or a detailed picture, and this model ({model}) knows simple drawings only: what it "
    "says may be made up. For photos choose another one with --model; --list-models says which fit here."
)


DIM, NORMAL = "\033[2m", "\033[0m"


@dataclass
class Terminal:
    """An interactive conversation at a prompt.

    Args:
        engine: generates the answers.
        options: for every answer.
        conversation: the one to start with.
        pending: pictures and videos for the next question.
        out: receives the answers.
        notes: receives everything else.
        warnings: receives warnings that an answer cannot be trusted.
    """

    engine: Engine
    options: Options
    conversation: Conversation = field(default_factory=Conversation)
    pending: list[Picture | Video] = field(default_factory=list)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    notes: TextIO = field(default_factory=lambda: sys.stderr)
    warnings: TextIO = field(default_factory=lambda: sys.stderr)
    _thinks: bool = field(default=False, init=False)  # a thought is being written
    _line: int = field(default=0, init=False)  # length of the line with the progress

    def run(self, read: Callable[[str], str] = input) -> None:
        """Read lines until the end of the input or /quit."""
        self.note(HELP)
        while True:
            try:
                line = read("> ").strip()
            except EOFError:
                return
            except KeyboardInterrupt:
                self.note("\n(/quit or Ctrl-D leaves)")
                continue
            if line in ("/quit", "/exit"):
                return
            try:
                self.handle(line)
            except OmniLMMError as error:
                self.note(f"Error: {one_line(error)}")
            except BrokenPipeError:
                raise  # the reader is gone
            except OSError as error:
                self.note(f"Error: {error.strerror}: {error.filename}")

    def handle(self, line: str) -> None:
        """Execute one line of input.

        Raises:
            OmniLMMError: It cannot be done; the conversation is as before.
        """
        command, _, rest = line.partition(" ")
        rest = rest.strip()
        if not line.startswith("/"):
            self.ask(require_text(line, Sentence("the_question")))
        elif command in ("/image", "/video"):
            self._show(rest, is_video=command == "/video" or is_video_file(rest))
        elif command == "/system":
            self.conversation = replace(
                self.conversation, system=require_text(rest, Sentence("the_system_prompt")) or None
            )
        elif command == "/retry":
            self._retry()
        elif command == "/undo":
            self._undo()
        elif command == "/clear":
            self.conversation, self.pending = Conversation(system=self.conversation.system), []
            self.note("Forgotten.")
        elif command == "/save":
            self._save(rest)
        elif command == "/load":
            self._load(rest)
        else:
            self.note(HELP)

    def _show(self, name: str, is_video: bool) -> None:
        if not is_video:
            self.pending.append(open_picture(name))
        else:
            sampling = self.engine.card.require_video()
            self.pending.append(video := open_video(name, sampling))
            card, finer = self.engine.card, self.options.finer_detail
            groups = groups_of(video, card.require_video(finer))
            self.note(
                f"{video.duration_s:.0f} s of video: {sum(map(len, groups))} frames, about "
                f"{len(groups) * card.frame_tokens(finer)} of the model's {card.context} tokens."
            )
        self.note(f"The next question comes with {len(self.pending)} picture(s) or video(s).")

    def ask(self, question: str) -> Finished | None:
        """Ask with the pending pictures; the answer joins the conversation, also if it was stopped.

        Returns:
            The finished answer, or None if Ctrl-C stopped it.
        """
        finished = self._turn(self.conversation.with_message("user", *self.pending, question))
        self.pending = []
        return finished

    def note(self, text: str) -> None:
        """Write a line that is not part of an answer."""
        print(text, file=self.notes, flush=True)

    def _turn(self, asked: Conversation) -> Finished | None:
        """Stream an answer; only a turn with at least some text changes the conversation."""
        shown, thought, finished, asked_s = "", None, None, time.monotonic()
        if self.engine.card.drawings_only and is_about_a_photo(asked):
            print(PHOTO.format(model=self.engine.card.title), file=self.warnings, flush=True)
        with closing(self.engine.stream(asked, self.options, "terminal")) as events:
            try:
                for event in events:
                    if not isinstance(event, Progress):
                        self._clear_line()
                    if isinstance(event, ThoughtDelta):
                        thought = Thought((thought.text if thought else "") + event.text, is_closed=False)
                        self._think(event.text)
                    elif isinstance(event, TextDelta):
                        self._end_thought()
                        shown += event.text
                        self._write(event.text)
                    elif isinstance(event, Finished):
                        if event.thought and not thought:  # of beam search
                            self._think(event.thought.text)
                        self._end_thought()
                        finished, thought = event, event.thought or thought
                        self._write(event.text[len(shown) :] + "\n")
                        shown = event.text
                    elif isinstance(event, Progress) and not shown and not thought:
                        self._waiting(event, int(time.monotonic() - asked_s))
            except KeyboardInterrupt:
                self._clear_line()
                self._end_thought()
                self._write("\n")
                self.note("(stopped)")
        if shown or thought:
            answer = Message("assistant", (shown,), replace(thought, is_closed=True) if thought and shown else thought)
            self.conversation = replace(asked, messages=(*asked.messages, answer))
        if shown and not can_encode(shown, self.out):
            self.note(
                f"(Some characters are written as escapes: the output is in {self.out.encoding}, which does not have "
                "them. Set PYTHONIOENCODING=utf-8 for all characters.)"
            )
        if finished:
            self.note(figures(finished))
        return finished

    def _think(self, text: str) -> None:
        """Write more of a thought, dimmed on a terminal."""
        if not self._thinks:
            self.notes.write(DIM if self.notes.isatty() else "")
            self._thinks = True
        self.notes.write(text)
        self.notes.flush()

    def _end_thought(self) -> None:
        if self._thinks:
            self.notes.write(f"{NORMAL if self.notes.isatty() else ''}\n\n")
            self.notes.flush()
            self._thinks = False

    def _waiting(self, event: Progress, waited_s: int) -> None:
        """Show the progress before the first word: on a terminal in a temporary line, in a file only the queue."""
        if self.notes.isatty():
            line = f"({ENGLISH.note(Note(event, waited_s=waited_s))})"
            self.notes.write(f"\r{line:<{self._line}}")
            self.notes.flush()
            self._line = len(line)
        elif event.stage == "waiting" and not event.done:
            self.note(f"({event.total} ahead of you)")

    def _clear_line(self) -> None:
        if self._line:
            self.notes.write("\r" + " " * self._line + "\r")
            self.notes.flush()
            self._line = 0

    def _retry(self) -> None:
        whole, last = self.conversation, self._last_question()
        self._turn(replace(whole, messages=(*whole.messages[:-2], last)))

    def _undo(self) -> None:
        self._last_question()
        self.conversation = self.conversation.without_last(2)
        self.note("The last question and its answer are forgotten.")

    def _last_question(self) -> Message:
        if not self.conversation.messages:
            raise InputError("no_question_yet")
        return self.conversation.messages[-2]

    def _save(self, name: str) -> None:
        if not name:
            raise InputError("save_where")
        path = Path(name).expanduser()
        write_conversation_file(self.conversation, path, self.engine.card.title)
        self.note(f"Saved to {path}.")

    def _load(self, name: str) -> None:
        if not name:
            raise InputError("load_what")
        path = Path(name).expanduser()
        self.conversation = read_conversation_file(path)
        count = len(self.conversation.messages)
        pictures, videos = len(self.conversation.pictures), len(self.conversation.videos)
        also = f" and {videos} videos" if videos else ""
        self.note(f"Loaded {count} messages with {pictures} pictures{also} from {path}.")

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


def figures(finished: Finished) -> str:
    """Return one line about an answer: speed, tokens, and what a reader should know."""
    usage, timings = finished.usage, finished.timings
    parts = [
        f"{timings.first_token_s:.2f} s to first word",
        f"{timings.tokens_per_s(usage.new_tokens):.0f} tokens/s",
        f"{usage.text_tokens} text and {usage.picture_tokens} picture tokens",
    ]
    if finished.thought:
        parts.insert(0, ENGLISH.thought_line(finished.thought).lower())
    if finished.is_cut_in_thought:
        parts.append("the length limit was reached while thinking, before the answer: raise --max-new-tokens")
    elif finished.reason == "length":
        parts.append("stopped at the length limit")
    if finished.dropped_messages:
        parts.append(f"the oldest {finished.dropped_messages} messages no longer fit")
    return f"({' · '.join(parts)})"
