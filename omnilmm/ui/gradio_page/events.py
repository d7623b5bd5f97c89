"""Validation of the events of the Gradio page, before any handler runs.

A client other than the page can send anything. Each argument must have the type that its widget gives, and a file must
be one of the visitor's own uploads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import gradio as gr
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from omnilmm.errors import InputError
from omnilmm.ui.gradio_page.uploads import Uploads

MOST_CHARACTERS = 4_000_000  # limit of a text; the browser state of a long conversation is one
MOST_MESSAGES = 100_000

Text = Annotated[str, StringConstraints(strict=True, max_length=MOST_CHARACTERS)]
Name = Annotated[str, StringConstraints(strict=True, max_length=1000)]
Whole = Annotated[int, Field(strict=True, ge=-1, le=MOST_MESSAGES)]
YesNo = Annotated[bool, Field(strict=True)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class File(BaseModel):
    """An upload, as the browser names it."""

    model_config = ConfigDict(extra="ignore")

    path: Name
    orig_name: Name | None = None
    mime_type: Name | None = None
    size: Annotated[int, Field(ge=0)] | None = None


class Box(BaseModel):
    """The content of the question box."""

    model_config = ConfigDict(extra="ignore")

    text: Text = ""
    files: list[File] = Field(default=[], max_length=100)


class Event(BaseModel):
    """A request for an event handler; its other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    session_hash: Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    fn_index: Annotated[int, Field(strict=True, ge=0)]
    trigger_id: Annotated[int, Field(strict=True, ge=0)] | None = None
    data: Annotated[list[Any], Field(max_length=100)]


Kind = Any  # a type that pydantic can validate
KINDS: Mapping[type, Kind] = {
    gr.MultimodalTextbox: Box | None,
    gr.UploadButton: File,
    gr.Image: File | None,
    gr.Number: Whole,
    gr.Slider: Real,
    gr.Textbox: Text | None,
    gr.Radio: Name,
    gr.Checkbox: YesNo,
    gr.Dropdown: Name | None,
    gr.JSON: Any,
}


class Events:
    """Validates the events of a page.

    Args:
        demo: the page.
        uploads: the uploads of all visitors.
        kinds: types of the widgets whose values differ from others of their class.
    """

    def __init__(self, demo: gr.Blocks, uploads: Uploads, kinds: Mapping[Any, Kind]) -> None:
        self.uploads = uploads
        self.takes = {
            number: [(_name(widget), TypeAdapter(kinds.get(widget, KINDS[type(widget)]))) for widget in handler.inputs]
            for number, handler in demo.fns.items()
            if handler.fn is not None
        }

    def check(self, body: bytes, owner: str) -> dict[str, Any]:
        """Validate an event and return it as it is passed on to its handler.

        Args:
            body: the request body, JSON.
            owner: whose uploads the event may name.

        Raises:
            InputError: An argument is invalid; says which, and what was expected.
        """
        try:
            event = Event.model_validate_json(body)
        except ValidationError as error:
            raise _first_error("the request", error) from error
        takes = self.takes.get(event.fn_index)
        if takes is None:
            raise InputError("no_such_event", number=event.fn_index)
        if len(event.data) != len(takes):
            raise InputError(
                "other_number_of_arguments", number=event.fn_index, expected=len(takes), got=len(event.data)
            )
        data = [self._checked(name, kind, value, owner) for (name, kind), value in zip(takes, event.data, strict=True)]
        return event.model_dump() | {"data": data}

    def _checked(self, name: str, kind: TypeAdapter[Any], value: Any, owner: str) -> Any:
        try:
            checked = kind.validate_python(value)
        except ValidationError as error:
            raise _first_error(name, error) from error
        if isinstance(checked, File):
            return self._own(checked, owner)
        if isinstance(checked, Box):
            return {"text": checked.text, "files": [self._own(file, owner) for file in checked.files]}
        return checked

    def _own(self, file: File, owner: str) -> dict[str, Any]:
        path = self.uploads.file(owner, file.path)
        return {**file.model_dump(), "path": str(path), "meta": {"_type": "gradio.FileData"}}


def _name(widget: Any) -> str:
    return str(widget.elem_id or widget.label or type(widget).__name__.lower())


def _first_error(name: str, error: ValidationError) -> InputError:
    """Return the first validation error, without the received value, which may be long."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, (name, *first["loc"])))
    return InputError("argument_unusable", place=place, reason=first["msg"])
