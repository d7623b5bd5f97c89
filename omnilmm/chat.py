"""Python's access to a model: `OmniLMMChat`, under its published name and form, which `chat.py` exports.

    OmniLMMChat().stream([{"role": "user", "content": [Path("a.png"), "What is in this picture?"]}])
    OmniLMMChat().chat({"image": img2base64("a.png"), "question": json.dumps(messages)})  # the published form

Nothing heavy is imported before a model is loaded.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnilmm.batch.answering import Reply
    from omnilmm.conversation import Conversation, Part, Picture, Video
    from omnilmm.engine.events import Engine, Event
    from omnilmm.engine.options import Mode
    from omnilmm.versions import VideoSampling

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
            from omnilmm.engine.servers import Servers

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

        given = _published_conversation(
            input, self.engine.card.require_video, in_place=self.engine.card.family == "omnilmm"
        )
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
    given: Mapping[str, Any], videos: Callable[[], VideoSampling] | None = None, *, in_place: bool = False
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
        return _with_picture(conversation, open_video(given["video"], videos()), in_place)
    image = given.get("image")
    if image is None or (isinstance(image, str | bytes) and not image.strip()):
        return conversation
    return _with_picture(conversation, _published_picture(image), in_place)


def _published_picture(image: Any) -> Picture:
    """Open the picture of the published form, where text is base64 or a data URI, never a path."""
    from omnilmm.images.pixels import open_picture
    from omnilmm.images.sources import decoded, picture_from

    return open_picture(decoded(image)) if isinstance(image, str) else picture_from(image)


def _with_picture(conversation: Conversation, picture: Picture | Video, in_place: bool) -> Conversation:
    """Put the picture where the first message says `<image>`, else before its text.

    Every template puts a line break between a leading picture and its text; one that was typed there is not doubled.
    With `in_place`, the text around `<image>` stays as it was typed, as in the published code of OmniLMM-12B; an empty
    text before the picture then keeps its template from adding the line break.
    """
    if not conversation.messages:
        return conversation
    first, *others = conversation.messages
    parts: list[Part] = [*first.parts]
    place = next((number for number, part in enumerate(parts) if isinstance(part, str)), len(parts))
    text = parts[place] if place < len(parts) else ""
    before, typed, after = text.rpartition(TYPED_PICTURE) if isinstance(text, str) else ("", "", "")
    if typed and in_place:
        parts[place : place + 1] = [before, picture, after]
    else:
        before, after = (piece if piece.strip() else "" for piece in (before, after))
        if typed and not before:
            after = after.removeprefix("\n")
        parts[place : place + 1] = [part for part in (before, picture, after) if part]
    return replace(conversation, messages=(replace(first, parts=tuple(parts)), *others))
