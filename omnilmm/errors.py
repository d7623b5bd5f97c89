"""Every error a user can meet, in one tree: what was expected, what came, the way out.

    OmniLMMError
    ├── InputError          the question, the picture or the messages cannot be used
    │   └── ImageError      the picture cannot be read
    ├── OptionsError        an option has a value that can only fail
    ├── ModelNotFoundError  no model of that name, id or folder
    ├── CheckpointError     the folder is there, but its files do not fit together
    ├── SwitchError         another model cannot be chosen now
    ├── HardwareError       the device or number type asked for is not available here
    ├── MissingPackageError an optional package is not installed
    └── ContextLengthError  the question and its pictures alone are longer than the model's context

A front end shows `str(error)` as one line and keeps the conversation; the traceback belongs in the log.
"""


class OmniLMMError(Exception):
    """Base of all errors that are meant for the reader."""


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
    """The device or number type asked for is not available here."""


class MissingPackageError(OmniLMMError):
    """An optional package is not installed."""


class ContextLengthError(OmniLMMError):
    """The question and its pictures alone are longer than the model's context."""
