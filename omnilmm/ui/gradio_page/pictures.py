"""Pictures on the Gradio page: at full size, as the model sees them, and from the camera."""

from __future__ import annotations

from typing import Any

import gradio as gr

from omnilmm.errors import ImageError, OmniLMMError
from omnilmm.images.formats import EXPECTED
from omnilmm.ui import markup
from omnilmm.ui.embedding import data_address
from omnilmm.ui.gradio_page.shared import EMPTY, Painted, Shared, open_upload
from omnilmm.ui.gradio_page.visits import Question


class Pictures:
    """Handlers; see their wiring in `page.Page`."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def open(self, request: gr.Request, number: int) -> str:
        """A picture of the conversation at full size, by its number."""
        visit = self.shared.visit(request)
        pictures = visit.session.conversation.pictures
        if visit.session.busy and visit.answering and (draft := visit.answering.draft):
            pictures = (*draft.history.pictures, *draft.question.pictures)
        return data_address(pictures[number].image) if 0 <= number < len(pictures) else ""

    def look(self, request: gr.Request, box: Question) -> Painted:
        """How the model sees what is in the box, or else the newest picture of the conversation.

        What cannot be used is said at once, and taken out by the page's script, which knows what was typed meanwhile.
        """
        visit, w = self.shared.visit(request), self.shared.widgets
        files = (box or EMPTY)["files"]
        pictures, bad, lines = [], [], []
        for number, file in enumerate(files):
            try:
                pictures.append(open_upload(file))
            except OmniLMMError as error:
                bad.append(number)
                lines.append(visit.session.texts.told(error))
        notice = markup.notice_html(" ".join(lines)) if lines else gr.skip()
        return {w.seen: self.shared.seen(visit, pictures), w.notice: notice, w.bad: {"of": len(files), "bad": bad}}

    def refuse(self, request: gr.Request, names: list[str]) -> str:
        """Say that these files, which were dropped, pasted or chosen, are no pictures; they never came here."""
        error = ImageError(f"{', '.join(names)}: This file is not a picture that can be read. {EXPECTED}")
        return markup.notice_html(self.shared.visit(request).session.texts.told(error))

    def show_camera(self, request: gr.Request) -> Any:
        """Open or close the camera."""
        visit = self.shared.visit(request)
        visit.camera = not visit.camera
        return gr.update(visible=visit.camera)

    def attach(self, request: gr.Request, photo: str | None, box: Question) -> Painted:
        """A photo comes into the question box."""
        w = self.shared.widgets
        if photo is None:
            return {w.photo: gr.skip()}
        visit = self.shared.visit(request)
        visit.camera = False
        question = {"text": (box or EMPTY)["text"], "files": [*(box or EMPTY)["files"], photo]}
        return {w.box: gr.update(value=question), w.photo: None, w.camera_panel: gr.update(visible=False)}
