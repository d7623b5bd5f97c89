"""The model that the flags of a program ask for: on this machine, or on a server."""

from __future__ import annotations

import argparse
from functools import partial

from omnilmm.engine.choosing import can_be_here, listed
from omnilmm.engine.events import Report
from omnilmm.engine.provider import ModelProvider
from omnilmm.engine.servers import ServerProvider, Servers
from omnilmm.engine.spaces.fallback import provide
from omnilmm.hardware import possible_dtypes
from omnilmm.model_lookup import find
from omnilmm.ui.flag_values import engine_keys, loading_arguments, requested_model
from omnilmm.ui.offer import Offer


def title_of(flags: argparse.Namespace) -> str:
    """Return the title of the first model, or the name by which it is asked for at a server.

    Raises:
        ModelNotFoundError: There is no such model.
    """
    if flags.engine_urls:
        return str(flags.model or "the model")
    return find(requested_model(flags)).title


def provider_of(flags: argparse.Namespace, report: Report) -> ModelProvider:
    """Return the provider of the model; it is loaded in the background.

    Args:
        flags: parsed flags, see `flags.add_loading_flags`.
        report: called with the bytes on this disk and the total bytes during a download.

    Raises:
        OmniLMMError: There is no such model, or the servers cannot be reached.
    """
    if flags.engine_urls:
        return ServerProvider(Servers(flags.engine_urls, engine_keys(flags)), flags.model)
    return provide(loading_arguments(flags), report)


def offer_of(flags: argparse.Namespace, provider: ModelProvider) -> Offer:
    """Return the models that visitors can choose from: those of the servers, or those for this machine."""
    if isinstance(provider, ServerProvider):
        return Offer(provider.listed, None)
    return Offer(
        partial(listed, flags.device, flags.hub),
        partial(possible_dtypes, flags.device),
        partial(can_be_here, hub=flags.hub, offline=flags.offline),
    )
