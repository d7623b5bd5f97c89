"""Questions about bar charts, pie charts and tables."""

from __future__ import annotations

import random

from built_in.charts import Chart, Table
from built_in.language import Language
from built_in.questions.turn import Turn


def ask_chart(chart: Chart, rng: random.Random, speak: Language) -> Turn | None:
    """Ask about a chart, e.g. "Which bar is the highest?" or "What colour is the part of CAT?"."""
    ways = (
        (_extreme, _count, _colour, _what, _value, _compared)
        if chart.kind == "bar"
        else (_extreme, _count, _colour, _what, _of_colour)
    )
    weights = (6, 2, 3, 1, 4, 3)[: len(ways)]
    return rng.choices(ways, weights)[0](chart, rng, speak)


def _extreme(chart: Chart, rng: random.Random, speak: Language) -> Turn:
    first = rng.random() < 0.55
    entry = (max if first else min)(chart.entries, key=lambda entry: entry.value)
    key = {"bar": ("lowest bar", "highest bar"), "pie": ("smallest part", "largest part")}[chart.kind][first]
    asked = key.replace("bar", "month") if chart.of_months and chart.kind == "bar" and rng.random() < 0.7 else key
    return Turn(speak.ask(asked, rng), speak.say(key, text=speak.quoted(entry.text)), "chart")


def _count(chart: Chart, rng: random.Random, speak: Language) -> Turn:
    noun = "bars" if chart.kind == "bar" else "parts"
    return Turn(speak.ask(f"count {noun}", rng), speak.say(noun, number=str(len(chart.entries))), "chart")


def _colour(chart: Chart, rng: random.Random, speak: Language) -> Turn:
    entry = rng.choice(chart.entries)
    text, key = speak.quoted(entry.text), "bar colour" if chart.kind == "bar" else "part colour"
    return Turn(speak.ask(key, rng, text=text), speak.say(key, text=text, colour=speak.colours[entry.colour]), "chart")


def _of_colour(chart: Chart, rng: random.Random, speak: Language) -> Turn:
    entry = rng.choice(chart.entries)
    colour = speak.colours[entry.colour]
    answer = speak.say("part of colour", colour=colour, text=speak.quoted(entry.text))
    return Turn(speak.ask("part of colour", rng, colour=colour), answer, "chart")


def _what(chart: Chart, rng: random.Random, speak: Language) -> Turn:
    answer = speak.say(f"{chart.kind} chart", number=str(len(chart.entries)))
    return Turn(speak.ask("chart", rng), answer, "chart")


def _value(chart: Chart, rng: random.Random, speak: Language) -> Turn | None:
    if not chart.has_values:
        return None
    entry = rng.choice(chart.entries)
    text = speak.quoted(entry.text)
    answer = speak.say("bar value", text=text, number=speak.quoted(str(entry.value)))
    return Turn(speak.ask("bar value", rng, text=text), answer, "chart")


def _compared(chart: Chart, rng: random.Random, speak: Language) -> Turn:
    one, other = rng.sample(chart.entries, 2)
    gaps = {"text": speak.quoted(one.text), "other": speak.quoted(other.text)}
    return Turn(
        speak.ask("bars compared", rng, **gaps),
        speak.say("higher" if one.value > other.value else "lower", **gaps),
        "chart",
    )


def ask_table(table: Table, rng: random.Random, speak: Language) -> Turn:
    """Ask about a table, e.g. "What is the AGE of ANNA?"."""
    manner = rng.choices(("cell", "row", "rows", "what"), (8, 3, 1, 1))[0]
    if manner == "rows":
        return Turn(speak.ask("count rows", rng), speak.say("rows", number=str(len(table.rows))), "table")
    if manner == "what":
        answer = speak.say("table", number=str(len(table.rows)), columns=str(len(table.header)))
        return Turn(speak.ask("chart", rng), answer, "table")
    row, column = rng.choice(table.rows), rng.randrange(1, len(table.header))
    title, name, cell = (speak.quoted(text) for text in (table.header[column], row[0], row[column]))
    if manner == "cell":
        answer = speak.say("cell", text=title, other=name, cell=cell)
        return Turn(speak.ask("cell", rng, text=title, other=name), answer, "table")
    return Turn(speak.ask("first column", rng, text=title, other=cell), speak.say("first column", text=name), "table")
