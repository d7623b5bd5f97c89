r"""The renderer of chat templates, a program that runs in a subprocess with bounded memory and CPU time.

    stdin   {"bytes": n, "limits": {…}}\\n and n bytes, for each request, until end of file:
            {"template": Jinja, "messages": […], "variables": {…}} as JSON
    stdout  {"ready": true}\\n once; for each request {"prompt": n}\\n, n bytes (a JSON string) and {"done": true}\\n;
            or instead {"error": a sentence as JSON}\\n
    stderr  output of libraries, for the log

It renders with the code of transformers. The limits are those of `processes.bounds`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any, BinaryIO

from omnilmm.errors import CheckpointError
from omnilmm.processes.bounds import allow, free, send, serve
from omnilmm.prompts.template_limits import TemplateLimits

MOST_ADDED = 2**20  # characters that a template may add to twice the size of the messages
MOST_REASON = 300


def main() -> None:
    """Render templates from stdin until it is closed."""
    serve(_prepare, lambda request, *rest: _render(TemplateLimits(**request["limits"]), *rest))


def _prepare() -> None:
    sys.modules["torch"] = None  # type: ignore[assignment]  # transformers renders without it, and starts sooner
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # that there is no torch
    render({"template": "", "messages": [], "variables": {}})  # imported first, so that its code does not count


def render(request: dict[str, Any]) -> str:
    """Render one prompt: of a template, messages and variables.

    Raises:
        CheckpointError: The template fails, or what it returns is too long for a prompt.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        (prompt,), _ = render_jinja_template(
            conversations=[request["messages"]], chat_template=request["template"], **request["variables"]
        )
    except MemoryError:
        raise
    except Exception as error:  # a template may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError("template_failed", reason=reason[:MOST_REASON]) from error
    most = MOST_ADDED + 2 * len(json.dumps(request["messages"]))
    if len(prompt) > most:
        raise CheckpointError("template_too_long", characters=len(prompt), most=most)
    return str(prompt)


def _render(limits: TemplateLimits, content: bytes, base: int, replies: BinaryIO) -> dict[str, Any]:
    """Render one prompt and write all replies but the last, which is returned."""
    try:
        allow(limits.cpu_seconds(), base + len(content) + limits.memory_bytes())
        prompt = json.dumps(render(json.loads(content))).encode()
        send(replies, prompt=len(prompt))
        replies.write(prompt)
        return {"done": True}
    except CheckpointError as error:
        return {"error": error.sentence.to_json()}
    except MemoryError:
        free()
        traceback.print_exc()
        return {"error": limits.too_much_memory().to_json()}
    finally:
        free()
