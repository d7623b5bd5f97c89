"""Turns failures of the hub into errors that say what happened and what to do."""

from __future__ import annotations

from omnilmm.errors import CheckpointError, ModelNotFoundError, OmniLMMError
from omnilmm.hardware import gib
from omnilmm.network import proxy_for
from omnilmm.sentences import Sentence


class HubError(CheckpointError):
    """The hub cannot be reached or refuses the request; a complete copy on this disk may be used instead."""


def explained(error: Exception, source: str, title: str, revision: str, endpoint: str) -> OmniLMMError:
    """Return the error that explains a failure of the hub in one line.

    Args:
        error: the exception of huggingface_hub.
        source: hub id, "owner/name".
        title: name of the model in messages.
        revision: the requested revision.
        endpoint: the hub's endpoint.
    """
    from huggingface_hub import errors

    hub = named(endpoint)
    if isinstance(error, errors.HFValidationError):
        return ModelNotFoundError("no_hub_id", source=source)
    if isinstance(error, errors.GatedRepoError):
        return HubError("licence_not_accepted", title=title, source=source)
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFoundError("no_such_revision", source=source, revision=revision, hub=hub)
    if "Invalid credentials" in str(error):
        return (
            HubError("token_refused_by_mirror", endpoint=endpoint)
            if _is_mirror(endpoint)
            else HubError("token_refused")
        )
    is_file = isinstance(error, errors.EntryNotFoundError)
    if isinstance(error, errors.RepositoryNotFoundError) or (status_of(error) in (401, 404) and not is_file):
        return ModelNotFoundError("not_on_hub", source=source, hub=hub)
    return _unreachable(error, source, title, endpoint, is_network=isinstance(error, (errors.HTTPError, OSError)))


def _unreachable(error: Exception, source: str, title: str, endpoint: str, *, is_network: bool) -> HubError:
    """Return the error for a hub that cannot be reached, or for a server in its place that is no hub."""
    hub, proxy, way = named(endpoint), proxy_for(endpoint), Sentence("use_copy")
    why = reason_of(error) if is_network else Sentence("no_hub_or_proxy_there" if proxy else "no_hub_there")
    settings: list[str | Sentence] = [Sentence("the_network")]
    settings += ["HF_ENDPOINT"] if _is_mirror(endpoint) else []
    if proxy is None:
        return HubError("hub_fails", title=title, hub=hub, source=source, why=why, settings=settings, way=way)
    settings.append(Sentence("the_proxy"))
    return HubError(
        "hub_fails_through", title=title, hub=hub, source=source, proxy=proxy, why=why, settings=settings, way=way
    )


def interrupted(title: str, endpoint: str, file: str, done: int, total: int, cause: Exception | None) -> HubError:
    """Return the error for a download that failed repeatedly.

    Args:
        title: name of the model in messages.
        endpoint: the hub's endpoint.
        file: the file being downloaded.
        done: bytes of it downloaded.
        total: its size in bytes.
        cause: the last failure; None if the connection was closed early.
    """
    hub, proxy, reason = named(endpoint), proxy_for(endpoint), reason_of(cause)
    here, whole = gib(done), gib(total)
    if proxy is None:
        return HubError("download_interrupted", title=title, hub=hub, file=file, done=here, total=whole, reason=reason)
    return HubError(
        "download_interrupted_through",
        title=title,
        hub=hub,
        proxy=proxy,
        file=file,
        done=here,
        total=whole,
        reason=reason,
    )


def _is_mirror(endpoint: str) -> bool:
    return endpoint != "https://huggingface.co"


def named(endpoint: str) -> Sentence:
    """Return the name of the hub or mirror for messages."""
    return Sentence("the_mirror", endpoint=endpoint) if _is_mirror(endpoint) else Sentence("the_hub")


def status_of(error: Exception | None) -> int:
    """Return the HTTP status code of an error, 0 if there was no response."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def reason_of(error: Exception | None) -> str | Sentence:
    """Return the reason of an error in one line."""
    if status := status_of(error):
        return Sentence("answered_with_status", status=status)
    if not error:
        return Sentence("connection_closed")
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
