"""A program's standard streams, wherever they lead: a terminal, a pipe, a file in an old encoding.

What is written never fails for a character that the output's encoding does not have, and what is read never fails for
bytes that are no text: the first is written as an escape, the second is refused in one line.
"""

from __future__ import annotations

import codecs
import io
import sys
from contextlib import suppress
from typing import TextIO

from omnilmm.errors import InputError
from omnilmm.sentences import Sentence

MAX_BYTES = 16 * 2**20  # of a question that is piped in
# So Python hands over a byte that is no text in the encoding of the terminal (PEP 383).
_UNDECODED = range(0xDC80, 0xDD00)


def configure_streams() -> None:
    """From here on what an encoding cannot show is written as an escape, where the output is in cp1252, say."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")


def can_encode(text: str, stream: TextIO) -> bool:
    """Whether a stream's encoding has every character of a text."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def require_text(text: str, what: Sentence) -> str:
    """The text of an argument or a typed line, if it is text at all.

    Raises:
        InputError: It has bytes that are none in the encoding of the terminal.
    """
    byte = next((ord(sign) - 0xDC00 for sign in text if ord(sign) in _UNDECODED), None)
    if byte is not None:
        encoding = sys.getfilesystemencoding().upper()
        raise InputError("no_text", what=what, encoding=encoding, byte=byte)
    return text


def read_line(prompt: str) -> str:
    """A typed line, as `input` reads it; the prompt never stands in a file that takes the answers."""
    with suppress(ImportError):  # not on Windows, whose console edits lines itself
        import readline  # noqa: F401, imported, it gives `input` editing and a history of this chat
    if not sys.stdout.isatty():
        sys.stderr.write(prompt)
        sys.stderr.flush()
        prompt = ""
    return input(prompt)


def is_piped() -> bool:
    """Whether standard input is no terminal: a pipe, a file, or closed."""
    return sys.stdin is None or not sys.stdin.isatty()


def read_piped() -> str:
    """All of standard input, without the blanks around it.

    Raises:
        InputError: It is empty, too long, or no text.
    """
    content = b"" if sys.stdin is None else sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError("input_too_long", most=MAX_BYTES // 2**20)
    text = _text(content).strip()
    if not text:
        raise InputError("no_question_given")
    return text


def one_line(error: BaseException) -> str:
    """What an error says, also where a path in it has line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _text(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as Windows' own programs write it
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # an older encoding: the one of this terminal, or a mistake
        text = content.decode(sys.stdin.encoding or "utf-8", "surrogateescape")
        return require_text(text, Sentence("the_standard_input"))
