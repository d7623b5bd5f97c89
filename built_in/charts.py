"""Bar charts, pie charts and tables: scenes of panels and printed words, with the underlying values.

Units as in `scenes.py`. Bars start at the base line, so their height is proportional to their value.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from built_in.palette import RGB, Background, random_background, shade, visible_colours
from built_in.printing import (
    DAYS,
    FONTS,
    HEADERS,
    LAST_ROW,
    MONTHS,
    Label,
    around,
    printable_text,
    printed_at,
)
from built_in.scenes import Panel, Scene, random_size, worn

_LETTER = (0.062, 0.085)  # height of capital letters as a fraction of the unit
_LEAST_STEP = 0.09  # minimum difference of two values, as a fraction of the highest


@dataclass(frozen=True)
class Entry:
    """One bar or pie slice: its printed name, value and colour."""

    text: str
    value: int
    colour: str


@dataclass(frozen=True)
class Chart:
    """A bar chart or a pie chart.

    Attributes:
        scene: scene to draw.
        kind: "bar" or "pie".
        entries: from left to right, or clockwise from the top.
        has_values: whether the values are printed.
        of_months: whether the entries are months.
    """

    scene: Scene
    kind: Literal["bar", "pie"]
    entries: tuple[Entry, ...]
    has_values: bool = False
    of_months: bool = False


@dataclass(frozen=True)
class Table:
    """Cells of text: `rows` below a `header`; the first column names the rows."""

    scene: Scene
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def random_chart(rng: random.Random, *, held_out: bool = False, small: float = 0.6) -> Chart:
    """Generate a bar or pie chart; `held_out` as in `printable_text`, `small` as in `random_size`."""
    while True:
        background, ink = _paper(rng)
        scene = Scene(*_size(rng, small), background)
        make = _bar_chart if rng.random() < 0.6 else _pie
        chart = make(scene, rng, ink, held_out)
        if chart is not None:
            return replace(chart, scene=worn(chart.scene, rng))


def random_table(rng: random.Random, *, held_out: bool = False, small: float = 0.6) -> Table:
    """Generate a table of 2 or 3 columns and 2 to 4 rows; arguments as for `random_chart`."""
    while True:
        background, ink = _paper(rng)
        table = _table(Scene(*_size(rng, small), background), rng, ink, held_out)
        if table is not None:
            return replace(table, scene=worn(table.scene, rng))


def _size(rng: random.Random, small: float) -> tuple[int, int]:
    while True:
        width, height = random_size(rng, small)
        if 0.6 <= width / height <= 1.8 and width * height > 100 * 100:
            return width, height


def _paper(rng: random.Random) -> tuple[Background, tuple[str, RGB]]:
    """Choose a calm background and a readable colour of print."""
    while True:
        background = random_background(rng, 100)
        background = replace(background, kind="plain") if rng.random() < 0.85 else background
        dark = [name for name in visible_colours(background, lightness_step=45) if name in ("black", "white", "blue")]
        if dark and len(visible_colours(background)) >= 6:
            name = rng.choice(dark)
            return background, (name, shade(name, rng))


def _short_texts(rng: random.Random, count: int, held_out: bool, most: int = 4) -> tuple[list[str], bool]:
    """Choose distinct names for bars or pie slices; also return whether they are months."""
    manner = rng.random()
    if manner < 0.3:
        start = rng.randrange(len(MONTHS))
        return [MONTHS[(start + step) % len(MONTHS)] for step in range(count)], True
    if manner < 0.4:
        return rng.sample(DAYS, count), False
    texts: list[str] = []
    while len(texts) < count:
        text = printable_text(rng, held_out)
        if 2 <= len(text) <= most and text not in texts and not text.isdigit():
            texts.append(text)
    return texts, False


def _values(rng: random.Random, count: int, most: int) -> list[int]:
    """Choose values in random order that differ clearly from each other."""
    while True:
        values = [rng.randint(max(1, most // 8), most) for _ in range(count)]
        ranked = sorted(values)
        step = _LEAST_STEP * ranked[-1]
        if all(high - low >= step for low, high in pairwise(ranked)):
            return values


def _bar_chart(scene: Scene, rng: random.Random, ink: tuple[str, RGB], held_out: bool) -> Chart | None:
    count = rng.randint(2, 5)
    texts, of_months = _short_texts(rng, count, held_out)
    values = _values(rng, count, rng.choice((10, 20, 50, 99)))
    colours = visible_colours(scene.background)
    colours = [rng.choice(colours)] * count if rng.random() < 0.5 else rng.sample(colours, count)
    letter, font, has_values = scene.unit * rng.uniform(*_LETTER), rng.choice(FONTS), rng.random() < 0.6
    edge, step = 0.04 * scene.unit, (scene.width - 0.08 * scene.unit) / count
    base = scene.height - edge - 1.9 * letter
    room = base - edge - (1.9 * letter if has_values else 0)
    wide = rng.uniform(0.5, 0.8) * step
    panels, labels, entries, numbers = [], [], [], []
    for place, (text, value, colour) in enumerate(zip(texts, values, colours, strict=True)):
        middle, top = edge + (place + 0.5) * step, base - room * value / max(values)
        panels.append(_rectangle(middle - wide / 2, top, middle + wide / 2, base, shade(colour, rng), colour))
        rank = _rank(value, values)
        label = _centred(text, font, letter, middle, base + 0.5 * letter, ink)
        if label.box[2] - label.box[0] > 0.94 * step:
            return None
        labels.append(replace(label, row=rank, column=place + 1))
        if has_values:
            number = _centred(str(value), font, letter, middle, top - 1.4 * letter, ink)
            numbers.append(replace(number, row=rank, column=place + 1))
        entries.append(Entry(text, value, colour))
    line = max(1.0, 0.008 * scene.unit)
    panels.append(_rectangle(edge / 2, base, scene.width - edge / 2, base + line, ink[1]))
    drawn = replace(scene, panels=tuple(panels), labels=(*numbers, *labels))
    return Chart(drawn, "bar", tuple(entries), has_values, of_months)


def _rank(value: int, values: list[int]) -> int:
    """Return the rank of a value: 1 for the highest, always LAST_ROW for the lowest."""
    return LAST_ROW if value == min(values) else 1 + sum(other > value for other in values)


def _pie(scene: Scene, rng: random.Random, ink: tuple[str, RGB], held_out: bool) -> Chart | None:
    count = rng.randint(2, 5)
    texts, of_months = _short_texts(rng, count, held_out)
    values = _shares(rng, count)
    colours = rng.sample(visible_colours(scene.background), count)
    letter, font = scene.unit * rng.uniform(*_LETTER), rng.choice(FONTS)
    edge = 0.05 * scene.unit
    legend = letter * 1.9
    labels = [
        printed_at(text, font, letter, 0, 0, *ink) for text in texts
    ]  # to measure the width of the legend; placed below
    wide = max(label.box[2] - label.box[0] for label in labels) + 1.6 * letter
    radius = min(scene.height - 2 * edge, scene.width - 3 * edge - wide) / 2
    if radius < 0.2 * scene.unit or count * legend > scene.height - 2 * edge:
        return None
    x, y = edge + radius, scene.height / 2
    turn, panels, entries = 0.0, [], []
    for text, value, colour in zip(texts, values, colours, strict=True):
        end = turn + value / sum(values)
        arc = [turn + (end - turn) * part / 24 for part in range(25)]
        corners = [(x, y)] + [
            (x + radius * math.sin(2 * math.pi * t), y - radius * math.cos(2 * math.pi * t)) for t in arc
        ]
        panels.append(Panel(tuple(corners), shade(colour, rng), colour))
        entries.append(Entry(text, value, colour))
        turn = end
    left, top = 2 * edge + 2 * radius, (scene.height - count * legend) / 2
    labels = []
    for place, (entry, panel) in enumerate(zip(entries, tuple(panels), strict=True)):
        row = top + place * legend
        panels.append(_rectangle(left, row, left + letter, row + letter, panel.rgb, entry.colour))
        label = printed_at(entry.text, font, letter, left + 1.5 * letter, row, *ink)
        labels.append(replace(label, row=_rank(entry.value, values), column=place + 1))
    drawn = replace(scene, panels=tuple(panels), labels=tuple(labels))
    return Chart(drawn, "pie", tuple(entries), of_months=of_months)


def _shares(rng: random.Random, count: int) -> list[int]:
    """Choose shares that sum to 100, with a clear largest and smallest one and none too thin to see."""
    while True:
        cuts = sorted(rng.randint(1, 99) for _ in range(count - 1))
        shares = [high - low for low, high in zip([0, *cuts], [*cuts, 100], strict=True)]
        ranked = sorted(shares)
        plain = ranked[1] - ranked[0] >= 6 and ranked[-1] - ranked[-2] >= 8
        if ranked[0] >= 8 and plain:
            return shares


def _table(scene: Scene, rng: random.Random, ink: tuple[str, RGB], held_out: bool) -> Table | None:
    columns, count = rng.choice((2, 2, 3)), rng.randint(2, 4)
    letter, font = scene.unit * rng.uniform(*_LETTER), rng.choice(FONTS)
    names, _ = _short_texts(rng, count, held_out, most=5)
    header = ("NAME", *rng.sample(HEADERS, columns - 1))
    rows = tuple(zip(names, *(_cells(rng, count, held_out) for _ in range(columns - 1)), strict=True))
    cells = [[printed_at(text, font, letter, 0, 0, *ink) for text in row] for row in (header, *rows)]
    widths = [max(row[column].box[2] - row[column].box[0] for row in cells) for column in range(columns)]
    gap, pitch = letter * rng.uniform(0.8, 1.6), letter * rng.uniform(1.8, 2.3)
    wide, high = sum(widths) + gap * columns, pitch * (count + 1)
    if wide > 0.96 * scene.width or high > 0.94 * scene.height:
        return None
    left = rng.uniform(0.02 * scene.width, scene.width * 0.98 - wide)
    top = rng.uniform(0.03 * scene.height, scene.height * 0.97 - high)
    labels, panels, line = [], [], max(1.0, 0.006 * scene.unit)
    for row, texts in enumerate((header, *rows)):
        y = top + row * pitch
        if row == 1 or rng.random() < 0.5:
            panels.append(_rectangle(left, y, left + wide, y + line, ink[1]))
        x = left + gap / 2
        for column, (text, width) in enumerate(zip(texts, widths, strict=True), start=1):
            label = printed_at(text, font, letter, x, y + (pitch - letter) / 2, *ink)
            labels.append(replace(label, row=row + 1, column=column))
            x += width + gap
    return Table(replace(scene, panels=tuple(panels), labels=tuple(labels)), header, rows)


def _cells(rng: random.Random, count: int, held_out: bool) -> list[str]:
    """Choose distinct texts for one column, either numbers or words."""
    numbers = rng.random() < 0.6
    texts: list[str] = []
    while len(texts) < count:
        text = printable_text(rng, held_out and not numbers)
        if text.isdigit() == numbers and 1 <= len(text) <= (3 if numbers else 5) and text not in texts:
            texts.append(text)
    return texts


def _rectangle(left: float, top: float, right: float, bottom: float, rgb: RGB, colour: str | None = None) -> Panel:
    return Panel(((left, top), (right, top), (right, bottom), (left, bottom)), rgb, colour)


def _centred(text: str, font: str, letter: float, middle: float, top: float, ink: tuple[str, RGB]) -> Label:
    """Return a label whose ink is centred horizontally at `middle`, its ink starting at `top`."""
    width = (box := around(printed_at(text, font, letter, 0, 0, *ink).boxes))[2] - box[0]
    return printed_at(text, font, letter, middle - width / 2, top, *ink)
