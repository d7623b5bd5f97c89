"""Plain HTTP refusals in the language of the browser: what a request lacks, or why an upload was not taken."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response

from omnilmm.sentences import Sentence
from omnilmm.ui.texts import texts_for


def line(headers: Headers, message: Sentence | Exception) -> str:
    """Return a message in the language of a request's Accept-Language header."""
    return texts_for(headers.get("accept-language")).translate(message)


def plain(headers: Headers, message: Sentence, status: int) -> Response:
    """Return a refusal as plain text."""
    return PlainTextResponse(f"{line(headers, message)}\n", status)


def as_json(headers: Headers, message: Sentence | Exception, status: int, **more: object) -> Response:
    """Return a refusal as Gradio's page expects it: the line is its `detail`."""
    return JSONResponse({"detail": line(headers, message), **more}, status)
