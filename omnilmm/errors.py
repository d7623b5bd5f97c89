"""Every error a user can meet, in one tree: what was expected, what came, the way out.

    OmniLMMError
    ├── InputError          the question, the picture or the messages cannot be used
    │   └── ImageError      the picture cannot be read
    ├── OptionsError        an option has a value that can only fail
    ├── ModelNotFoundError  no model of that name, id or folder
    ├── CheckpointError     the folder is there, but its files do not fit together
    ├── SwitchError         another model cannot be chosen now
    ├── HardwareError       the device or dtype asked for is not available here
    ├── MissingPackageError an optional package is not installed
    └── ContextLengthError  the question and its pictures alone are longer than the model's context

A front end shows an error as one line and keeps the conversation; the traceback belongs in the log.

The way out of an error depends on the door: a terminal has flags, a page has choices. So a message holds marks for it,
as `way_out` makes them. `str(error)` has the flags; a page gives `error.message` its own words (`Texts.translate`).
"""

import re
from collections.abc import Callable

# What each way out is called in a terminal.
FLAGS = {
    "dtype": "--dtype {0}",
    "device": "--device {0}",
    "model": "--model {0}",
    "model_in": "--model {0} --dtype {1}",
    "smaller": "a smaller model",
    "or": "or",
    "more_memory": "allow more with --max-memory",
    "copy": "give the folder of a copy with --model",
    "limit": "{0} (now {1}) allows more",
    "file_limit": "--max-file-size or OMNILMM_PICTURE_FILE_MB (now {0}) allows more",
    "online": "start once without --offline (HF_HUB_OFFLINE), or give the folder of a copy with --model",
}
_MARK = re.compile("⟦([a-z_]+)((?: [^ ⟦⟧]+)*)⟧")


def way_out(kind: str, *values: str) -> str:
    """A mark within a message, for which each door has words of its own.

    Args:
        kind: one of `FLAGS`.
        values: of the flag, without blanks.
    """
    return f"⟦{' '.join((kind, *values))}⟧"


def worded(message: str, words: Callable[..., str] = lambda kind, *values: FLAGS[kind].format(*values)) -> str:
    """A message with words in place of its marks.

    Args:
        message: with marks or without.
        words: of a door, given the kind and the values; by default a terminal's flags.
    """

    def word(mark: re.Match[str]) -> str:
        try:
            return words(mark[1], *mark[2].split())
        except (KeyError, IndexError):  # no mark of ours: the name of somebody's file, say
            return mark[0]

    return _MARK.sub(word, message)


class OmniLMMError(Exception):
    """Base of all errors that are meant for the reader."""

    @property
    def message(self) -> str:
        """What happened, with marks for the ways out."""
        return super().__str__()

    def __str__(self) -> str:
        return worded(self.message)


class InputError(OmniLMMError):
    """The question, the picture or the messages cannot be used."""


class ImageError(InputError):
    """The picture cannot be read."""


class OptionsError(OmniLMMError):
    """An option has a value that can only fail."""


class ModelNotFoundError(OmniLMMError):
    """No model of that name, hub id or folder."""


class CheckpointError(OmniLMMError):
    """The folder is there, but its files do not fit together."""


class SwitchError(OmniLMMError):
    """Another model cannot be chosen now, or there is none to choose; the one that answers goes on."""


class HardwareError(OmniLMMError):
    """The device or dtype asked for is not available here."""


class MissingPackageError(OmniLMMError):
    """An optional package is not installed."""


class ContextLengthError(OmniLMMError):
    """The question and its pictures alone are longer than the model's context."""
