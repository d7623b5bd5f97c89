"""How long tests wait for what they assert, and waits for what another thread does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

# In the environment, by `make test-slow`: browsers at a quarter of their speed on a busy machine, each journey once.
SLOW = "OMNILMM_TESTS_SLOW"
PATIENCE_S = 240.0 if os.environ.get(SLOW) else 60.0
# What a test holds while a person takes several steps, for each of which there is `PATIENCE_S`.
HOLD_S = 4 * PATIENCE_S


def wait_until(holds: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
