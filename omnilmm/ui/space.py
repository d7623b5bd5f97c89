"""How a page is started on a Hugging Face Space, which gives no flags: by variables of its settings."""

from __future__ import annotations

import os
import shlex

from omnilmm.errors import OptionsError
from omnilmm.hardware import on_space

VARIABLE = "OMNILMM_FLAGS"
# A container of its own: its address is reached through the service alone.
SERVING = ("--host", "0.0.0.0", "--port", "7860")  # noqa: S104


def flags_of_space() -> list[str]:
    """What stands for the flags on a Space, nothing elsewhere; flags that are given come after these and win.

    Raises:
        OptionsError: The variable cannot be read.
    """
    if not on_space():
        return []
    text = os.environ.get(VARIABLE, "")
    try:
        return [*SERVING, *shlex.split(text)]
    except ValueError as error:
        raise OptionsError(
            f"{VARIABLE} cannot be read ({error}). Expected flags as in a terminal: {text!r}."
        ) from error
