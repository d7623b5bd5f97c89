"""Messages as HTML and Markdown for the pages: pictures as thumbnails, a user's text exactly as typed."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from omnilmm.conversation import Message, Picture, Thought, Video
from omnilmm.ui.boxes import regions
from omnilmm.ui.draft import Draft
from omnilmm.ui.drawing import with_regions
from omnilmm.ui.embedding import data_address, jpeg
from omnilmm.ui.film_strip import sheet
from omnilmm.ui.note import Note
from omnilmm.ui.safe_markdown import safe_markdown, safe_with_chips
from omnilmm.ui.session import Session
from omnilmm.ui.texts import Texts

THUMBNAIL_PIXELS = 480  # of the longer side

MARKED_PIXELS = 720  # of a picture on which an answer marks regions
SENT_PIXELS = 1460  # of a picture that is sent to the browser; Streamlit fails where it has to shrink one of 2000×1
CLIP_SECONDS = 60  # of a video recorded on the page; every model sees all of it at its full rate or nearly so

_marked_pictures: WeakKeyDictionary[Picture, dict[str, str]] = WeakKeyDictionary()
_thumbnails: WeakKeyDictionary[Picture, str] = WeakKeyDictionary()  # a thumbnail is deleted with its picture
_sheets: WeakKeyDictionary[Video, str] = WeakKeyDictionary()
_encoded: WeakKeyDictionary[Picture, bytes] = WeakKeyDictionary()

_EVERYWHERE = re.compile(r"[\\`*_\[\]<>&|~$]")
_AT_LINE_START = re.compile(r"^(\s*)([#+=-]|\d+[.)])", re.MULTILINE)
_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)", re.DOTALL)
_SINGLE_DOLLAR = re.compile(r"(?<![\\$])\$(?!\$)")
_INLINE = re.compile(r"\\\((.+?)\\\)", re.DOTALL)
_DISPLAY = re.compile(r"\\\[(.+?)\\\]|\$\$(.+?)\$\$", re.DOTALL)


Shown = dict[str, Any]  # one bubble: "role" and "content", as every chat widget takes them; "metadata" of a thought


def chat_messages(session: Session, draft: Draft | None = None, offer: str = "") -> list[Shown]:
    """Return a conversation as bubbles: pictures, then text, each answer followed by its note.

    Args:
        session: the session with the conversation.
        draft: the turn being answered, shown in place of what follows its history.
        offer: label of the button that chooses another model for photos; empty for no button.
    """
    return list(_bubbles(session, draft, offer))


def _bubbles(session: Session, draft: Draft | None, offer: str) -> Iterator[Shown]:
    messages = draft.history.messages if draft else session.conversation.messages
    shown: Picture | None = None  # the newest picture, which regions in an answer refer to
    for number, message in enumerate(messages):
        shown = message.pictures[-1] if message.pictures else shown
        note = session.notes[number // 2]
        if message.role == "assistant" and note and note.is_photo:
            yield _shown("assistant", photo_html(session.texts, offer))
        yield from _of_message(message, session.texts, note, shown)
    if draft:
        yield from _of_message(draft.question, session.texts)
        if draft.is_photo:
            yield _shown("assistant", photo_html(session.texts, offer))
        answer = Message("assistant", (draft.text,), draft.thought)
        yield from _of_message(answer, session.texts, draft.note, is_partial=True)


def _of_message(
    message: Message,
    texts: Texts,
    note: Note | None = None,
    shown: Picture | None = None,
    *,
    is_partial: bool = False,
) -> Iterator[Shown]:
    if message.role == "user":
        for part in message.shown:
            yield _shown("user", video_html(part, texts) if isinstance(part, Video) else picture_html(part, texts))
        if message.text:
            yield _shown("user", plain_markdown(message.text))
        return
    if message.thought:
        yield _fold(message.thought, texts, is_partial=is_partial)
    if text := safe_with_chips(message.text, chip, is_partial=is_partial):
        yield _shown("assistant", text)
    marked = [] if is_partial else regions(message.text)
    if marked and shown:
        alternative = html.escape(texts.boxes_on_picture)
        yield _shown("assistant", f'<img class="picture" src="{_marked(shown, message.text)}" alt="{alternative}">')
    if line := texts.note(note):
        yield _shown("assistant", f'<small class="note">{html.escape(line)}</small>')


def _fold(thought: Thought, texts: Texts, *, is_partial: bool) -> Shown:
    """Return a thought as Gradio's collapsible message: open while streamed, then closed unless a reader opened it."""
    is_open = is_partial and not thought.is_closed
    title = texts.thought_line(thought, is_partial=is_partial)
    metadata = {"title": title, "status": "pending" if is_open else "done"}
    return _shown("assistant", safe_markdown(thought.text)) | {"metadata": metadata}


def _shown(role: str, content: str) -> Shown:
    return {"role": role, "content": content}


