"""Starts llama.cpp on a thread, for a question whose reader may leave meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

from omnilmm.engine.llamacpp.child import LlamaServer, Settings
from omnilmm.errors import CheckpointError, OmniLMMError


class Start:
    """A server that is being started. It belongs to whoever calls `take`; after `abandon` it is stopped.

    Args:
        settings: what to serve.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._found: LlamaServer | OmniLMMError | None = None
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._run, name="starting llama.cpp", daemon=True)
        self._thread.start()

    @property
    def has_failed(self) -> bool:
        """Whether it is over without a server."""
        return isinstance(self._found, OmniLMMError)

    def is_over(self, wait_s: float | None) -> bool:
        """Return whether it ends within some seconds; None waits as long as it takes."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def take(self) -> LlamaServer:
        """Return the server; call `is_over` first.

        Raises:
            OmniLMMError: It could not be started.
        """
        if isinstance(self._found, LlamaServer):
            return self._found
        raise self._found or self._failure("")

    def abandon(self) -> None:
        """Stop the server, as soon as it has started: a child that loads cannot be asked to end."""
        with self._lock:
            self._is_abandoned = True
            found = self._found
        if isinstance(found, LlamaServer):
            found.stop()

    def _run(self) -> None:
        found = self._started()
        with self._lock:
            self._found = found
            is_abandoned = self._is_abandoned
        if is_abandoned and isinstance(found, LlamaServer):
            found.stop()

    def _started(self) -> LlamaServer | OmniLMMError:
        try:
            return LlamaServer(self._settings)
        except OmniLMMError as error:
            return error
        except Exception as error:  # e.g. no process can be created
            return self._failure(str(error) or type(error).__name__)

    def _failure(self, reason: str) -> OmniLMMError:
        return CheckpointError("llama_cpp_cannot_load", name=Path(self._settings.model).name, reason=reason)
