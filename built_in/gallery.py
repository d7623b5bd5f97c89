"""An HTML page of wrong answers with their pictures, for error analysis."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from itertools import groupby, islice

from PIL import Image

from built_in.evaluation import Answered

MOST_PER_ROW = 12
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; color: #222; background: #fafafa }
section { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem }
figure { margin: 0; padding: .8rem; background: #fff; border: 1px solid #ddd; border-radius: .5rem }
img { max-width: 100%; max-height: 12rem } q { quotes: none } .true { color: #1a6b34 } .predicted { color: #a12622 }
"""


def page(answered: Sequence[Answered]) -> str:
    """Return a self-contained HTML page with up to MOST_PER_ROW wrong answers per row."""
    parts = [f"<!doctype html><meta charset=utf-8><title>Wrong answers</title><style>{_STYLE}</style>"]
    for name, items in groupby(answered, key=lambda item: item.row.name):
        every = list(items)
        wrong = [item for item in every if not item.is_right]
        parts.append(f"<h2>{html.escape(name)}: {len(wrong)} of {len(every)} wrong</h2><section>")
        parts += islice(_figures(wrong), MOST_PER_ROW)
        parts.append("</section>")
    return "\n".join(parts)


def _figures(wrong: Sequence[Answered]) -> Iterator[str]:
    for item in wrong:
        pictures = "".join(f'<img src="{_data_uri(drawn.image)}" alt="">' for drawn in item.lesson.pictures)
        lines = [(kind, html.escape(text)) for kind, text in _lines(item)]
        yield f"<figure>{pictures}{''.join(f'<div class={kind}>{text}</div>' for kind, text in lines)}</figure>"


def _lines(item: Answered) -> list[tuple[str, str]]:
    return [("asked", item.turn.question), ("true", item.turn.answer), ("predicted", item.answer)]


def _data_uri(image: Image.Image) -> str:
    stored = io.BytesIO()
    image.save(stored, "PNG")
    return "data:image/png;base64," + base64.b64encode(stored.getvalue()).decode()