def _marked(picture: Picture, answer: str) -> str:
    """Return the picture with the regions of an answer drawn on it, as a `data:` URI."""
    kept = _marked_pictures.setdefault(picture, {})
    if answer not in kept:
        small = picture.image.copy()
        small.thumbnail((MARKED_PIXELS, MARKED_PIXELS))
        kept[answer] = data_address(with_regions(small, regions(answer)))
    return kept[answer]


def thumbnail(picture: Picture) -> str:
    """Return a small copy of a picture as a `data:` URI, as the model sees it: upright and RGB."""
    if picture not in _thumbnails:
        _thumbnails[picture] = data_address(picture.image, THUMBNAIL_PIXELS)
    return _thumbnails[picture]


def encoded(picture: Picture) -> bytes:
    """Return a picture as JPEG, encoded only once: a page is redrawn many times while an answer is streamed."""
    if picture not in _encoded:
        _encoded[picture] = jpeg(picture.image, SENT_PIXELS)
    return _encoded[picture]


def chip(name: str, colour: int) -> str:
    """Return the markup of a region in an answer."""
    return f'<mark class="chip chip-{colour}">{html.escape(name)}</mark>'


def picture_html(picture: Picture, texts: Texts) -> str:
    """Return the markup of a picture in a message."""
    width, height = picture.image.size
    return f'<img class="picture" src="{thumbnail(picture)}" alt="{texts.picture_name(width, height)}">'


def video_html(video: Video, texts: Texts) -> str:
    """Return the markup of a video in a message: a few of its frames with their times."""
    if video not in _sheets:
        _sheets[video] = data_address(sheet(video))
    name = html.escape(texts.video_name(video))
    return f'<img class="picture film" src="{_sheets[video]}" alt="{name}"><small>{name}</small>'


def photo_html(texts: Texts, offer: str = "") -> str:
    """Return the line above an answer about a photo if the model knows drawings only, with a button for another one."""
    button = f'<button class="offer">{html.escape(offer)}</button>' if offer else ""
    return f'<div class="photo-line"><span>{html.escape(texts.looks_like_photo)}</span>{button}</div>'


def plain_markdown(text: str) -> str:
    """Return Markdown that displays a text literally: nothing in it is markup."""
    text = _EVERYWHERE.sub(lambda found: _entity(found[0]), text)
    text = _AT_LINE_START.sub(lambda found: found[1] + found[2][:-1] + _entity(found[2][-1]), text)
    return re.sub(r"^[ \t]+", lambda found: "&nbsp;" * len(found[0].expandtabs(4)), text, flags=re.MULTILINE)


def with_dollars(answer: str) -> str:
    r"""Convert the formulas of an answer to Streamlit's syntax: `\(…\)` and `\[…\]` become dollar delimiters.

    A single dollar is a price more often than a formula; code is left unchanged.
    """
    converted = []
    for number, part in enumerate(_CODE.split(answer)):
        if number % 2 == 0:
            part = _SINGLE_DOLLAR.sub(r"\\$", part)
            part = _INLINE.sub(lambda found: f"${found[1].strip()}$", part)
            part = _DISPLAY.sub(lambda found: f"\n\n$$\n{(found[1] or found[2]).strip()}\n$$\n\n", part)
        converted.append(part)
    return "".join(converted)


def header_html(title: str, model_line: str, change_line: str = "") -> str:
    """Return the title of the page, the line about the model, and the line about a change of models."""
    change = f'<p class="change">{html.escape(change_line)}</p>' if change_line else ""
    return f"<h1>{html.escape(title)}</h1><p>{html.escape(model_line)}</p>{change}"


def notice_html(notice: str, *, stays: bool = False) -> str:
    """Return the line above the question box that says why a question was not answered; empty for no notice.

    Args:
        notice: its text.
        stays: whether it stays when the visitor types or attaches something, which most notices ask for.
    """
    kind = "notice stays" if stays else "notice"
    return f'<p class="{kind}" role="alert">{html.escape(notice)}</p>' if notice else ""


def live_view(texts: Texts) -> str:
    """Return the container that `assets/live.js` fills, with its texts."""
    attribute = html.escape(json.dumps(texts.live | {"language": texts.code}, ensure_ascii=False))
    return f'<div id="live-view" data-texts="{attribute}" hidden></div>'


def clip_recorder(texts: Texts) -> str:
    """Return the container that `assets/clip.js` fills, with its texts."""
    attribute = html.escape(json.dumps(texts.clip_texts(CLIP_SECONDS), ensure_ascii=False))
    return f'<div id="clip" data-seconds="{CLIP_SECONDS}" data-texts="{attribute}"></div>'


def past_chats(texts: Texts) -> str:
    """Return the container that `assets/past_chats.js` fills, with its texts."""
    attribute = html.escape(json.dumps(texts.past | {"language": texts.code}, ensure_ascii=False))
    return f'<div id="past-chats" data-texts="{attribute}"></div>'


def _entity(character: str) -> str:
    return f"&#{ord(character)};"
