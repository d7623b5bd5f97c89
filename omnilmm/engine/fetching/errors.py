"""What can go wrong at the hub, in words: what happened and what to do."""

from __future__ import annotations

from omnilmm.errors import CheckpointError, ModelNotFoundError, OmniLMMError
from omnilmm.hardware import gib
from omnilmm.network import proxy_for
from omnilmm.sentences import Sentence


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
    """The hub, or what there is in its place."""
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
    """A download that broke off again and again.

    Args:
        title: what to call the model.
        endpoint: that was asked.
        file: that was on its way.
        done: bytes of it that came.
        total: bytes of it.
        cause: what went wrong the last time.
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
    """What to call the hub in a sentence."""
    return Sentence("the_mirror", endpoint=endpoint) if _is_mirror(endpoint) else Sentence("the_hub")


def status_of(error: Exception | None) -> int:
    """Of an answer over HTTP, 0 where there was none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def reason_of(error: Exception | None) -> str | Sentence:
    """The first line of what is known of an error."""
    if status := status_of(error):
        return Sentence("answered_with_status", status=status)
    if not error:
        return Sentence("connection_closed")
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
