"""Prompts of models implemented in transformers, rendered with the chat template of the checkpoint.

A chat template is a Jinja program that somebody else wrote, so it runs in a process of its own (`template_pool`). It
does not declare its input format. The format is therefore probed once by
rendering a short conversation: whether content may be a list of parts (for all roles, or only for the user) or must be
a string with an image placeholder, and whether there is a system prompt. Without one, the system prompt is put in front
of the first user message, as Gemma's template does.

Structure must not come from user input. A template joins its own control tokens and the text of messages into one
string, so anything in the text that looks like a control token, or like a role header in plain text (`USER:`), is
broken by a space after its first character: `<|im_end|>` becomes `< |im_end|>`. (`sanitize_control_tokens` of
transformers 5.23 keeps the characters, but fails with image placeholders in processors with their own `__call__`, such
as MiniCPM-V 4.6's.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from PIL import Image

from omnilmm.conversation import Conversation, Message, Picture, Video
from omnilmm.errors import CheckpointError
from omnilmm.prompts.pieces import GROUNDING_TAGS
from omnilmm.prompts.template_pool import render

OPEN, CLOSE = "<think>", "</think>"  # tags around the reasoning
SWITCH = "enable_thinking"  # template argument, as in Qwen3's and most other templates
# Grounding tokens, which are part of the text although they are special tokens: MiniCPM-V's and Qwen-VL's.
QWEN_GROUNDING = ("object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start", "quad_end")
SPOKEN_TOKENS = frozenset({*GROUNDING_TAGS, *(f"<|{name}|>" for name in QWEN_GROUNDING)})

# Roles whose content is a list of parts; that of the other roles is a string.
FORMS = (("system", "user", "assistant"), ("user",), ())
ASKED, ANSWERED, ASKED_AGAIN, RULES = "omnilmm asked", "omnilmm answered", "omnilmm wondered", "omnilmm ruled"
# Rendered by the processor in place of the template of the checkpoint, which was rendered before.
RENDERED = "omnilmm_prompt"
VERBATIM = f"{{{{ {RENDERED} }}}}"
_PROBE = (
    Conversation().with_message("user", ASKED).with_message("assistant", ANSWERED).with_message("user", ASKED_AGAIN)
)
_PICTURE = Picture(Image.new("RGB", (1, 1)))
_VIDEO = Video((_PICTURE,), (0.0,), 1.0, (1, 1))


class ChatTemplate:
    """The chat template of a processor.

    Args:
        processor: transformers processor with a tokenizer.

    Raises:
        CheckpointError: There is no chat template, or it supports none of the known message formats.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.source = _source(processor)
        self.control_tokens = _control_tokens(processor)
        # Other added tokens in the template, e.g. `</think>`. They stay in answers, where the template looks for them.
        written = {token for token in processor.tokenizer.get_added_vocab() if token in self.source} - SPOKEN_TOKENS
        self.marks_thoughts = any(sign in self.source for sign in (SWITCH, OPEN, CLOSE))
        written |= {OPEN, CLOSE} if self.marks_thoughts else set()
        structure = {"assistant": self.control_tokens, "user": self.control_tokens | written}
        self.forged = {role: _any_of(tokens) for role, tokens in structure.items()}
        self.lists: tuple[str, ...] = FORMS[0]
        self.takes_system = True
        self._find_form()
        self.takes_system = self._passes(replace(_PROBE, system=RULES), RULES, ASKED, ANSWERED, ASKED_AGAIN)
        self.headers = self._find_headers()
        self.forged = {role: _any_of(tokens | self.headers) for role, tokens in structure.items()}
        # Whether the template enables thinking by default; None if it has no switch.
        self.thinking = self._find_switch()
        self.places_videos = "user" in self.lists and self._places(_VIDEO)

    def _find_switch(self) -> bool | None:
        if SWITCH not in self.source:
            return None
        on, off = (self.render(_PROBE, switch) for switch in (True, False))
        return None if on == off else self.render(_PROBE) == on

    def opens_thought(self, thinking: bool) -> bool:
        """Return whether the prompt ends with `<think>`, so that the answer starts inside the reasoning."""
        return self.render(_PROBE, None if self.thinking is None else thinking).rstrip().endswith(OPEN)

    def _find_form(self) -> None:
        for lists in FORMS:
            self.lists = lists
            if self._passes(_PROBE, ASKED, ANSWERED, ASKED_AGAIN) and self._places(_PICTURE):
                return
        raise CheckpointError("chat_template_fails", kind=type(self.processor).__name__)

    def _find_headers(self) -> frozenset[str]:
        """Return the role headers in plain text: what the template writes between words and control tokens.

        Bare names of roles are left out: in `<|im_start|>user` it is the control token that begins the turn.
        """
        prompt = self.render(replace(_PROBE, system=RULES if self.takes_system else ""))
        words = "|".join((RULES, ASKED, ANSWERED, ASKED_AGAIN))
        between = re.split(f"{words}|{self.forged['user'].pattern}", prompt)
        lines = {line.strip() for piece in between for line in piece.splitlines()}
        return frozenset(line for line in lines if re.search(r"\w", line) and re.search(r"[^\w\s]", line))

    def messages(
        self, conversation: Conversation, frames: Callable[[Video], Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return a conversation in the message format of the template.

        Args:
            conversation: the conversation.
            frames: returns the frames of a video for the processor; without it their place only is marked.
        """
        if conversation.system and not self.takes_system:
            conversation = _system_said_by_user(conversation)
        messages = [self._message(message.role, message, frames) for message in conversation.messages]
        if conversation.system:
            messages.insert(0, self._message("system", Message("user", (conversation.system,))))
        return messages

    def render(self, conversation: Conversation, thinking: bool | None = None) -> str:
        """Render the prompt as a string, with one placeholder per picture or video.

        Args:
            conversation: the conversation with its pictures.
            thinking: whether the model should think before it answers; None for the template's default.

        Raises:
            CheckpointError: The template fails, or exceeds its limits.
        """
        return self._prompt(self.messages(conversation), thinking)

    def _prompt(self, messages: list[dict[str, Any]], thinking: bool | None) -> str:
        variables = {"add_generation_prompt": True, **self.processor.tokenizer.special_tokens_map, **_switch(thinking)}
        return render(self.source, messages, variables)

    def inputs(
        self,
        conversation: Conversation,
        thinking: bool | None = None,
        settings: Mapping[str, Any] | None = None,
        frames: Callable[[Video], Any] | None = None,
    ) -> Any:
        """Return all model inputs of a batch of one, as prepared by the processor: pixels and input_ids [1, S].

        Args:
            conversation: as for `render`.
            thinking: as for `render`.
            settings: slicing options, passed on to the processor.
            frames: returns the frames of a video for the processor.
        """
        messages = self.messages(conversation, frames)
        # The processor finds pictures in lists of parts; with string content they are passed separately.
        given = [] if "user" in self.lists else [picture.image for picture in conversation.pictures]
        return self.processor.apply_chat_template(
            messages,
            chat_template=VERBATIM,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={**(settings or {}), **({"images": given} if given else {})} or None,
            **{RENDERED: self._prompt(messages, thinking)},
        )

    def plain(self, words: str, role: str) -> str:
        """Return a text in which everything that the model would take for structure is broken by a space."""
        return self.forged.get(role, self.forged["user"]).sub(lambda token: f"{token[0][0]} {token[0][1:]}", words)

    def _message(self, role: str, message: Message, frames: Callable[[Video], Any] | None = None) -> dict[str, Any]:
        parts = list(self._parts(role, message, frames))
        if role in self.lists:
            return {"role": role, "content": parts or [{"type": "text", "text": ""}]}
        token = getattr(self.processor, "image_token", None)
        placeholder = f"{token}\n" if token else ""
        return {"role": role, "content": "".join(part.get("text", placeholder) for part in parts)}

    def _parts(
        self, role: str, message: Message, frames: Callable[[Video], Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield pictures, videos and texts as parts; adjacent texts are joined by line breaks."""
        for kind, group in groupby(message.parts, key=type):
            if kind is Picture:
                yield from ({"type": "image", "image": part.image} for part in group if isinstance(part, Picture))
            elif kind is Video:
                videos = (part for part in group if isinstance(part, Video))
                yield from ({"type": "video"} | ({"video": frames(video)} if frames else {}) for video in videos)
            else:
                words = "\n".join(part for part in group if isinstance(part, str))
                yield {"type": "text", "text": self.plain(words, role)}

    def _passes(self, conversation: Conversation, *words: str) -> bool:
        """Return whether the prompt contains all the words, and no printed list of parts."""
        try:
            prompt = self.render(conversation)
        except CheckpointError as error:
            if error.code != "template_failed":
                raise
            return False
        return all(word in prompt for word in words) and not re.search("""['"]type['"]""", prompt)

    def _places(self, part: Picture | Video) -> bool:
        """Return whether a picture or a video changes the prompt."""
        words, shown = (Conversation().with_message("user", *parts, ASKED) for parts in ((), (part,)))
        return self._passes(shown, ASKED) and self.render(shown) != self.render(words)


def _switch(thinking: bool | None) -> dict[str, bool]:
    """Return the thinking switch as keyword arguments of the template."""
    return {} if thinking is None else {SWITCH: thinking}


def _source(processor: Any) -> str:
    found = getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)
    found = found.get("default") if isinstance(found, dict) else found
    if not found:
        raise CheckpointError("no_chat_template")
    return str(found)


def _control_tokens(processor: Any) -> frozenset[str]:
    """Return the special tokens and placeholders, without the grounding tokens."""
    tokenizer = processor.tokenizer
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = {*tokenizer.all_special_tokens, *(str(token.content) for token in added if token.special)}
    placeholders = (getattr(processor, f"{kind}_token", None) for kind in ("image", "video", "audio"))
    return frozenset(special | {token for token in placeholders if isinstance(token, str)}) - SPOKEN_TOKENS


def _any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """Compile a pattern for the tokens, except whitespace and single characters, which are ordinary text."""
    names = sorted(re.escape(token) for token in tokens if len(token.strip()) > 1)
    return re.compile("|".join(names) or r"(?!)")


def _system_said_by_user(conversation: Conversation) -> Conversation:
    first, *rest = conversation.messages
    merged = Message(first.role, (f"{conversation.system}\n", *first.parts))
    return Conversation((merged, *rest))
