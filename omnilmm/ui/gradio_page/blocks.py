"""Gradio's blocks without work that this page does not need, on the thread that serves everybody.

For every event Gradio builds each of its outputs anew, also those that stay as they are, and for each it also writes a
description with a JSON schema, of which a deep link could be made. The page offers no deep links. With both, a streamed
answer of a small model costs more than half of its time here. What Gradio (6.31) sends twice, too late, or so that a
part of it may be lost, is mended here as well.
"""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from gradio.blocks import BlockFunction, BlocksConfig
from gradio.state_holder import SessionState

ORDER = "order"  # a key among updates, with an `Order`

# The number of what updates a widget, and what is dropped of it if a higher one was sent: these properties, or all of a
# plain value (none is named), or nothing (None).
Order = dict[Any, tuple[int, tuple[str, ...] | None]]


class Blocks(gr.Blocks):
    """See `gradio.Blocks`; of a dictionary that a handler returns, only the widgets in it are built anew.

    Handlers of one tab run at the same time, and a large update, like that of a reloaded page, may be ready later than
    a small one that was begun after it. What has a number under `ORDER` is not sent after a higher one; the browser may
    still apply what it got of two events in another order.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.default_config = _Config(self)
        self._newest: WeakKeyDictionary[SessionState, dict[Any, int]] = WeakKeyDictionary()

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list[Any] | dict[Any, Any], state: SessionState | None
    ) -> list[Any]:
        """Update the widgets that a handler named; the others stay as they are."""
        order: Order = {}
        if isinstance(predictions, dict):
            predictions = {**predictions}
            order = predictions.pop(ORDER, order)
        if not isinstance(predictions, dict) or not predictions or not predictions.keys() <= set(block_fn.outputs):
            return list(await super().postprocess_data(block_fn, predictions, state))
        named = copy.copy(block_fn)
        named.outputs = [widget for widget in block_fn.outputs if widget in predictions]
        values = [predictions[widget] for widget in named.outputs]
        changed = await super().postprocess_data(named, values[0] if len(values) == 1 else values, state)
        updates = dict(zip(named.outputs, changed, strict=True))
        if state is not None:
            self._drop_outdated(updates, order, self._newest.setdefault(state, {}))
        return [updates.get(widget, gr.skip()) for widget in block_fn.outputs]

    @staticmethod
    def _drop_outdated(updates: dict[Any, Any], order: Order, newest: dict[Any, int]) -> None:
        """Drop what is older than what was sent of the same; called last, so that nothing is sent in between."""
        for widget, (number, properties) in order.items():
            if number >= newest.get(widget, 0):
                newest[widget] = number
            elif properties is None:
                continue
            elif properties:
                updates[widget] = {name: value for name, value in updates[widget].items() if name not in properties}
            else:
                del updates[widget]

    def handle_streaming_diffs(
        self,
        block_fn: BlockFunction,
        data: list[Any],
        session_hash: str | None,
        run: str | None,
        final: bool,
        simple_format: bool = False,
    ) -> list[Any]:
        """Send what a handler yields once, and whole where the difference to what it yielded before would lose a part.

        Gradio sends the last of it again when the handler has returned, a moment later: whatever somebody typed or
        chose in between would be undone. And its script changes what was yielded before into what comes next, also if
        the page has not got that yet: a property that only the first one has, like the content of the question box,
        would be lost.
        """
        if final:
            super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format)
            return [gr.skip()] * len(data)
        before = [*self.pending_diff_streams.get(session_hash, {}).get(run, [])] if not simple_format else []
        after = [*data]
        sent: list[Any] = super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format)
        for number, (earlier, later) in enumerate(zip(before, after, strict=False)):
            if isinstance(earlier, dict) and isinstance(later, dict) and not earlier.keys() <= later.keys():
                sent[number] = [["replace", [], later]]
        return sent


class _Config(BlocksConfig):
    """The page's widgets and events; a session's copy describes none: no deep links, and no `gradio.render`."""

    def __copy__(self) -> BlocksConfig:
        session = super().__copy__()
        session.config_for_block = lambda *_: {}
        return session
