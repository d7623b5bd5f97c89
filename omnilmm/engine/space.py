"""The model of a page, wherever it runs.

On a Hugging Face Space what does not fit gives way to the built-in model, and a GPU may be lent for each answer.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib import import_module
from typing import Any

from omnilmm.catalog import BUILT_IN, find
from omnilmm.engine.events import Engine
from omnilmm.errors import HardwareError
from omnilmm.hardware import on_space, on_zero_gpu

logger = logging.getLogger(__name__)


def load_page_engine(**arguments: Any) -> Engine:
    """Load the model of a page; on ZeroGPU to be called before the page is served, on its thread.

    Args:
        arguments: as for `load_engine`.

    Raises:
        OmniLMMError: As `load_engine`, except that on a Space a model that does not fit is replaced by the built-in
            one; the reason of its device then says so.
    """
    zero_gpu = on_zero_gpu()
    if zero_gpu:
        import_module("spaces")  # before torch
    from omnilmm.engine.loading import load_engine

    try:
        engine = load_engine(**arguments)
    except HardwareError as error:
        if not on_space() or arguments.get("model", BUILT_IN) == BUILT_IN:
            raise
        logger.warning("The built-in model answers instead. %s", error)
        engine = load_engine(**{**arguments, "model": BUILT_IN, "device": "auto", "dtype": "auto", "revision": None})
        missed = f"{find(arguments['model']).title} does not fit on this hardware"
        engine.device = replace(engine.device, reason=f"{engine.device.reason}; {missed}")
    if not zero_gpu:
        return engine
    from omnilmm.engine.zero_gpu import ZeroGpuEngine

    return ZeroGpuEngine(engine)
