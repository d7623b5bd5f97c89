"""Charts and tables are drawn as their numbers say, and what is said about them can be read off the picture."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest

from built_in.charts import Chart, Table, random_chart, random_table
from built_in.drawing import draw
from built_in.language import CODES, language
from built_in.palette import RGB
from built_in.printing import LAST_ROW, Label
from built_in.questions.charts import ask_chart, ask_table
from built_in.questions.turn import Turn
from built_in.scenes import Panel, Scene
from tests.built_in.truth import COLOURS, colours_in, is_chinese, printed


@dataclass(frozen=True)
class Bar:
    """A bar or a part of a pie as the eye sees it: how large, which colour, what is printed for it."""

    text: str
    size: float
    colour: str | None
    number: str | None = None


def extent(panel: Panel) -> tuple[float, float, float, float]:
    x, y = zip(*panel.corners, strict=True)
    return min(x), min(y), max(x), max(y)


def area(panel: Panel) -> float:
    x, y = np.array(panel.corners).T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def nearest(labels: list[Label], x: float, y: float) -> Label:
    return min(labels, key=lambda label: np.hypot(label.x - x, label.y - y))


def bars_seen(scene: Scene) -> list[Bar]:
    """Each bar with the word under it and the number over it."""
    found = []
    for panel in (panel for panel in scene.panels if panel.colour):
        left, top, right, bottom = extent(panel)
        middle = (left + right) / 2
        below = nearest([label for label in scene.labels if label.box[1] > bottom], middle, bottom)
        over = [label for label in scene.labels if label.text.isdigit() and label.box[3] <= top + 1]
        number = nearest(over, middle, top).text if over else None
        found.append(Bar(below.text, bottom - top, panel.colour, number))
    return found


def parts_seen(scene: Scene) -> list[Bar]:
    """Each part of the pie with the word beside the little square of its colour."""
    found = []
    squares = [panel for panel in scene.panels if len(panel.corners) == 4 and is_square(panel)]
    for panel in (panel for panel in scene.panels if panel not in squares):
        (key,) = (square for square in squares if square.rgb == panel.rgb)
        _, top, _, bottom = extent(key)
        assert key.colour == panel.colour
        beside = min(scene.labels, key=lambda label: abs(label.y - (top + bottom) / 2))
        found.append(Bar(beside.text, area(panel), panel.colour))
    return found


def is_square(panel: Panel) -> bool:
    left, top, right, bottom = extent(panel)
    return abs((right - left) - (bottom - top)) < 1e-6 and area(panel) == pytest.approx((right - left) ** 2)


def seen_in(chart: Chart) -> list[Bar]:
    return bars_seen(chart.scene) if chart.kind == "bar" else parts_seen(chart.scene)


def cells_seen(scene: Scene) -> list[list[str]]:
    """The print of a table, row by row from top to bottom, each from left to right."""
    rows: list[list[Label]] = []
    for label in sorted(scene.labels, key=lambda label: label.box[1]):
        if rows and label.box[1] - rows[-1][0].box[1] < 0.6 * label.height:
            rows[-1].append(label)
        else:
            rows.append([label])
    return [[label.text for label in sorted(row, key=lambda label: label.box[0])] for row in rows]


@pytest.fixture(scope="module")
def charts() -> list[Chart]:
    rng = random.Random(31)
    return [random_chart(rng) for _ in range(500)]


@pytest.fixture(scope="module")
def tables() -> list[Table]:
    rng = random.Random(32)
    return [random_table(rng) for _ in range(300)]


def test_print_of_a_chart_knows_its_place_and_the_rank_of_its_value(charts: list[Chart]) -> None:
    for chart in charts:
        values = [entry.value for entry in chart.entries]
        for column, (entry, seen) in enumerate(zip(chart.entries, seen_in(chart), strict=True), start=1):
            rank = LAST_ROW if entry.value == min(values) else 1 + sum(value > entry.value for value in values)
            own = [label for label in chart.scene.labels if label.text in (seen.text, seen.number)]
            assert {(label.row, label.column) for label in own} == {(rank, column)}


def test_print_of_a_table_knows_its_row_and_column(tables: list[Table]) -> None:
    for table in tables:
        by_place = {(label.row, label.column): label.text for label in table.scene.labels}
        for row, texts in enumerate(cells_seen(table.scene), start=1):
            assert [by_place[row, column] for column in range(1, len(texts) + 1)] == texts


def said_of_charts(charts: list[Chart]) -> list[tuple[Chart, Turn]]:
    rng = random.Random(33)
    turns = [(chart, ask_chart(chart, rng, language(rng.choice(CODES)))) for chart in charts for _ in range(6)]
    return [(chart, turn) for chart, turn in turns if turn is not None]


def test_same_seed_same_chart_and_table() -> None:
    assert random_chart(random.Random(4)) == random_chart(random.Random(4))
    assert random_table(random.Random(4)) == random_table(random.Random(4))


def test_the_picture_of_a_chart_shows_its_entries(charts: list[Chart]) -> None:
    for chart in charts:
        seen = {bar.text: bar for bar in seen_in(chart)}
        assert len(seen) == len(chart.entries) and 2 <= len(seen) <= 5
        per_value = sum(bar.size for bar in seen.values()) / sum(entry.value for entry in chart.entries)
        for entry in chart.entries:
            bar = seen[entry.text]
            assert bar.colour == entry.colour
            assert bar.size == pytest.approx(entry.value * per_value, rel=0.02)
            assert bar.number == (str(entry.value) if chart.has_values else None)


def test_both_kinds_of_charts_come_with_all_that_they_can_have(charts: list[Chart]) -> None:
    kinds = Counter((chart.kind, chart.has_values, chart.of_months) for chart in charts)
    assert set(kinds) == {(kind, v, m) for kind in ("bar", "pie") for v in (True, False) for m in (True, False)} - {
        ("pie", True, True),
        ("pie", True, False),
    }
    assert {len(chart.entries) for chart in charts} == {2, 3, 4, 5}


def test_the_parts_of_a_pie_are_a_hundred_and_have_colours_of_their_own(charts: list[Chart]) -> None:
    for chart in charts:
        if chart.kind == "pie":
            assert sum(entry.value for entry in chart.entries) == 100
            assert len({entry.colour for entry in chart.entries}) == len(chart.entries)


def test_the_eye_can_tell_the_larger_of_what_is_compared(charts: list[Chart]) -> None:
    for chart in charts:
        sizes = sorted(bar.size for bar in seen_in(chart))
        if chart.kind == "bar":
            gaps = [high - low for low, high in pairwise(sizes)]
            assert min(gaps) > 0.085 * sizes[-1]
        else:
            assert sizes[-1] - sizes[-2] > 0.07 * sum(sizes) and sizes[1] - sizes[0] > 0.05 * sum(sizes)


def test_print_of_charts_and_tables_lies_within_the_picture_and_apart(charts: list[Chart], tables: list[Table]) -> None:
    for scene in [chart.scene for chart in charts] + [table.scene for table in tables]:
        for number, label in enumerate(scene.labels):
            left, top, right, bottom = label.box
            assert 0 <= left < right <= scene.width and 0 <= top < bottom <= scene.height
            for other in scene.labels[:number]:
                apart = other.box[2] <= left or right <= other.box[0] or other.box[3] <= top or bottom <= other.box[1]
                assert apart, (label.text, other.text)


def test_what_stands_in_the_middle_of_a_bar_has_its_colour(charts: list[Chart]) -> None:
    for chart in charts[:60]:
        pixels = np.asarray(draw(replace(chart.scene, blur=0.0, noise=0.0, jpeg=0)))
        for panel in chart.scene.panels if chart.kind == "bar" else ():
            left, top, right, bottom = extent(panel)
            if panel.colour:
                assert tuple(pixels[int((top + bottom) / 2), int((left + right) / 2)]) == panel.rgb
    assert isinstance(panel.rgb, tuple)


def test_what_is_said_of_a_chart_can_be_read_off_it(charts: list[Chart]) -> None:
    sorts: Counter[str] = Counter()
    for chart, turn in said_of_charts(charts):
        seen, question = seen_in(chart), turn.question.lower()
        sort, expected = expected_of_chart(chart, seen, turn)
        sorts[sort] += 1
        assert expected, turn
        assert is_chinese(question) == is_chinese(turn.answer)
    assert set(sorts) == {"extreme", "count", "kind", "colour", "of colour", "value", "compared"}
    assert min(sorts.values()) > 50


def expected_of_chart(chart: Chart, seen: list[Bar], turn: Turn) -> tuple[str, bool]:
    """Which sort of question it is, by its words, and whether the answer is what the picture shows."""
    question, answer = turn.question.lower(), turn.answer
    by_text = {bar.text.lower(): bar for bar in seen}
    asked = [by_text[text.lower()] for text in printed(question.upper())]
    told = printed(answer)
    colours = colours_in(re.sub('["“].*?["”]', "", answer))
    if len(asked) == 2:
        yes = answer.startswith(("Yes", "是的"))
        return "compared", (asked[0].size > asked[1].size) == yes and told == [bar.text for bar in asked]
    if asked and re.search("colou?r|颜色", question):
        return "colour", colours == [asked[0].colour] and told == [asked[0].text]
    if asked:
        return "value", told == [asked[0].text, asked[0].number]
    if colours_in(question):
        (bar,) = (bar for bar in seen if [bar.colour] == colours_in(question))
        return "of colour", told == [bar.text] and colours == [bar.colour]
    if re.search("high|tall|large|big|最高|最大", question):
        return "extreme", told == [max(seen, key=lambda bar: bar.size).text] and says(
            answer, "highest|largest|最高|最大"
        )
    if re.search("low|short|small|最低|最小", question):
        return "extreme", told == [min(seen, key=lambda bar: bar.size).text] and says(
            answer, "lowest|smallest|最低|最小"
        )
    number = re.findall(r"\d+", answer) == [str(len(seen))]
    if re.search("how many|count|几|数一数", question):
        return "count", number and says(answer, "bars|柱子" if chart.kind == "bar" else "parts|部分")
    return "kind", number and says(answer, "bar chart|柱状图" if chart.kind == "bar" else "pie chart|饼图")


def says(answer: str, words: str) -> bool:
    return bool(re.search(words, answer))


def test_only_charts_of_months_are_asked_for_a_month(charts: list[Chart]) -> None:
    asked = [chart for chart, turn in said_of_charts(charts) if re.search("month|月", turn.question.lower())]
    assert len(asked) > 20
    assert all(chart.of_months and chart.kind == "bar" for chart in asked)
    months = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
    assert all({entry.text for entry in chart.entries} <= set(months) for chart in asked)


def test_the_picture_of_a_table_shows_its_cells(tables: list[Table]) -> None:
    for table in tables:
        assert cells_seen(table.scene) == [list(table.header), *map(list, table.rows)]
        assert len({row[0] for row in table.rows}) == len(table.rows)
        assert len(set(table.header)) == len(table.header)
    assert {(len(table.rows), len(table.header)) for table in tables} == {(r, c) for r in (2, 3, 4) for c in (2, 3)}


def test_what_is_said_of_a_table_can_be_read_off_it(tables: list[Table]) -> None:
    rng, sorts = random.Random(34), Counter[str]()
    for table in tables:
        header, *rows = cells_seen(table.scene)
        for _ in range(6):
            turn = ask_table(table, rng, language(rng.choice(CODES)))
            question, told = turn.question.lower(), printed(turn.answer)
            asked = printed(turn.question.upper())
            numbers = re.findall(r"\d+", re.sub('["“].*?["”]', "", turn.answer))
            if not asked:
                sort = "rows" if re.search("how many|几行", question) else "what"
                assert numbers == [str(len(rows))] + ([str(len(header))] if sort == "what" else []), turn
            elif len(told) == 1:  # whose "AGE" is "12"?
                sort = "first column"
                titles = [text for text in asked if text in header[1:]]
                found = {
                    row[0] for title in titles for row in rows for text in asked if row[header.index(title)] == text
                }
                assert found == set(told), turn
            else:
                sort = "cell"
                (title,) = {told[0], told[1]} & set(header[1:]) - {row[0] for row in rows} or {told[0]}
                (row,) = (row for row in rows if row[0] == next(text for text in told[:2] if text != title))
                assert set(asked) == {title, row[0]} and told[2] == row[header.index(title)], turn
            sorts[sort] += 1
            assert is_chinese(turn.question) == is_chinese(turn.answer)
    assert set(sorts) == {"rows", "what", "first column", "cell"} and min(sorts.values()) > 50


def test_a_chart_has_only_colours_that_stand_out_from_each_other(charts: list[Chart]) -> None:
    for chart in charts:
        shades: dict[str, set[RGB]] = {}
        for panel in chart.scene.panels:
            if panel.colour:
                shades.setdefault(panel.colour, set()).add(panel.rgb)
        assert set(shades) <= set(COLOURS.values())
        behind = chart.scene.background.first
        assert all(sum(abs(a - b) for a, b in zip(rgb, behind, strict=True)) > 40 for s in shades.values() for rgb in s)
