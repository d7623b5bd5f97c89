"""All texts of the pages, in English and Chinese; the words themselves are in `languages/*.yaml`.

A visitor's language is the browser's until they choose another one. Terminal output is English.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import get_args

import yaml
from pydantic import BaseModel, ConfigDict

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Thought, Video
from omnilmm.engine.change import Stage
from omnilmm.engine.events import Engine, Finished, PictureSlice, Preview, Progress, TextDelta, ThoughtDelta
from omnilmm.engine.options import Mode
from omnilmm.errors import OmniLMMError
from omnilmm.hardware import QUANTISED
from omnilmm.sentences import Language, Sentence
from omnilmm.ui.film_strip import clock
from omnilmm.ui.note import Note

CODES: tuple[Language, ...] = get_args(Language)
_FOLDER = Path(__file__).parent / "languages"


class Texts(BaseModel):
    """One language: its words, and the sentences that need more than filling in a placeholder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: Language
    language: str
    title: str
    empty_chat: str
    question: str
    question_placeholder: str
    settings: str
    chance: str
    about_model: str
    regenerate: str
    clear: str
    stop: str
    newest: str
    upload: str
    undo: str
    edit: str
    continue_answer: str
    continue_question: str
    save: str
    cancel: str
    copy_answer: str
    camera: str
    take_photo: str
    samples: str
    reset: str
    language_label: str
    system_prompt: str
    system_prompt_help: str
    decode_type: str
    modes: dict[Mode, str]
    labels: dict[str, str]
    help: dict[str, str]
    thinking: str
    stopped: str
    length_limit: str
    length_limit_in_thought: str
    silent: str
    set_aside: str
    slower: str
    preview: str
    ahead: str
    looking: str
    looking_at_several: str
    looking_at_one_of: str
    looking_at_video: str
    looking_at_frame: str
    video: str
    video_seen: str
    reading_prompt: str
    seconds: str
    minutes: str
    grown: str
    downloading_model: str
    loading_model: str
    first_word: str
    speed: str
    text_tokens: str
    thinking_switch: str
    thinking_help: str
    finer_detail: str
    finer_detail_help: str
    thinking_now: str
    thought_for: str
    thought_for_long: str
    thought_plain: str
    thought_cut: str
    thought_tokens: str
    picture_tokens: str
    reused_tokens: str
    dropped: str
    editing: str
    many_waiting: str
    guessing_waits: str
    locked_out: str
    uploads_full: str
    withdrawn: str
    stopped_early: str
    failed: str
    unexpected: str
    lost: str
    restored_text: str
    picture_lost: str
    on_device: str
    of_memory: str
    not_loaded: str
    downloading: str
    loading_line: str
    parameters: str
    billion: str
    million: str
    context_tokens: str
    picture: str
    seen: str
    seen_overview: str
    seen_slices: str
    seen_unknown: str
    seen_as_published: str
    seen_nothing: str
    drawings_only: str
    looks_like_photo: str
    began_anew: str
    boxes_on_picture: str
    export: str
    export_json: str
    export_markdown: str
    exported_with: str
    import_chat: str
    imported: str
    past: dict[str, str]
    live: dict[str, str]
    clip: dict[str, str]
    model: str
    switch: str
    changes: dict[Stage, str]
    cancel_change: str
    dtype: str
    automatic: str
    switched_off: str
    best_model: str
    fits_in: str
    fits_unknown: str
    fits_needs: str
    words_per_s: str
    words_a_second: str
    comma: str
    download_size: str
    here: str
    download_short: str
    here_short: str
    on_server: str
    server_busy: str
    without_effect: str
    on_server_line: str
    you: str
    assistant: str
    streamlit: dict[str, str]

    def translate(self, message: Sentence | Exception) -> str:
        """Translate a message of the engine into this language, as worded for a page; other errors stay as they are."""
        sentence = message.sentence if isinstance(message, OmniLMMError) else message
        return sentence.worded(self.code, "page") if isinstance(sentence, Sentence) else str(sentence)

    def of_streamlit(self) -> list[tuple[str, str]]:
        """Return Streamlit's own texts with their translations; none for texts that are the same in this language."""
        here = self.streamlit
        return [(text, here[key]) for key, text in texts_in("en").streamlit.items() if text != here[key]]

    def model_line(self, engine: Engine) -> str:
        """Return which model answers, on which device or server, in which dtype and why, and the memory it takes."""
        device, dtype = engine.device, engine.dtype
        if not dtype.value:  # only the server knows it
            reason = self.translate(device.reason)
            return self.on_server_line.format(model=engine.card.title, device=device.value, device_reason=reason)
        memory = self.of_memory.format(size=_size(engine.memory_bytes)) if engine.memory_bytes else ""
        why = self.translate(dtype.reason)
        return self.on_device.format(
            model=engine.card.title,
            device=device.value,
            device_reason=self.translate(device.reason),
            dtype=dtype.value,
            dtype_reason=f"{why}; {self.slower}" if dtype.value in QUANTISED else why,
            memory=memory,
        )

    def starting_line(self, card: ModelCard, progress: Progress, failure: Exception | None) -> str:
        """Return the line that replaces `model_line` until the model is loaded."""
        if failure is not None:
            return self.not_loaded.format(model=card.title, reason=self.translate(failure))
        if progress.stage == "downloading" and progress.total:
            return self.downloading.format(model=card.title, **sizes(progress.done, progress.total))
        return self.loading_line.format(model=card.title)

    def about(self, card: ModelCard) -> str:
        """Return what a user should know about the model, as Markdown."""
        size = [self.parameters.format(count=self._count(card.parameters))] if card.parameters else []
        licence = f"[{card.licence}]({card.licence_url})" if card.licence_url else card.licence
        context = [self.context_tokens.format(count=card.context)] if card.is_context_known else []
        facts = [*size, *context, *([licence] if licence else [])]
        parts = (card.note.in_language(self.code), " · ".join(facts), card.statement.in_language(self.code))
        return "\n\n".join(part for part in parts if part)

    def first_screen(self, card: ModelCard) -> str:
        """Return the text of an empty chat, as Markdown; with what the model knows, if that is little."""
        return f"{self.empty_chat}\n\n{self.drawings_only}" if card.drawings_only else self.empty_chat

    def clip_texts(self, most_s: int) -> dict[str, str]:
        """Return the texts of the recorder of short videos, of at most so many seconds."""
        return {name: text.format(seconds=most_s) for name, text in self.clip.items()}

    def picture_name(self, width: int, height: int) -> str:
        """Return the alternative text of a picture."""
        return self.picture.format(width=width, height=height)

    def note(self, note: Note | None) -> str:
        """Return the small line under an answer; empty for none."""
        if note is None:
            return ""
        parts = [self.stopped] if note.stopped else self._note_parts(note)
        return " · ".join([*parts, self.set_aside] if note.set_aside else parts)

    def _note_parts(self, note: Note) -> list[str]:
        match note.event:
            case Finished():
                return [self._finished(note.event)]
            case TextDelta() | ThoughtDelta():
                return self._streaming(note.event, note.tokens_per_s)
            case Preview():
                return [self.preview, *self._streaming(note.event, note.tokens_per_s)]
        return [self._progress(note.event), *self._waited(note.waited_s)]

    def thought_line(self, thought: Thought, *, is_partial: bool = False) -> str:
        """Return the title of a collapsed thought: how long it took, and how many tokens."""
        if is_partial and not thought.is_closed:
            return self.thinking_now
        if not thought.is_closed:
            title = self.thought_cut
        elif thought.seconds < 1:
            title = self.thought_plain
        elif thought.seconds < 60:
            title = self.thought_for.format(seconds=f"{thought.seconds:.0f}")
        else:
            minutes, seconds = divmod(round(thought.seconds), 60)
            title = self.thought_for_long.format(minutes=minutes, seconds=seconds)
        return self.comma.join([title, self.thought_tokens.format(count=thought.tokens)] if thought.tokens else [title])

    def _progress(self, event: Progress | None) -> str:
        """Return the progress before the first word."""
        if event is None:
            return self.thinking
        if event.stage == "waiting":
            return self.ahead.format(count=event.total)
        if event.stage == "frames":
            line = self.looking_at_frame if event.done else self.looking_at_video
            return line.format(number=event.done, count=event.total)
        if event.stage == "encoding":
            return self._looking(event.done, event.total)
        lines = {"downloading": self.downloading_model, "prefill": self.reading_prompt, "busy": self.server_busy}
        share = f" {event.done / event.total:.0%}" if event.total and (event.done or event.stage != "prefill") else ""
        return lines.get(event.stage, self.loading_model).format(share=share)

    def video_name(self, video: Video) -> str:
        """Return the alternative text of a video."""
        return self.video.format(length=clock(video.duration_s), frames=len(video.frames))

    def video_line(self, frames: int, tokens: int, context: int, first_s: float, last_s: float) -> str:
        """Return how a model sees a video, in numbers."""
        times = {"first": clock(first_s), "last": clock(last_s)}
        return self.video_seen.format(frames=frames, tokens=f"{tokens:,}", context=f"{context:,}", **times)

    def _looking(self, number: int, count: int) -> str:
        if count <= 1:
            return self.looking if count else self.thinking
        line = self.looking_at_one_of if number else self.looking_at_several
        return line.format(number=number, count=count)

    def _waited(self, seconds: int) -> list[str]:
        """Return the time waited, as a sign of progress; nothing in the first second."""
        if seconds < 60:
            return [self.seconds.format(seconds=seconds)] if seconds else []
        return [self.minutes.format(minutes=seconds // 60, seconds=seconds % 60)]

    def _streaming(self, event: TextDelta | ThoughtDelta | Preview, tokens_per_s: float) -> list[str]:
        """Return how long an answer is so far, and its speed."""
        parts = [self.grown.format(count=event.new_tokens)] if event.new_tokens else []
        return [*parts, self.speed.format(tokens=_figures(tokens_per_s))] if tokens_per_s else parts

    def _finished(self, event: Finished) -> str:
        """Return what an answer took, and what deviated from the request."""
        if event.reason == "switched":
            return self.switched_off
        usage, timings = event.usage, event.timings
        parts = [self.silent] if not event.text.strip() and not event.is_cut_in_thought else []
        parts.append(self.first_word.format(seconds=_seconds(timings.first_token_s)))
        if speed := timings.tokens_per_s(usage.new_tokens):
            parts.append(self.speed.format(tokens=_figures(speed)))
        parts.append(self.text_tokens.format(count=usage.text_tokens))
        if usage.picture_tokens:
            parts.append(self.picture_tokens.format(count=usage.picture_tokens))
        if usage.reused:
            parts.append(self.reused_tokens.format(count=usage.reused))
        if event.reason == "length":
            parts.append(self.length_limit_in_thought if event.is_cut_in_thought else self.length_limit)
        if event.dropped_messages:
            parts.append(self.dropped.format(count=event.dropped_messages))
        if event.without_effect:
            names = [self.labels.get(name, name) for name in event.without_effect]
            parts.append(self.without_effect.format(options=self.comma.join(names)))
        return " · ".join(parts)

    def seen_line(self, views: tuple[PictureSlice, ...] | None, *, is_assumed: bool = False) -> str:
        """Return how a picture is seen, in numbers; `is_assumed` marks it as that of the published code."""
        if views is None:
            return self.seen_unknown
        if not views:
            return self.seen_nothing
        overview, slices = views[0], views[1:]
        parts = [self.seen_overview.format(width=overview.width, height=overview.height, tokens=overview.tokens)]
        if slices:
            tokens = sum(view.tokens for view in slices)
            size = {"width": slices[0].width, "height": slices[0].height}
            parts.append(self.seen_slices.format(count=len(slices), tokens=tokens, **size))
        parts += [self.seen_as_published] if is_assumed else []
        return " · ".join(parts)

    def _count(self, count: int) -> str:
        if count >= 1e9:
            return self.billion.format(count=f"{count / 1e9:.1f}")
        return self.million.format(count=f"{count / 1e6:.1f}")


@cache
def texts_in(code: Language) -> Texts:
    """Return the texts of a language."""
    return Texts.model_validate(yaml.safe_load((_FOLDER / f"{code}.yaml").read_text(encoding="utf-8")))


def texts_for(wanted: str | None) -> Texts:
    """Return the texts for a language code or an Accept-Language header, English if it names none of ours.

    The first match counts, since browsers list the preferred language first: "zh-CN,zh;q=0.9,en;q=0.8" is Chinese.
    """
    for entry in (wanted or "").lower().split(","):
        code = entry.split(";")[0].strip().split("-")[0].split("_")[0]
        for ours in CODES:
            if code == ours:
                return texts_in(ours)
    return texts_in("en")


ENGLISH = texts_in("en")


def loading(title: str) -> str:
    """Return the line printed while the model is being loaded."""
    return f"Loading {title} …"


def loading_speech(name: str) -> str:
    """Return the line printed while the speech recognition model is being loaded."""
    return f"Loading speech recognition ({name}) …"


def no_hands_free() -> str:
    """Return the line printed where there is no voice detector."""
    return "The live view has push-to-talk only, as silero-vad is not installed: pip install silero-vad."


def cannot_listen(host: str, port: int, reason: str) -> str:
    """Return why no page can be served at this address."""
    return f"Cannot listen on {host}, port {port}: {reason}. Choose another --port, or none for the next free one."


def served(address: str, seconds: float) -> str:
    """Return the line printed once the page can be opened."""
    return f"Open {address} (ready after {seconds:.0f} s; Ctrl-C stops)"


def api_served(address: str) -> str:
    """Return the line printed once the API can be used."""
    return f"Programs ask {address}v1 (OpenAI's API; Ctrl-C stops)"


def shared(address: str) -> str:
    """Return the line printed for a public link."""
    return f"Public link, for anybody who knows it: {address}"


def sizes(done: int, total: int) -> dict[str, str]:
    """Format the bytes of a download for a sentence: "done", "total", their "unit", and the "share" that is done."""
    scale, unit = (2**30, "GiB") if total >= 2**29 else (2**20, "MiB")
    share = f"{done / total:.0%}" if total else ""
    return {"done": f"{done / scale:.1f}", "total": f"{total / scale:.1f}", "unit": unit, "share": share}


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"


def _figures(speed: float) -> str:
    """Format a speed with at least two significant digits, so that a slow one is not shown as 0."""
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.2g}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.095 else f"{seconds:.2f} s"
