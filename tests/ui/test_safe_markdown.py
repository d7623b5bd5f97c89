"""No answer brings markup of a page along: compared with what a parser of Markdown makes of it."""

from __future__ import annotations

import random
import re

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from omnilmm.ui.safe_markdown import TAGS, safe_markdown, safe_with_chips

PLAIN = re.compile(rf"</?({'|'.join(TAGS)})>")
PIECES = (
    *"\n\n\n  \\`|!*_-",
    *(
        "```",
        "~~~",
        "```html\n",
        "\n```\n",
        "\n\n",
        "    ",
        "   ",
        "- ",
        "1. ",
        "> ",
        "a ",
        "``",
        "$$",
        "\\(",
        "\\)",
        "\t",
    ),
    *('<div style="position:fixed">', "</div>", "<b>", "<b\n>", "<b class=x>", "</b >", "<br/>", "<form action=x>"),
    *(
        "<!-- x -->",
        "<![CDATA[",
        "<?x?>",
        "<pre>",
        "<a href=`>",
        "![x](/logout)",
        "![",
        "](data:x)",
        "[x]: javascript:x",
        "<",
    ),
    *(
        "| a | b |\n|---|---|\n",
        "<http://x.y>",
        "<INPUT>",
        "&lt;",
        "<b title='",
        "'>",
        "# ",
        "===\n",
        "<box>1 2 3 4</box>",
    ),
)


def tokens(parsed: list[Token]) -> list[Token]:
    return [token for block in parsed for token in (block, *tokens(block.children or []))]


def faults(answer: str) -> list[str]:
    """What is left in an answer that must not be."""
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    found = tokens(parser.parse(safe_markdown(answer)))
    raw = [token.content for token in found if token.type in ("html_inline", "html_block")]
    tags = [tag for text in raw for tag in re.findall(r"<[^>]*>?", text) if not PLAIN.fullmatch(tag)]
    pictures = [token.type for token in found if token.type == "image"]
    links = [str(token.attrs.get("href")) for token in found if token.type == "link_open"]
    return [*tags, *pictures, *(link for link in links if re.match(r"(data|javascript):", link))]


def test_whatever_is_put_together_no_markup_is_left() -> None:
    chance = random.Random(19)
    for _ in range(4_000):
        answer = "".join(chance.choices(PIECES, k=chance.randint(2, 14)))
        assert faults(answer) == [], repr(answer)


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("1 < 2 and a<b, x <3", "1 < 2 and a&lt;b, x <3"),
        ("A `<div>` and ``<p>``, H<sub>2</sub>O<br>", "A `<div>` and ``<p>``, H<sub>2</sub>O<br>"),
        ('so <B class="x">big</B>', "so <b>big</b>"),
        ("```html\n<div>\n</div>\n```\n<div>", "```html\n<div>\n</div>\n```\n&lt;div>"),
        ("1. x\n   ```\n   <p>\n   ```\n2. <p>", "1. x\n   ```\n   <p>\n   ```\n2. &lt;p>"),
        (r"\(a<b\) and $$c<d$$", r"\(a< b\) and $$c< d$$"),
        (
            "- [x] done\n- [ ] not\n\n| a | b |\n|--|--|\n| 1 | 2 |",
            "- [x] done\n- [ ] not\n\n| a | b |\n|--|--|\n| 1 | 2 |",
        ),
        ("![A cat](/logout) ![](http://x/y.png)", "[A cat](/logout) […](http://x/y.png)"),
        ("[a](data:text/html,x) [b](&#100;ata:x) [c](https://x.y)", "[a](#) [b](#) [c](https://x.y)"),
    ],
)
def test_what_people_write_stays(answer: str, shown: str) -> None:
    assert safe_markdown(answer) == shown


def test_our_own_chips_stand_in_it_and_no_others() -> None:
    answer = 'The <ref>heart</ref><box>1 2 3 4</box> <mark class="chip">x</mark> \ue0000\ue001'
    shown = safe_with_chips(answer, lambda name, colour: f'<mark class="chip-{colour}">{name}</mark>')
    assert shown == 'The <mark class="chip-0">heart</mark> &lt;mark class="chip">x&lt;/mark> 0'
