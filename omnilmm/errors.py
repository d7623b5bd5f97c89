"""All errors that users see, in one tree; each says what was expected, what was found and how to fix it.

    OmniLMMError
    ├── InputError          the question, the picture or the messages cannot be used
    │   └── ImageError      the picture cannot be read
    │       └── VideoError  the video cannot be read
    ├── OptionsError        an option or a setting has an invalid value
    ├── ModelNotFoundError  no model of that name, id or folder
    ├── CheckpointError     the checkpoint is damaged, incomplete or not supported
    ├── SwitchError         the model cannot be switched now
    ├── HardwareError       the requested device or dtype is not available here
    ├── TrainingError       a training had to stop; what was saved before it stays
    ├── MissingPackageError an optional package is not installed
    ├── ServerError         the server that runs the model cannot be used
    └── ContextLengthError  the question and its pictures alone exceed the model's context length

A front end shows an error as one line and keeps the conversation; the traceback belongs in the log.

Errors are raised with a code and parameters, `ImageError("no_picture_file", path=path)`; `sentences` holds the text of
every code in each language, with separate wording for the terminal and the pages where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from omnilmm.sentences import Parameter, Sentence


class OmniLMMError(Exception):
    """Base class of all errors that are shown to users.

    Args:
        code: a key of `sentences/en.yaml`; codes are stable, their wording is not.
        **parameters: parameters of the sentence.
    """

    def __init__(self, code: str, /, **parameters: object) -> None:
        super().__init__(code)
        self.sentence = Sentence(code, **parameters)

    @classmethod
    def of(cls, sentence: Sentence) -> Self:
        """Create an error from an existing sentence."""
        return cls(sentence.code, **sentence.parameters)

    @property
    def code(self) -> str:
        """The error code, for programs."""
        return self.sentence.code

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters of the sentence."""
        return self.sentence.parameters

    def __str__(self) -> str:
        return str(self.sentence)


class InputError(OmniLMMError):
    """The question, the picture or the messages cannot be used."""


class ImageError(InputError):
    """The picture cannot be read."""


class VideoError(ImageError):
    """The video cannot be read."""


class OptionsError(OmniLMMError):
    """An option or a setting has an invalid value."""


class ModelNotFoundError(OmniLMMError):
    """No model of that name, hub id or folder."""


class CheckpointError(OmniLMMError):
    """The checkpoint is damaged, incomplete or not supported."""


class SwitchError(OmniLMMError):
    """The model cannot be switched now, or there is no other one; the current model stays loaded."""


class HardwareError(OmniLMMError):
    """The requested device or dtype is not available here."""


class TrainingError(OmniLMMError):
    """A training had to stop: its loss is no number, its memory too small, or its state cannot be saved.

    What was saved before stays.
    """


class MissingPackageError(OmniLMMError):
    """An optional package is not installed."""


class ServerError(OmniLMMError):
    """The server that runs the model cannot be reached, refuses the request, or answers with something else."""


class ContextLengthError(OmniLMMError):
    """The question and its pictures alone exceed the model's context length."""
