"""Loads the model of a page, on a Hugging Face Space or elsewhere.

On a Space, a model that does not fit is replaced by the built-in one, and ZeroGPU may lend a GPU for each answer.
Heavy imports are deferred until they are needed, so that a page can be served first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from omnilmm.catalog import BUILT_IN, cards
from omnilmm.engine.change import ModelRequest
from omnilmm.engine.choosing import adapted
from omnilmm.engine.events import Engine, Report
from omnilmm.engine.provider import ModelProvider
from omnilmm.engine.scheduler import shorten_switch_interval
from omnilmm.errors import HardwareError
from omnilmm.hardware import Choice, prepare_environment
from omnilmm.hub_space import on_space, on_zero_gpu
from omnilmm.model_lookup import find
from omnilmm.sentences import Sentence

if TYPE_CHECKING:
    from omnilmm.engine.llamacpp.prepared import PreparedGGUF
    from omnilmm.engine.loading import Prepared

SMALLER = Choice("", Sentence("larger_dtype_does_not_fit"))

logger = logging.getLogger(__name__)


def provide(arguments: Mapping[str, Any], report: Report) -> ModelProvider:
    """Return the provider of a page's model, which is loaded in the background; on ZeroGPU at once, on this thread.

    Args:
        arguments: as for `load_engine`.
        report: called with the bytes on this disk and the total bytes during a download.

    Raises:
        OmniLMMError: There is no such model; on ZeroGPU also if it cannot be loaded.
    """
    shorten_switch_interval()
    if on_zero_gpu():  # requires the model before the page is served
        return ModelProvider.holding(load_page_engine(**arguments, report=report))
    provider = ModelProvider(partial(_prepare, arguments, report), {*cards(), *(card.name for card in adapted())})
    provider.begin(ModelRequest(arguments["model"], arguments["dtype"], substitute=True))
    return provider


def _prepare(
    arguments: Mapping[str, Any], tell: Report, request: ModelRequest, freed_bytes: int, report: Report
) -> Prepared | PreparedGGUF:
    """Implement `change.Prepare`; the revision in `arguments` applies only to the model in `arguments`."""

    def both(done: int, total: int) -> None:
        tell(done, total)
        report(done, total)

    is_first = request.model == find(arguments["model"]).name
    given = {**arguments, "model": request.model, "dtype": request.dtype, "report": both, "freed_bytes": freed_bytes}
    given |= {} if is_first else {"revision": None, "quant": None, "mmproj": None}
    try:
        return prepare_page_engine(substitute=request.substitute, **given)
    except HardwareError:
        if request.dtype != "auto" or request.fits is None:
            raise
        smaller = prepare_page_engine(substitute=False, **given | {"dtype": request.fits})
        return replace(smaller, dtype=replace(SMALLER, value=smaller.dtype.value))


def prepare_page_engine(*, substitute: bool = True, **arguments: Any) -> Prepared | PreparedGGUF:
    """Prepare the model of a page like `loading.prepare`.

    Args:
        substitute: whether, on a Space, a model that does not fit is replaced by the built-in one; the reason of its
            device then says so.
        **arguments: as for `loading.prepare`.

    Raises:
        OmniLMMError: As `loading.prepare`.
    """
    prepare_environment(arguments.get("device", "auto"))  # before torch is imported
    from omnilmm.engine.loading import prepare

    try:
        return prepare(**arguments)
    except HardwareError as error:
        if not substitute or not on_space() or arguments.get("model", BUILT_IN) == BUILT_IN:
            raise
        logger.warning("The built-in model answers instead. %s", error)
        own = {"model": BUILT_IN, "device": "auto", "dtype": "auto", "revision": None, "quant": None, "mmproj": None}
        built_in = cast("Prepared", prepare(**{**arguments, **own}))
        title = find(arguments["model"]).title
        why = Sentence("built_in_instead", reason=built_in.device.reason, title=title)
        return replace(built_in, device=replace(built_in.device, reason=why))


def load_page_engine(**arguments: Any) -> Engine:
    """Load the model of a page; on ZeroGPU, call this before the page is served, on the same thread.

    Args:
        **arguments: as for `load_engine`.

    Raises:
        OmniLMMError: As `load_engine`; see also `prepare_page_engine`.
    """
    if not on_zero_gpu():
        return prepare_page_engine(**arguments).load()
    import_module("spaces")  # before torch
    from omnilmm.engine.local import LocalEngine
    from omnilmm.engine.spaces.zero_gpu import ZeroGpuEngine

    engine = prepare_page_engine(**arguments).load()
    return ZeroGpuEngine(engine) if isinstance(engine, LocalEngine) else engine  # llama.cpp stays on the CPU
