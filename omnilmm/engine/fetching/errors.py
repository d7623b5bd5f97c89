"""What can go wrong at the hub, in words: what happened and what to do."""

from __future__ import annotations

from omnilmm.errors import CheckpointError, ModelNotFoundError, OmniLMMError, way_out
from omnilmm.network import proxy_for

_STRANGER = "what answers there is no hub"


class HubError(CheckpointError):
    """The hub is out of reach or refuses; a whole copy on this disk does instead."""


def explained(error: Exception, source: str, title: str, revision: str, endpoint: str) -> OmniLMMError:
    """What went wrong, in one line.

    Args:
        error: from the hub's library.
        source: hub id, "owner/name".
        title: what to call the model.
        revision: that was asked for.
        endpoint: that was asked.
    """
    from huggingface_hub import errors

    hub = named(endpoint)
    if isinstance(error, errors.HFValidationError):
        return ModelNotFoundError(f"{source!r} cannot be a hub id: expected owner/name.")
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{title} is given out under a licence that has to be accepted first: do so on "
            f"https://huggingface.co/{source}, then log in with `hf auth login` or set HF_TOKEN."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFoundError(
            f"{source} has no revision {revision!r} on {hub}: give a branch, a tag or a commit, or none for the newest."
        )
    if "Invalid credentials" in str(error):
        return HubError(
            f"{hub[0].upper()}{hub[1:]} does not accept your token: log in again with `hf auth login`, "
            "or unset HF_TOKEN."
        )
    is_file = isinstance(error, errors.EntryNotFoundError)
    if isinstance(error, errors.RepositoryNotFoundError) or (status_of(error) in (401, 404) and not is_file):
        return ModelNotFoundError(
            f"There is no model {source!r} on {hub}, or it is private: check its name, or log in with "
            "`hf auth login` or HF_TOKEN."
        )
    is_network = isinstance(error, (errors.HTTPError, OSError))
    proxy = proxy_for(endpoint)
    stranger = "the proxy does not work as one, or what answers there is no hub" if proxy else _STRANGER
    why = reason_of(error) if is_network else stranger
    first = "the network, HF_ENDPOINT" if "mirror" in hub and proxy else "the network"
    last = " and the proxy" if proxy else " and HF_ENDPOINT" if "mirror" in hub else ""
    return HubError(
        f"{title} cannot be fetched from {hub} ({source}){through(proxy)}: {why}. Check {first}{last}, or "
        f"{way_out('copy')}."
    )


def through(proxy: str | None) -> str:
    """The proxy in a sentence."""
    return f" through the proxy {proxy}" if proxy else ""


def named(endpoint: str) -> str:
    """What to call the hub in a sentence."""
    if endpoint == "https://huggingface.co":
        return "the hub"
    return f"the mirror {endpoint} (set by HF_ENDPOINT)"


def status_of(error: Exception | None) -> int:
    """Of an answer over HTTP, 0 where there was none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def reason_of(error: Exception | None) -> str:
    """The first line of what is known of an error."""
    if status := status_of(error):
        return f"it answered with status {status}"
    return (str(error or "the connection was closed").strip() or type(error).__name__).splitlines()[0].rstrip(".")
