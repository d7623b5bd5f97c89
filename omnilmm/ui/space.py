"""How a page is started where nobody gives it flags, on a Hugging Face Space or in a container: by a variable."""

from __future__ import annotations

import os
import shlex

from omnilmm.errors import OptionsError
from omnilmm.hardware import on_space

VARIABLE = "OMNILMM_FLAGS"
# A container of its own: its address is reached through the service alone.
SERVING = ("--host", "0.0.0.0", "--port", "7860")  # noqa: S104


def flags_of_environment() -> list[str]:
    """Flags of the variable, on a Space after those it needs; flags that are given come after these and win.

    Raises:
        OptionsError: The variable cannot be read.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        return [*(SERVING if on_space() else ()), *shlex.split(text)]
    except ValueError as error:
        raise OptionsError(
            f"{VARIABLE} cannot be read ({error}). Expected flags as in a terminal: {text!r}."
        ) from error
