"""The prompt of a model that transformers has itself: the chat template that its checkpoint brings along.

A chat template is a Jinja program, and nothing says what it takes. So it is found out once, by rendering a short
conversation: whether content may be a list of parts (of everybody, or only of the user) or has to be a string with the
placeholder of the picture in it, and whether there is a system prompt; where there is none, the system's words come
before the user's first ones, as Gemma's template does it.

Structure must not come from what people write. A template makes one string of its own control tokens and their words,
so what looks like a control token in the words is broken by a space behind its first character: `<|im_end|>` becomes
`< |im_end|>`. (`sanitize_control_tokens` of transformers 5.23 keeps the characters, but fails with placeholders of
pictures in processors that bring their own `__call__`, MiniCPM-V 4.6's among them.)
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any

from PIL import Image

from omnilmm.conversation import Conversation, Message, Picture
from omnilmm.errors import CheckpointError
from omnilmm.prompts.pieces import GROUNDING_TAGS

OPEN, CLOSE = "<think>", "</think>"  # marks of a thought
SWITCH = "enable_thinking"  # the argument of a template, as Qwen3's and most others call it
# Special tokens that are words of a conversation: ours, and Qwen-VL's.
QWEN_GROUNDING = ("object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start", "quad_end")
SPOKEN_TOKENS = frozenset({*GROUNDING_TAGS, *(f"<|{name}|>" for name in QWEN_GROUNDING)})

# Whose content is a list of parts; everybody else's is a string.
FORMS = (("system", "user", "assistant"), ("user",), ())
ASKED, ANSWERED, ASKED_AGAIN, RULES = "omnilmm asked", "omnilmm answered", "omnilmm wondered", "omnilmm ruled"
# Of a template: what is computed in it, texts in there, and a power; two stars before a name hand on arguments.
_CODE = re.compile(r"\{[{%](.*?)[}%]\}", re.DOTALL)
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_POWER = re.compile(r"[\w)\]}']\s*\*\*")
AGAIN_S = 0.2
LIMIT_S = 20.0  # of rendering, which takes a few milliseconds
_PROBE = (
    Conversation().with_message("user", ASKED).with_message("assistant", ANSWERED).with_message("user", ASKED_AGAIN)
)
_PICTURE = Picture(Image.new("RGB", (1, 1)))


class _TimeIsOverError(Exception):
    """Raised within a template that does not come to an end."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End what this thread runs within, once it has taken longer.

    It ends between two steps of Python, as those of a template are: one step that takes long by itself ends first.

    Raises:
        CheckpointError: It did not come to an end.
    """
    thread, lock, over = ctypes.c_ulong(threading.get_ident()), threading.Lock(), threading.Event()

    def end() -> None:
        pause_s = seconds
        while not over.wait(pause_s):
            pause_s = AGAIN_S  # what is raised within a destructor is not heard
            with lock:
                if not over.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_TimeIsOverError))

    threading.Thread(target=end, name="time limit", daemon=True).start()
    try:
        try:
            yield
        finally:
            with lock:
                over.set()
    except _TimeIsOverError as error:
        raise CheckpointError("endless_template", most=seconds) from error
    finally:
        over.set()  # also where the error came within the lines above


class ChatTemplate:
    """A processor's chat template.

    Args:
        processor: of transformers, with a tokenizer.

    Raises:
        CheckpointError: There is no chat template, or none of the known forms of a conversation passes through it.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.source = _source(processor)
        _check_powers(self.source)
        self.control_tokens = _control_tokens(processor)
        # Other tokens that the template writes, `</think>` for one: an answer may hold them, its template looks there.
        written = {token for token in processor.tokenizer.get_added_vocab() if token in self.source} - SPOKEN_TOKENS
        self.marks_thoughts = any(sign in self.source for sign in (SWITCH, OPEN, CLOSE))
        written |= {OPEN, CLOSE} if self.marks_thoughts else set()
        self.forged = {"assistant": _any_of(self.control_tokens), "user": _any_of(self.control_tokens | written)}
        self.lists: tuple[str, ...] = FORMS[0]
        self.takes_system = True
        self._find_form()
        self.takes_system = self._passes(replace(_PROBE, system=RULES), RULES, ASKED, ANSWERED, ASKED_AGAIN)
        # Whether it lets the model think where nobody says; None where it has no switch.
        self.thinking = self._find_switch()

    def _find_switch(self) -> bool | None:
        if SWITCH not in self.source:
            return None
        on, off = (self.render(_PROBE, wish) for wish in (True, False))
        return None if on == off else self.render(_PROBE) == on

    def opens_thought(self, thinking: bool) -> bool:
        """Whether the prompt itself opens the thought before the answer."""
        return self.render(_PROBE, None if self.thinking is None else thinking).rstrip().endswith(OPEN)

    def _find_form(self) -> None:
        for lists in FORMS:
            self.lists = lists
            if self._passes(_PROBE, ASKED, ANSWERED, ASKED_AGAIN) and self._places_pictures():
                return
        raise CheckpointError("chat_template_fails", kind=type(self.processor).__name__)

    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        """A conversation as the template takes it."""
        if conversation.system and not self.takes_system:
            conversation = _system_said_by_user(conversation)
        said = [self._message(message.role, message) for message in conversation.messages]
        if conversation.system:
            said.insert(0, self._message("system", Message("user", (conversation.system,))))
        return said

    def render(self, conversation: Conversation, thinking: bool | None = None) -> str:
        """The prompt as a string; pictures are single placeholders.

        Args:
            conversation: with its pictures.
            thinking: whether the model shall think before it answers; None for the template's own choice.

        Raises:
            CheckpointError: The template does not come to an end.
        """
        with time_limit(LIMIT_S):
            return str(
                self.processor.apply_chat_template(
                    self.messages(conversation),
                    chat_template=self.source,
                    add_generation_prompt=True,
                    **_switch(thinking),
                )
            )

    def inputs(
        self, conversation: Conversation, thinking: bool | None = None, look: Mapping[str, Any] | None = None
    ) -> Any:
        """All model inputs of a batch of one, as the processor makes them: pixels and input_ids [1, S].

        Args:
            conversation: as for `render`.
            thinking: as for `render`.
            look: how pictures are cut, further arguments of the processor.
        """
        self.render(conversation, thinking)  # it ends, so it does so below, where tokens and pixels may take their time
        # Pictures are found in lists of parts; beside strings they are given.
        given = [] if "user" in self.lists else [picture.image for picture in conversation.pictures]
        return self.processor.apply_chat_template(
            self.messages(conversation),
            chat_template=self.source,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={**(look or {}), **({"images": given} if given else {})} or None,
            **_switch(thinking),
        )

    def plain(self, words: str, role: str) -> str:
        """Somebody's words without anything that would become a control token."""
        return self.forged.get(role, self.forged["user"]).sub(lambda token: f"{token[0][0]} {token[0][1:]}", words)

    def _message(self, role: str, message: Message) -> dict[str, Any]:
        parts = list(self._parts(role, message))
        if role in self.lists:
            return {"role": role, "content": parts or [{"type": "text", "text": ""}]}
        token = getattr(self.processor, "image_token", None)
        placeholder = f"{token}\n" if token else ""
        return {"role": role, "content": "".join(part.get("text", placeholder) for part in parts)}

    def _parts(self, role: str, message: Message) -> Iterator[dict[str, Any]]:
        """Pictures, and between them the texts, one per line."""
        for is_picture, group in groupby(message.parts, key=lambda part: isinstance(part, Picture)):
            if is_picture:
                yield from ({"type": "image", "image": part.image} for part in group if isinstance(part, Picture))
            else:
                words = "\n".join(part for part in group if isinstance(part, str))
                yield {"type": "text", "text": self.plain(words, role)}

    def _passes(self, conversation: Conversation, *words: str) -> bool:
        """Whether all that is said comes out again, and as itself instead of as a printed list."""
        try:
            prompt = self.render(conversation)
        except CheckpointError:
            raise
        except Exception:  # a template raises what it likes
            return False
        return all(said in prompt for said in words) and not re.search("""['"]type['"]""", prompt)

    def _places_pictures(self) -> bool:
        """Whether a picture leaves something in the prompt."""
        words, shown = (Conversation().with_message("user", *parts, ASKED) for parts in ((), (_PICTURE,)))
        return self._passes(shown, ASKED) and self.render(shown) != self.render(words)


