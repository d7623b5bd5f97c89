"""Turn what can go wrong with a server into our errors: one line each, with the way out.

Messages of servers are quoted, at most `MOST_QUOTED` characters of them and in one line.
"""

from __future__ import annotations

import re
import socket
import ssl
from http import HTTPStatus
from typing import Any

import httpx

from omnilmm.engine.remote.client import Endpoint, NotJSONError, RefusedError, StreamCutError
from omnilmm.engine.remote.sse import EventTooLongError
from omnilmm.errors import OmniLMMError, ServerError
from omnilmm.sentences import Sentence

MOST_QUOTED = 300
BUSY = (429, 503)
# Wording of servers whose errors have no code of their own: vLLM, SGLang, LiteLLM.
_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum (context|model|input) length|longer than .{0,40}context", re.I
)
_NO_PICTURES = re.compile(
    r"image input is not supported|not a multimodal|at most 0 image|does not support (image|vision|multimodal)"
    r"|mmproj|multimodal data provided, but model does not support|not support.{0,30}(image|vision)",
    re.I,
)
# Wording for a field that a server does not know, whatever its value: OpenAI, pydantic, transformers, LiteLLM, Gemini …
_UNKNOWN = re.compile(
    r"unrecogni[sz]ed|unknown|unexpected|unsupported|\bextra(_forbidden)?\b|cannot find field|\binstead\b"
    r"|not (be )?(supported|support|permitted|allowed|accepted|recogni[sz]ed)",
    re.I,
)
# … and for a value that it does not take: another one may be accepted.
_VALUE = re.compile(
    r"\bvalues?\b|unsupported_value|must (not )?be|should be|at (most|least)"
    r"|(less|greater|more|larger|higher|lower) than"
    r"|too (large|small|big|high|low|long|many)|exceed|out of range|\brange\b|between|maximum|minimum|only the default",
    re.I,
)


def quoted(error: RefusedError) -> str:
    """Return a server's error message in one line: OpenAI's form, FastAPI's `detail`, or the text as it is."""
    message = _message(error.body) or ("" if "<" in error.text[:20] else error.text)
    line = " ".join(message.split())
    return line if len(line) <= MOST_QUOTED else f"{line[:MOST_QUOTED]} …"


def is_too_long(error: RefusedError) -> bool:
    """Whether the prompt does not fit the server's context."""
    inner = _inner(error.body)
    codes = {str(inner.get(name)) for name in ("code", "type")}
    if codes & {"context_length_exceeded", "exceed_context_size_error"}:
        return True
    return error.status in (0, 400, 413, 422, 500) and bool(_TOO_LONG.search(quoted(error)))


def refuses_pictures(error: RefusedError) -> bool:
    """Whether the model there takes no pictures."""
    return bool(_NO_PICTURES.search(quoted(error)))


def refused_fields(error: RefusedError, sent: list[str]) -> list[str]:
    """Return which of the fields that were sent the server's message names."""
    if error.status not in (400, 422):
        return []
    inner = _inner(error.body)
    param = inner.get("param")
    if isinstance(param, str) and (first := param.split(".")[0]) in sent:
        return [first]
    text = _everything(error)
    return [name for name in sent if _names(text, name)]


def are_unknown(error: RefusedError) -> bool:
    """Whether a server does not know the fields that its message names; else it may only refuse their values."""
    inner = _inner(error.body)
    text = " ".join([_everything(error), *(str(inner.get(name, "")) for name in ("code", "type"))])
    return bool(_UNKNOWN.search(text)) and not _VALUE.search(text)


def error_of(error: Exception, endpoint: Endpoint, models: list[str] | None = None) -> OmniLMMError:
    """Return the error for a reader.

    Args:
        error: what the client raised.
        endpoint: the server.
        models: the models there, where they are known.
    """
    url = endpoint.shown
    match error:
        case RefusedError():
            return _refused(error, url, models)
        case NotJSONError() | EventTooLongError():
            return ServerError("server_no_json", url=url)
        case StreamCutError() | httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError():
            return ServerError("server_cut_off", url=url)
        case httpx.ConnectTimeout():
            return ServerError("server_unreachable", url=url)
        case httpx.TimeoutException():
            return ServerError("server_silent", url=url)
        case httpx.ConnectError():
            return _not_connected(error, url)
    return ServerError("server_fails", url=url, status=0, reason=_line(error))


def _refused(error: RefusedError, url: str, models: list[str] | None) -> OmniLMMError:
    message = quoted(error)
    if error.status in (401, 403):
        return ServerError("server_wants_key", url=url, status=error.status)
    if error.status == 404:
        if models:
            return ServerError("server_lacks_model", url=url, models=models, reason=message or _phrase(404))
        return ServerError("server_has_no_api", url=url)
    if error.status in BUSY:
        return ServerError("server_busy", url=url, reason=message or _phrase(error.status))
    if error.status == 413:
        return ServerError("server_request_too_large", url=url)
    if error.body is None and error.status < 500:
        return ServerError("server_no_json", url=url)
    return ServerError("server_fails", url=url, status=error.status, reason=message or _phrase(error.status))


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else str(status)


def _not_connected(error: Exception, url: str) -> OmniLMMError:
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and len(causes) < 10:
        causes.append(cause)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return ServerError("server_not_found", url=url)
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        found = next(cause for cause in causes if isinstance(cause, ssl.SSLError))
        return ServerError("server_no_tls", url=url, reason=_line(found))
    return ServerError("server_not_running", url=url)


def _inner(body: Any) -> dict[str, Any]:
    inner = body.get("error") if isinstance(body, dict) else None
    return inner if isinstance(inner, dict) else body if isinstance(body, dict) else {}


def _message(body: Any) -> str:
    if not isinstance(body, dict):
        return ""
    error = body.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    message = message or body.get("message") or body.get("detail")
    if isinstance(message, list):  # FastAPI's list of problems
        message = "; ".join(_problem(one) for one in message)
    return message if isinstance(message, str) else "" if message is None else str(message)


def _problem(one: Any) -> str:
    if not isinstance(one, dict):
        return str(one)
    place = one.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {one.get('msg', '')}"


def _everything(error: RefusedError) -> str:
    return _message(error.body) or error.text


def _names(text: str, field: str) -> bool:
    """Whether a message names a field; one that is an ordinary word, such as `user`, only in quotes or after a dot."""
    name = re.escape(field)
    bare = rf"\b{name}\b|" if "_" in field else ""
    return re.search(rf"{bare}([\"'`]){name}\1|\b(?:body|query)\.{name}\b", text) is not None


def _line(error: BaseException) -> str | Sentence:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
