"""Limits for rendering one prompt with the chat template of a checkpoint.

Each limit is set by an environment variable, `OMNILMM_TEMPLATE_` followed by the field in capitals.
"""

from __future__ import annotations

from dataclasses import dataclass

from omnilmm.images.limits import from_environment, raise_limit
from omnilmm.sentences import Sentence

PREFIX = "OMNILMM_TEMPLATE_"


@dataclass(frozen=True)
class TemplateLimits:
    """Limits for one prompt.

    Attributes:
        seconds: CPU time; a prompt takes a few milliseconds.
        memory_mb: memory in MiB, beyond the base usage of the process.
        processes: number of processes that render; 0 renders within this process, without limits on time and memory.
    """

    seconds: float = 5.0
    memory_mb: int = 200
    processes: int = 1

    def cpu_seconds(self, size: int = 0) -> float:
        """Return the CPU time, the same for all prompts."""
        return self.seconds

    def memory_bytes(self, size: int = 0) -> int:
        """Return the memory, the same for all prompts."""
        return self.memory_mb * 2**20

    def too_slow(self, size: int = 0) -> Sentence:
        """Return the error message for a template that takes too long."""
        way = raise_limit("SECONDS", f"{self.seconds:g}", PREFIX)
        return Sentence("endless_template", most=self.seconds, way=way)

    def too_much_memory(self, size: int = 0) -> Sentence:
        """Return the error message for a template that takes too much memory."""
        way = raise_limit("MEMORY_MB", self.memory_mb, PREFIX)
        return Sentence("template_too_much_memory", most=self.memory_mb, way=way)


def template_limits() -> TemplateLimits:
    """Return the limits, read from the environment.

    Raises:
        OptionsError: A variable is not a number above 0 (`PROCESSES` may be 0).
    """
    return from_environment(TemplateLimits, PREFIX)
