"""A subprocess that renders chat templates, with bounded memory and time (the parent's side of `template_renderer`).

The template of a checkpoint is a program that somebody else wrote. The sandbox of Jinja keeps it from files and from
Python's internals, but not from filling the memory: `{{ 'a' * 10**10 }}` is one operation that nothing can interrupt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from omnilmm.errors import CheckpointError
from omnilmm.processes.pool import Pool, Process
from omnilmm.prompts.template_limits import PREFIX, TemplateLimits, template_limits
from omnilmm.prompts.template_renderer import render as render_here
from omnilmm.sentences import Sentence

# In a forked process: prompts by their requests as JSON, from its parent, whose renderer it cannot use.
rendered_before: dict[str, str] = {}
# In the parent: where the prompts of this thread are recorded.
_record: ContextVar[dict[str, str] | None] = ContextVar("_record", default=None)


@contextmanager
def recorded() -> Iterator[dict[str, str]]:
    """Record the prompts that are rendered on this thread within the block, for `rendered_before`."""
    prompts: dict[str, str] = {}
    token = _record.set(prompts)
    try:
        yield prompts
    finally:
        _record.reset(token)


def render(template: str, messages: list[dict[str, Any]], variables: dict[str, Any]) -> str:
    """Render a prompt.

    Args:
        template: Jinja source.
        messages: roles and contents; of pictures and videos only that they are there.
        variables: further variables of the template.

    Raises:
        CheckpointError: The template fails (`template_failed`), or exceeds a limit.
    """
    request = json.dumps({"template": template, "messages": _plain(messages), "variables": _plain(variables)})
    prompt = rendered_before.get(request)
    if prompt is None:
        prompt = _render(request)
    if (prompts := _record.get()) is not None:
        prompts[request] = prompt
    return prompt


def _render(request: str) -> str:
    limits = template_limits()
    if not limits.processes:
        return render_here(json.loads(request))
    return _pool.lend(limits, lambda renderer: renderer.render(request, limits))


class Renderer(Process):
    """A renderer subprocess; see `Process`."""

    PROGRAM = "from omnilmm.prompts.template_renderer import main; main()"
    ERROR = CheckpointError

    def not_started(self, reason: Sentence | OSError) -> Sentence:
        """See `Process`."""
        return Sentence("renderer_not_started", reason=reason, variable=f"{PREFIX}PROCESSES")

    def ended(self, status: int | None) -> Sentence:
        """See `Process`."""
        return Sentence("renderer_ended", status=status)

    def render(self, request: str, limits: TemplateLimits) -> str:
        """Render one prompt of a request as JSON; the process is killed if it fails to reply properly.

        Raises:
            CheckpointError: As for `render` above.
        """
        return self.ask({}, request.encode(), limits, self._prompt)

    def _prompt(self) -> str:
        prompt: str | None = None
        if "prompt" in (reply := self.reply()):
            prompt = str(json.loads(self.content(int(reply["prompt"]))))
            reply = self.reply()
        self.finish(reply)
        if prompt is None:
            raise ValueError("no prompt")
        return prompt


def _plain(value: Any) -> Any:
    """Return JSON, with the name of its class in place of anything else."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else f"<{type(value).__name__}>"


_pool = Pool(Renderer)
