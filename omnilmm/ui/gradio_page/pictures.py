"""Event handlers for pictures on the Gradio page: at full size, as the model sees them, and from the camera."""

from __future__ import annotations

from typing import Any

import gradio as gr

from omnilmm.conversation import Picture, Video
from omnilmm.engine.options import LIMITS
from omnilmm.errors import OmniLMMError
from omnilmm.sentences import Sentence
from omnilmm.ui import markup
from omnilmm.ui.embedding import data_address
from omnilmm.ui.film_strip import strip
from omnilmm.ui.gradio_page.context import EMPTY, PageContext, Updates
from omnilmm.ui.gradio_page.visitors import Question

Uploaded = dict[str, Any]  # a file as the browser names it; its "path" is an upload of the visitor


class Pictures:
    """Event handlers; `page.Page` wires them."""

    def __init__(self, context: PageContext) -> None:
        self.context = context

    def open(self, request: gr.Request, number: int) -> str:
        """Return a picture of the conversation at full size, by its number."""
        visitor = self.context.visitor(request)
        messages = visitor.session.conversation.messages
        if visitor.session.busy and visitor.answering and (draft := visitor.answering.draft):
            messages = (*draft.history.messages, draft.question)
        shown = [part for message in messages for part in message.shown]
        if not 0 <= number < len(shown):
            return ""
        part = shown[number]
        return data_address(strip(part, range(len(part.frames))) if isinstance(part, Video) else part.image)

    def set_detail(self, request: gr.Request, box: Question, max_slices: float, finer_detail: bool) -> Updates:
        """Render how the model sees them with another number of slices, or in finer detail."""
        visitor, limit = self.context.visitor(request), LIMITS["max_slices"]
        visitor.max_slices = min(max(int(max_slices), int(limit.low)), int(limit.high))
        visitor.finer_detail = bool(finer_detail)
        return self.show_slices(request, box)

    def show_slices(self, request: gr.Request, box: Question) -> Updates:
        """Render how the model sees the pictures in the question box, or else the newest picture of the conversation.

        Unusable files are reported at once and removed by the page's script, which knows what was typed meanwhile.
        """
        visitor, w = self.context.visitor(request), self.context.widgets
        files = (box or EMPTY)["files"]
        pictures: list[Picture | Video] = []
        bad, lines = [], []
        for number, file in enumerate(files):
            try:
                pictures.append(self.context.open_upload(visitor, file))
            except OmniLMMError as error:
                bad.append(number)
                lines.append(visitor.session.texts.translate(error))
        notice = markup.notice_html(" ".join(lines)) if lines else gr.skip()
        return {w.seen: self.context.seen(visitor, pictures), w.notice: notice, w.bad: {"of": len(files), "bad": bad}}

    def refuse(self, request: gr.Request, names: list[str]) -> str:
        """Report that dropped, pasted or chosen files are not pictures; they were never uploaded."""
        refusal = Sentence("of_file", name=names, reason=Sentence("no_picture"))
        return markup.notice_html(self.context.visitor(request).session.texts.translate(refusal))

    def show_camera(self, request: gr.Request) -> Any:
        """Open or close the camera."""
        visitor = self.context.visitor(request)
        visitor.camera = not visitor.camera
        return gr.update(visible=visitor.camera)

    def attach(self, request: gr.Request, photo: Uploaded | None, box: dict[str, Any] | None) -> Updates:
        """Put a photo into the question box; both arguments are as the browser sends them."""
        w = self.context.widgets
        if photo is None:
            return {w.photo: gr.skip()}
        visitor = self.context.visitor(request)
        visitor.camera = False
        box = box or {"text": "", "files": []}
        question = {"text": box["text"], "files": [file["path"] for file in (*box["files"], photo)]}
        return {w.box: gr.update(value=question), w.photo: None, w.camera_panel: gr.update(visible=False)}
