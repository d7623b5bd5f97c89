"""Sanitises answers: Markdown with a few HTML tags without attributes, no images, and plain links.

A picture can make a model say anything, and a page would render a login form in an answer, or fetch an image that it
references. Code is left unchanged where every Markdown parser takes it for code; where that is uncertain, it is text,
whose `<` are written as entities.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from omnilmm.ui.boxes import with_chips

TAGS = ("b", "strong", "i", "em", "u", "s", "del", "ins", "sub", "sup", "kbd", "small", "br")
SCHEMES = ("http", "https", "mailto", "tel")

_TAG = re.compile(rf"<(/?)({'|'.join(TAGS)})(?:[\s/][^<>]*)?>", re.IGNORECASE)
_FENCE = re.compile(r"^( {0,3})(`{3,}|~{3,})(?=[\w+#., =:'{}/()-]*$)")
_LIKE_FENCE = re.compile(r"^ {0,3}(```|~~~)")
_TOKEN = re.compile(r"\\.|`+|<|!(?=\[)|\](?=\(|:)")
_DESTINATION = re.compile(r"\](?:\(|:)\s*<?([^\s)>]*)")
_SCHEME = re.compile(r"[a-z][a-z0-9+.\-]*:", re.IGNORECASE)
_BEGINS_TAG = re.compile(r"<(?=[a-z/!?])", re.IGNORECASE)
_MATH = re.compile(r"\$\$.+?\$\$|\\\[.+?\\\]|\\\(.+?\\\)", re.DOTALL)
_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)", re.DOTALL)
_CHIP = re.compile("\ue000([0-9]+)\ue001")
_APART = "&#8203;"  # also before a tag that would begin an HTML block, in which code is not parsed as code


def safe_with_chips(answer: str, chip: Callable[[str, int], str], *, is_partial: bool = False) -> str:
    """Return a sanitised answer with a chip in place of each region that it marks; see `boxes.with_chips`."""
    chips: list[str] = []

    def placed(name: str, colour: int) -> str:
        chips.append(chip(name, colour))
        return f"\ue000{len(chips) - 1}\ue001"

    plain = answer.replace("\ue000", "").replace("\ue001", "")
    text = safe_markdown(with_chips(plain, placed, is_partial=is_partial))
    return _CHIP.sub(lambda found: chips[int(found[1])], text)


def safe_markdown(answer: str) -> str:
    """Sanitise an answer: only the tags in TAGS, without attributes; no images, and links to web addresses only."""
    lines = _Lines()
    return "\n".join(lines.safe(line) for line in spaced_math(answer).replace("\r", "").split("\n"))


def spaced_math(answer: str) -> str:
    """Return an answer in whose formulas no `<` can be parsed as the beginning of a tag."""
    parts = _CODE.split(answer)
    parts[::2] = [_MATH.sub(lambda found: _BEGINS_TAG.sub("< ", found[0]), part) for part in parts[::2]]
    return "".join(parts)


class _Lines:
    """Sanitises an answer line by line."""

    def __init__(self) -> None:
        self._fence, self._indent = "", 0  # of the current code block
        self._open: set[int] = set()  # lengths of backtick runs that are still open in this paragraph
        self._is_doubtful = False  # parsers may disagree from here on about what is code

    def safe(self, line: str) -> str:
        fence = _FENCE.match(line)
        if self._fence:
            return self._in_code(line, fence)
        if fence and not self._is_doubtful:
            self._fence, self._indent = fence[2], len(fence[1])
            return _escaped(line)
        if _LIKE_FENCE.match(line):
            self._is_doubtful = True
        if not line.strip():
            self._open.clear()
        return self._in_text(line)

    def _in_code(self, line: str, fence: re.Match[str] | None) -> str:
        if line.strip() and len(line) - len(line.lstrip(" ")) < self._indent:
            self._fence, self._is_doubtful = "", True  # a block in a list ends here, any other does not
            return self._in_text(line)
        if fence and fence[2].startswith(self._fence) and not line[fence.end() :].strip():
            self._fence = ""
        return line

    def _in_text(self, line: str) -> str:
        done, place = "", 0
        while sign := _TOKEN.search(line, place):
            done += line[place : sign.start()]
            escaped, place = self._token(sign[0], line, sign.start(), done)
            done += escaped
        return done + line[place:]

    def _token(self, sign: str, line: str, at: int, before: str) -> tuple[str, int]:
        """Return the replacement of a token, and where to continue."""
        if sign.startswith("`"):
            return self._backticks(sign, line, at)
        if sign == "!":  # an image becomes a link
            apart = _APART if before.endswith("!") else ""
            return apart + ("[…" if line.startswith("![]", at) else "["), at + 2
        if sign == "]":
            found = _DESTINATION.match(line, at)
            if found and not _is_address(found[1]):
                return line[at : found.start(1)] + "#", found.end(1)
            return sign, at + 1
        if sign == "<":
            if tag := _TAG.match(line, at):
                begins = not re.search(r"[^\W\d_]", before)
                return f"{_APART if begins else ''}<{tag[1]}{tag[2].lower()}>", tag.end()
            return ("&lt;" if _BEGINS_TAG.match(line, at) else "<"), at + 1
        return ("&lt;" if sign == "\\<" else sign), at + 2

    def _backticks(self, run: str, line: str, at: int) -> tuple[str, int]:
        count, end = len(run), at + len(run)
        closing = re.compile(rf"(?<!`){run}(?!`)").search(line, end)
        if closing and count not in self._open and "|" not in line[end : closing.start()] and not self._is_doubtful:
            return line[at : closing.end()], closing.end()
        self._open.add(count)
        return run, end


def _escaped(line: str) -> str:
    return _BEGINS_TAG.sub("&lt;", line)


def _is_address(destination: str) -> bool:
    """Return whether a link leads to a web address, or to a place on this page."""
    plain = "".join(html.unescape(html.unescape(destination)).replace("\\", "").split())
    plain = "".join(letter for letter in plain if letter.isprintable())
    scheme = _SCHEME.match(plain)
    return scheme is None or scheme[0][:-1].lower() in SCHEMES
