"""Event handlers for the whole conversation: clear, undo, edit, export, import."""

from __future__ import annotations

import gradio as gr

from omnilmm.archive import read_conversation_file, to_json
from omnilmm.conversation import Message, Video
from omnilmm.errors import OmniLMMError
from omnilmm.ui import markup
from omnilmm.ui.gradio_page.context import EMPTY, NOT_EDITING, PageContext, Updates
from omnilmm.ui.gradio_page.visitors import Question, Visitor
from omnilmm.ui.markdown_export import to_markdown
from omnilmm.ui.samples import is_sample


class Conversations:
    """Event handlers; `page.Page` wires them."""

    def __init__(self, context: PageContext) -> None:
        self.context = context

    def forget(self, request: gr.Request) -> Updates:
        """Clear the conversation."""
        visitor = self.context.visitor(request)
        visitor.session.clear()
        self.context.visitors.save(visitor)
        return self.context.render(visitor, editing=NOT_EDITING)

    def undo(self, request: gr.Request, box: Question) -> Updates:
        """Undo the last turn; its question returns to the question box unless that holds another one.

        The question of a sample does not return if the chat before it is reopened.
        """
        visitor = self.context.visitor(request)
        reopens = visitor.session.reopens
        try:
            question = visitor.session.undo()
        except OmniLMMError as error:
            return self.context.render(visitor, notice=visitor.session.texts.translate(error))
        self.context.visitors.save(visitor)
        is_left = _holds(box) or (reopens and is_sample(question))
        return self.context.render(
            visitor, question=None if is_left else self._boxed(visitor, question), editing=NOT_EDITING
        )

    def edit(self, request: gr.Request, number: int, box: Question) -> Updates:
        """Put an earlier question into the question box for editing."""
        visitor, w = self.context.visitor(request), self.context.widgets
        messages = visitor.session.conversation.messages
        if not 0 <= 2 * number < len(messages):
            return {w.editing: NOT_EDITING}
        if _holds(box) and visitor.stashed is None:
            visitor.stashed = box
        return {
            w.box: gr.update(value=self._boxed(visitor, messages[2 * number])),
            w.editing: 2 * number,
            w.notice: markup.notice_html(visitor.session.texts.editing.format(number=number + 1), stays=True),
            w.cancel: gr.update(visible=True),
        }

    def cancel(self, request: gr.Request) -> Updates:
        """Cancel the editing of an earlier question."""
        visitor, w = self.context.visitor(request), self.context.widgets
        question, visitor.stashed = visitor.stashed or EMPTY, None
        return {
            w.box: gr.update(value=question),
            w.editing: NOT_EDITING,
            w.notice: "",
            w.cancel: gr.update(visible=False),
        }

    def load(self, request: gr.Request, path: str) -> Updates:
        """Continue a conversation from a file."""
        visitor = self.context.visitor(request)
        try:
            visitor.session.load(read_conversation_file(self.context.uploads.file(visitor.owner, path)))
            notice = visitor.session.texts.imported
            self.context.visitors.save(visitor)
        except OmniLMMError as error:
            notice = visitor.session.texts.translate(error)
        finally:
            self.context.uploads.discard(visitor.owner, path)
        return self.context.render(visitor, notice=notice) | self.context.system(visitor)

    def export_json(self, request: gr.Request) -> Updates:
        """Export the conversation with its pictures as JSON."""
        conversation = self.context.visitor(request).session.conversation
        written = to_json(conversation, self.context.provider.card.title)
        return {
            self.context.widgets.file: {"name": "conversation.json", "type": "application/json", "content": written}
        }

    def export_markdown(self, request: gr.Request) -> Updates:
        """Export the conversation as Markdown, for reading."""
        session = self.context.visitor(request).session
        markdown = to_markdown(session.conversation, session.texts, self.context.provider.card.title)
        return {self.context.widgets.file: {"name": "conversation.md", "type": "text/markdown", "content": markdown}}

    def _boxed(self, visitor: Visitor, message: Message) -> Question:
        """Return a question as content of the question box; its pictures become the visitor's uploads again."""
        files = []
        for number, part in enumerate(message.shown, 1):
            if isinstance(part, Video):  # its file is deleted: a placeholder file stands for the cached frames
                path = self.context.uploads.place(visitor.owner, f"video-{number}.mp4")
                path.write_bytes(EMPTY_VIDEO)
                visitor.videos.put(str(path), None, part)
            else:
                path = self.context.uploads.place(visitor.owner, f"picture-{number}.png")
                part.image.save(path, compress_level=1)
            files.append(str(path))
        return {"text": message.text, "files": files}


EMPTY_VIDEO = b"\0\0\0\x10ftypisom\0\0\0\0"  # the beginning of an MP4


def _holds(box: Question | None) -> bool:
    return bool(box and (box["text"].strip() or box["files"]))
