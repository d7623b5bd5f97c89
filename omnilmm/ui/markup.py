"""Messages as HTML and Markdown that a page can show: pictures as thumbnails, a user's text as it was typed.

Thumbnails are part of the page (`data:` addresses): no picture has an address of its own that another visitor could ask
for, and none lies on disk.
"""

from __future__ import annotations

import base64
import html
import io
import re
from weakref import WeakKeyDictionary

from omnilmm.conversation import Message, Picture
from omnilmm.ui.boxes import with_chips
from omnilmm.ui.note import Note
from omnilmm.ui.session import Draft, Session
from omnilmm.ui.texts import Texts

THUMBNAIL_PIXELS = 480  # of the longer side

_thumbnails: WeakKeyDictionary[Picture, str] = WeakKeyDictionary()  # a thumbnail goes when its picture goes

_EVERYWHERE = re.compile(r"[\\`*_\[\]<>&|~$]")
_AT_LINE_START = re.compile(r"^(\s*)([#+=-]|\d+[.)])", re.MULTILINE)


Shown = dict[str, str]  # one bubble: "role" and "content", the form of every chat widget


def chat_messages(session: Session, draft: Draft | None = None) -> list[Shown]:
    """A conversation as bubbles: pictures, then text, each answer followed by its note.

    Args:
        session: whose conversation.
        draft: the turn that is being answered, shown in place of what follows its history.
    """
    messages = draft.history.messages if draft else session.conversation.messages
    shown: list[Shown] = []
    for number, message in enumerate(messages):
        shown += _bubbles(message, session.texts, session.notes[number // 2])
    if draft:
        answer = Message("assistant", (draft.text,))
        shown += [
            *_bubbles(draft.question, session.texts),
            *_bubbles(answer, session.texts, draft.note, is_growing=True),
        ]
    return shown


def _bubbles(message: Message, texts: Texts, note: Note | None = None, *, is_growing: bool = False) -> list[Shown]:
    if message.role == "assistant":
        line = texts.note(note)
        contents = [
            with_chips(message.text, chip, is_growing=is_growing),
            f'<small class="note">{html.escape(line)}</small>' if line else "",
        ]
    else:
        contents = [*(picture_html(picture, texts) for picture in message.pictures), plain_markdown(message.text)]
    return [{"role": message.role, "content": content} for content in contents if content]


def thumbnail(picture: Picture) -> str:
    """A small copy of a picture as a `data:` address, as the model sees it: upright and RGB."""
    if picture not in _thumbnails:
        small = picture.image.copy()
        small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        buffer = io.BytesIO()
        small.save(buffer, format="JPEG", quality=85)
        _thumbnails[picture] = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return _thumbnails[picture]


def chip(name: str, colour: int) -> str:
    """What stands in an answer for a region that it marks."""
    return f'<mark class="chip chip-{colour}">{html.escape(name)}</mark>'


def picture_html(picture: Picture, texts: Texts) -> str:
    """A picture of a message."""
    width, height = picture.image.size
    return f'<img class="picture" src="{thumbnail(picture)}" alt="{texts.picture_name(width, height)}">'


def plain_markdown(text: str) -> str:
    """Markdown that shows a text as it is: nothing in it is markup."""
    text = _EVERYWHERE.sub(lambda found: _entity(found[0]), text)
    text = _AT_LINE_START.sub(lambda found: found[1] + found[2][:-1] + _entity(found[2][-1]), text)
    return re.sub(r"^[ \t]+", lambda found: "&nbsp;" * len(found[0].expandtabs(4)), text, flags=re.MULTILINE)


def header_html(title: str, model_line: str) -> str:
    """The title of the page and the line that says which model answers."""
    return f"<h1>{html.escape(title)}</h1><p>{html.escape(model_line)}</p>"


def notice_html(notice: str) -> str:
    """The line above the question box that says why a question was not answered; empty for no notice."""
    return f'<p class="notice" role="alert">{html.escape(notice)}</p>' if notice else ""


def _entity(character: str) -> str:
    return f"&#{ord(character)};"
