"""Gradio's blocks without work that this page does not need, on the thread that serves everybody.

For every event Gradio builds each of its outputs anew, also those that stay as they are, and for each it also writes a
description with a JSON schema, of which a deep link could be made. The page offers no deep links. With both, a streamed
answer of a small model costs more than half of its time here. And at the end of each it sends the last update twice.
"""

from __future__ import annotations

import copy
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction, BlocksConfig
from gradio.state_holder import SessionState


class Blocks(gr.Blocks):
    """See `gradio.Blocks`; of a dictionary that a handler returns, only the widgets in it are built anew."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.default_config = _Config(self)

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list[Any] | dict[Any, Any], state: SessionState | None
    ) -> list[Any]:
        """Update the widgets that a handler named; the others stay as they are."""
        if not isinstance(predictions, dict) or not predictions or not predictions.keys() <= set(block_fn.outputs):
            return list(await super().postprocess_data(block_fn, predictions, state))
        named = copy.copy(block_fn)
        named.outputs = [widget for widget in block_fn.outputs if widget in predictions]
        values = [predictions[widget] for widget in named.outputs]
        changed = await super().postprocess_data(named, values[0] if len(values) == 1 else values, state)
        updates = dict(zip(named.outputs, changed, strict=True))
        return [updates.get(widget, gr.skip()) for widget in block_fn.outputs]

    def handle_streaming_diffs(
        self, block_fn: BlockFunction, data: list[Any], *args: Any, final: bool, **more: Any
    ) -> list[Any]:
        """Send what a handler yields once.

        Gradio (6.31) sends the last of it again when the handler has returned, a moment later: whatever somebody typed
        or chose in between would be undone.
        """
        values: list[Any] = super().handle_streaming_diffs(block_fn, data, *args, final=final, **more)
        return [gr.skip()] * len(values) if final else values


class _Config(BlocksConfig):
    """The page's widgets and events; a session's copy describes none: no deep links, and no `gradio.render`."""

    def __copy__(self) -> BlocksConfig:
        session = super().__copy__()
        session.config_for_block = lambda *_: {}
        return session
