"""What a visitor does with the whole conversation: start over, take back, edit, export, import."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import gradio as gr

from omnilmm.conversation import Message
from omnilmm.errors import OmniLMMError
from omnilmm.ui import markup
from omnilmm.ui.archive import read_conversation, to_markdown
from omnilmm.ui.gradio_page.shared import EMPTY, NOT_EDITING, Painted, Shared
from omnilmm.ui.gradio_page.visits import Question
from omnilmm.ui.samples import is_sample


class Conversations:
    """Handlers; see their wiring in `page.Page`."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def forget(self, request: gr.Request) -> Painted:
        """Start over."""
        visit = self.shared.visit(request)
        visit.session.clear()
        self.shared.visits.keep(visit)
        return self.shared.paint(visit, editing=NOT_EDITING)

    def undo(self, request: gr.Request, box: Question) -> Painted:
        """Take back the last question; it comes into the box unless there is another one in it.

        That of a sample does not, where a chat before it is opened again.
        """
        visit = self.shared.visit(request)
        reopens = visit.session.reopens
        try:
            question = visit.session.undo()
        except OmniLMMError as error:
            return self.shared.paint(visit, notice=visit.session.texts.told(error))
        self.shared.visits.keep(visit)
        is_left = _holds(box) or (reopens and is_sample(question))
        return self.shared.paint(visit, question=None if is_left else _boxed(question), editing=NOT_EDITING)

    def edit(self, request: gr.Request, number: int, box: Question) -> Painted:
        """An earlier question comes into the box."""
        visit, w = self.shared.visit(request), self.shared.widgets
        messages = visit.session.conversation.messages
        if not 0 <= 2 * number < len(messages):
            return {w.editing: NOT_EDITING}
        if _holds(box) and visit.aside is None:
            visit.aside = box
        return {
            w.box: gr.update(value=_boxed(messages[2 * number])),
            w.editing: 2 * number,
            w.notice: markup.notice_html(visit.session.texts.editing.format(number=number + 1), stays=True),
            w.cancel: gr.update(visible=True),
        }

    def cancel(self, request: gr.Request) -> Painted:
        """No earlier question is edited."""
        visit, w = self.shared.visit(request), self.shared.widgets
        question, visit.aside = visit.aside or EMPTY, None
        return {
            w.box: gr.update(value=question),
            w.editing: NOT_EDITING,
            w.notice: "",
            w.cancel: gr.update(visible=False),
        }

    def take_up(self, request: gr.Request, path: str) -> Painted:
        """Go on with a conversation from a file."""
        visit = self.shared.visit(request)
        try:
            visit.session.take_up(read_conversation(Path(path).read_bytes()))
            notice = visit.session.texts.imported
            self.shared.visits.keep(visit)
        except OmniLMMError as error:
            notice = visit.session.texts.told(error)
        finally:
            Path(path).unlink(missing_ok=True)
        return self.shared.paint(visit, notice=notice) | self.shared.system(visit)

    def export_json(self, request: gr.Request) -> Painted:
        """The conversation with its pictures."""
        conversation = self.shared.visit(request).session.conversation
        content = {"name": "conversation.json", "type": "application/json", "content": conversation.to_json()}
        return {self.shared.widgets.file: content}

    def export_markdown(self, request: gr.Request) -> Painted:
        """The conversation for reading."""
        session = self.shared.visit(request).session
        markdown = to_markdown(session.conversation, session.texts)
        return {self.shared.widgets.file: {"name": "conversation.md", "type": "text/markdown", "content": markdown}}


def _holds(box: Question | None) -> bool:
    return bool(box and (box["text"].strip() or box["files"]))


def _boxed(message: Message) -> Question:
    """A question as it was in the box: its pictures are files again, in the private folder of the uploads."""
    files = []
    for number, picture in enumerate(message.pictures, 1):
        folder = tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"])
        path = Path(folder) / f"picture-{number}.png"
        picture.image.save(path, compress_level=1)
        files.append(str(path))
    return {"text": message.text, "files": files}