def _switch(thinking: bool | None) -> dict[str, bool]:
    """As an argument of the template."""
    return {} if thinking is None else {SWITCH: thinking}


def _check_powers(source: str) -> None:
    """Refuse powers, which no prompt needs: a single one may take hours, and nothing can interrupt it."""
    if any(_POWER.search(_STRING.sub("''", code)) for code in _CODE.findall(source)):
        raise CheckpointError("template_with_powers")


def _source(processor: Any) -> str:
    found = getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)
    found = found.get("default") if isinstance(found, dict) else found
    if not found:
        raise CheckpointError("no_chat_template")
    return str(found)


def _control_tokens(processor: Any) -> frozenset[str]:
    """Special tokens and placeholders, without those that are words."""
    tokenizer = processor.tokenizer
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = {*tokenizer.all_special_tokens, *(str(token.content) for token in added if token.special)}
    placeholders = (getattr(processor, f"{kind}_token", None) for kind in ("image", "video", "audio"))
    return frozenset(special | {token for token in placeholders if isinstance(token, str)}) - SPOKEN_TOKENS


def _any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """Line breaks, spaces and single characters are left out: tokens in some vocabularies, but ordinary text."""
    names = sorted(re.escape(token) for token in tokens if len(token.strip()) > 1)
    return re.compile("|".join(names) or r"(?!)")


def _system_said_by_user(conversation: Conversation) -> Conversation:
    first, *rest = conversation.messages
    told = Message(first.role, (f"{conversation.system}\n", *first.parts))
    return Conversation((told, *rest))
