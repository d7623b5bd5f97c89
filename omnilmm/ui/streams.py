"""A program's standard streams, whatever they are connected to: a terminal, a pipe, a file in an old encoding.

Output never fails for a character that its encoding lacks, which is written as an escape. Input never fails for bytes
that are not text, which are refused in one line.
"""

from __future__ import annotations

import codecs
import io
import sys
from contextlib import suppress
from typing import TextIO

from omnilmm.errors import InputError
from omnilmm.sentences import Sentence

MAX_BYTES = 16 * 2**20  # limit of a piped question
# Python represents a byte that cannot be decoded in the terminal's encoding this way (PEP 383).
_UNDECODED = range(0xDC80, 0xDD00)


def configure_streams() -> None:
    """From now on write characters that the output's encoding (cp1252, say) lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")


def can_encode(text: str, stream: TextIO) -> bool:
    """Return whether a stream's encoding has every character of a text."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def require_text(text: str, what: Sentence) -> str:
    """Return the text of an argument or a typed line, if it is text at all.

    Raises:
        InputError: It has bytes that are invalid in the encoding of the terminal.
    """
    byte = next((ord(sign) - 0xDC00 for sign in text if ord(sign) in _UNDECODED), None)
    if byte is not None:
        encoding = sys.getfilesystemencoding().upper()
        raise InputError("no_text", what=what, encoding=encoding, byte=byte)
    return text


def read_line(prompt: str) -> str:
    """Read a line as `input` does; the prompt is never written to a file that receives the answers."""
    with suppress(ImportError):  # not on Windows, whose console edits lines itself
        import readline  # noqa: F401, imported, it gives `input` editing and a history of this chat
    if not sys.stdout.isatty():
        sys.stderr.write(prompt)
        sys.stderr.flush()
        prompt = ""
    return input(prompt)


def is_piped() -> bool:
    """Return whether standard input is not a terminal: a pipe, a file, or closed."""
    return sys.stdin is None or not sys.stdin.isatty()


def read_piped() -> str:
    """Return all of standard input, stripped of whitespace.

    Raises:
        InputError: It is empty, too long, or not text.
    """
    content = b"" if sys.stdin is None else sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError("input_too_long", most=MAX_BYTES // 2**20)
    text = _text(content).strip()
    if not text:
        raise InputError("no_question_given")
    return text


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line, even if a path in it has line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _text(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as Windows' own programs write it
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # an older encoding: the one of this terminal, or a mistake
        text = content.decode(sys.stdin.encoding or "utf-8", "surrogateescape")
        return require_text(text, Sentence("the_standard_input"))
