"""An independent reading of what is said about a scene, in both languages: what it claims, and whether that is true.

Nothing of the code under test is used but the scene itself. The words of both languages stand here once more.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from built_in.facts import Facts
from built_in.lessons import conversation
from built_in.questions.turn import Turn
from built_in.scenes import Scene, Thing

Talk = tuple[Scene, list[Turn]]

KINDS = {"圆形": "circle", "正方形": "square", "三角形": "triangle", "星形": "star", "十字形": "cross", "心形": "heart"}
COLOURS = {
    "红色": "red",
    "橙色": "orange",
    "黄色": "yellow",
    "绿色": "green",
    "蓝色": "blue",
    "紫色": "purple",
    "粉色": "pink",
    "黑色": "black",
    "白色": "white",
}
SIZES = {"小": "small", "中等": "medium", "大": "large"}
GENERAL = {"图形": "shape", "东西": "thing", "那个": "one", "那些": "one", "单词": "word", "数字": "number"}
PLACES = {
    "at the top left": "左上角",
    "at the top right": "右上角",
    "at the top": "上方",
    "at the bottom left": "左下角",
    "at the bottom right": "右下角",
    "at the bottom": "下方",
    "on the left": "左边",
    "on the right": "右边",
    "in the middle": "中间",
}
SIDES = {"left of": "左边", "right of": "右边", "above": "上面", "below": "下面"}
ORDINALS = {"first": "一", "second": "二", "third": "三", "fourth": "四", "fifth": "五", "sixth": "六"}
NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}


def any_of(words: object) -> str:
    """A group of a regular expression, the longest words first."""
    return "(?:" + "|".join(sorted(words, key=len, reverse=True)) + ")"  # type: ignore[call-overload]


KINDS_MANY = ["circles", "squares", "triangles", "stars", "crosses", "hearts", "shapes", "ones", "things"]
ENGLISH_NAME = (
    rf"(?:(?:{any_of(SIZES.values())}|{any_of(COLOURS.values())}) )*"
    rf"{any_of([*KINDS.values(), *KINDS_MANY, *GENERAL.values()])}"
)
CHINESE_NAME = rf"(?:{any_of(COLOURS)}的)?{any_of(SIZES)}?{any_of([*KINDS, *GENERAL])}"
COLOUR, ZH_COLOUR = any_of(COLOURS.values()), any_of(COLOURS)
PLACE, ZH_PLACE = any_of(PLACES), any_of(PLACES.values())
SIDE, ZH_SIDE = any_of(SIDES), any_of(SIDES.values())
TEXT = '["“]([A-Z0-9]+)["”]'


@dataclass(frozen=True)
class Named:
    """What a name says; each part may be missing."""

    kind: str | None
    colour: str | None = None
    size: str | None = None


def is_chinese(text: str) -> bool:
    return bool(re.search("[一-鿿]", text))


def singular(word: str) -> str:
    return "cross" if word == "crosses" else word.removesuffix("s") if word in KINDS_MANY else word


def named(name: str) -> Named:
    """Of "large red stars", "红色的大星形", … ."""
    if is_chinese(name):
        match = re.fullmatch(rf"(?:({ZH_COLOUR})的)?({any_of(SIZES)})?({any_of([*KINDS, *GENERAL])})", name)
        assert match, name
        return Named((KINDS | GENERAL)[match[3]], COLOURS.get(match[1] or ""), SIZES.get(match[2] or ""))
    words = [singular(word) for word in name.split()]
    assert words[-1] in (*KINDS.values(), *GENERAL.values()), name
    colours = [word for word in words if word in COLOURS.values()]
    sizes = [word for word in words if word in SIZES.values()]
    assert len(words) == 1 + len(colours) + len(sizes), name
    return Named(words[-1], *(colours or [None]), *(sizes or [None]))


def names_in(text: str) -> list[Named]:
    """All names that a question mentions, in its order."""
    if is_chinese(text):
        return [named(match[0]) for match in re.finditer(CHINESE_NAME, text)]
    return [named(match[0]) for match in re.finditer(rf"\b(?!number of){ENGLISH_NAME}\b", text.lower())]


def colours_in(text: str) -> list[str]:
    """All colours that a question mentions."""
    if is_chinese(text):
        return [COLOURS[found] for found in re.findall(ZH_COLOUR, text)]
    return re.findall(rf"\b{COLOUR}\b", text.lower())


def things_of(scene: Scene, name: Named) -> list[Thing]:
    """All that a name may mean; "one" and "thing" may also mean printed text."""
    things: list[Thing] = list(scene.shapes)
    if name.kind in ("one", "thing"):
        things += scene.labels
    elif name.kind in ("word", "number"):
        things = [label for label in scene.labels if label.text.isdigit() == (name.kind == "number")]
    elif name.kind != "shape":
        things = [thing for thing in scene.shapes if thing.kind == name.kind]
    return [
        thing
        for thing in things
        if name.colour in (None, thing.colour) and (name.size is None or getattr(thing, "size", None) == name.size)
    ]


def place_of(scene: Scene, thing: Thing) -> str:
    """The third of the height and of the width that the centre lies in."""
    across = ("left", "", "right")[min(int(3 * thing.x / scene.width), 2)]
    down = ("top", "", "bottom")[min(int(3 * thing.y / scene.height), 2)]
    if not across and not down:
        return "in the middle"
    return f"on the {across}" if not down else f"at the {down} {across}".strip()


def along(thing: Thing, side: str, anchor: Thing) -> float:
    """How far a thing's centre is on a side of another, in pixels."""
    across, down = thing.x - anchor.x, thing.y - anchor.y
    return {"left of": -across, "right of": across, "above": -down, "below": down}[side]


def is_beside(scene: Scene, thing: Thing, side: str, anchor: Thing) -> bool:
    """Far enough on this side, and not mostly on another."""
    far = along(thing, side, anchor)
    aside = abs(thing.y - anchor.y) if side in ("left of", "right of") else abs(thing.x - anchor.x)
    return far > 0.07 * (scene.width * scene.height) ** 0.5 and far > 0.45 * aside


def side_of(word: str) -> str:
    return word if word in SIDES else {chinese: english for english, chinese in SIDES.items()}[word]


def place_said(word: str) -> str:
    return word if word in PLACES else {chinese: english for english, chinese in PLACES.items()}[word]


def printed(text: str) -> list[str]:
    """What is quoted."""
    return re.findall(TEXT, text)


def boxes_in(text: str) -> list[tuple[int, ...]]:
    """The corners of all boxes."""
    return [tuple(map(int, box)) for box in re.findall(r"<box>(\d+) (\d+) (\d+) (\d+)</box>", text)]


def listed(description: str) -> Counter[str]:
    """The things that a description names ("red star" or printed text), equal ones as often as it says."""
    things: Counter[str] = Counter()
    said = description.removeprefix("I see ").removeprefix("我看到").rstrip(".。")
    for part in re.split(r", | and |、|和", said):
        if texts := printed(part):
            noun = part[: part.index(texts[0]) - 1].strip()
            assert noun in (("the number", "数字") if texts[0].isdigit() else ("the word", "单词")), part
            things[texts[0]] += 1
        elif match := re.fullmatch(r"(\d)个(.+)", part):
            name = named(match[2])
            things[f"{name.colour} {name.kind}"] += int(match[1])
        else:
            count, rest = part.split(" ", 1)
            assert (count in ("a", "an")) == (rest.split()[-1] == singular(rest.split()[-1])), part
            assert count not in ("a", "an") or (count == "an") == (rest[0] in "aeiou"), part
            name = named(rest)
            things[f"{name.colour} {name.kind}"] += NUMBERS[count]
    return things


Claim = Callable[[Scene, re.Match[str]], bool]


def _only(scene: Scene, name: str) -> Thing | None:
    things = things_of(scene, named(name))
    return things[0] if len(things) == 1 else None


def _all_of(scene: Scene, name: str, said: str, value: Callable[[Thing], object], table: dict[str, str]) -> bool:
    """One thing or several of the same, as the number of the verb says."""
    things = things_of(scene, named(name))
    is_many = " are " in said or "都是" in said
    wanted = table.get(said_last(said), said_last(said))
    return (len(things) > 1) == is_many and bool(things) and all(value(thing) == wanted for thing in things)


def said_last(said: str) -> str:
    """The last word of a sentence, as one thing."""
    if is_chinese(said):
        return said.rstrip("。").removesuffix("的").rsplit("是", 1)[1]
    return singular(said.rstrip(".").rsplit(" ", 1)[1])


def _count(scene: Scene, match: re.Match[str]) -> bool:
    number, name = match[1] or "0", match[2]
    count = 0 if number == "no" else int(number)
    if not is_chinese(name) and count != 1 and name == singular(name.split()[-1]):
        return False  # "2 star"
    return len(things_of(scene, named(name))) == count


def _beside(scene: Scene, name: str, side: str, anchor: str) -> bool:
    thing, other = _only(scene, name), _only(scene, anchor)
    return thing is not None and other is not None and is_beside(scene, thing, side_of(side), other)


def _colour_beside(scene: Scene, name: str, side: str, anchor: str, colour: str) -> bool:
    other, unit = _only(scene, anchor), (scene.width * scene.height) ** 0.5
    if other is None:
        return False
    there = [
        thing
        for thing in things_of(scene, named(name))
        if thing is not other and along(thing, side_of(side), other) > 0.02 * unit
    ]
    return len(there) == 1 and there[0].colour == COLOURS.get(colour, colour)


def _what_beside(scene: Scene, name: str, side: str, anchor: str) -> bool:
    other, unit = _only(scene, anchor), (scene.width * scene.height) ** 0.5
    if other is None:
        return False
    there = [thing for thing in scene.things if thing is not other and along(thing, side_of(side), other) > 0.02 * unit]
    return len(there) == 1 and there[0] in things_of(scene, named(name))


def _at_place(scene: Scene, name: str, place: str) -> bool:
    """Only one thing may be meant: "at the top" may also be said of the corners."""
    said = place_said(place)
    if said in ("at the top", "at the bottom", "on the left", "on the right"):
        near = [thing for thing in scene.things if said.split()[-1] in place_of(scene, thing)]
    else:
        near = [thing for thing in scene.things if place_of(scene, thing) == said]
    return len(near) == 1 and place_of(scene, near[0]) == said and near[0] in things_of(scene, named(name))


def _largest(scene: Scene, word: str, name: str) -> bool:
    radii = sorted((shape.radius for shape in scene.shapes), reverse=word in ("largest", "大"))
    plain = len(radii) > 1 and max(radii[0] / radii[1], radii[1] / radii[0]) > 1.15
    return plain and any(thing.radius == radii[0] for thing in things_of(scene, named(name)))


def _box(scene: Scene, name: str, said: str) -> bool:
    """A box for each thing of this name, none for another; around all of its circle or its print."""
    boxes, things = boxes_in(said), things_of(scene, named(name))
    return len(boxes) == len(things) > 0 and all(any(_fits(scene, box, thing) for box in boxes) for thing in things)


def _fits(scene: Scene, box: tuple[int, ...], thing: Thing) -> bool:
    left, top, right, bottom = thing.box
    true = (left / scene.width, top / scene.height, right / scene.width, bottom / scene.height)
    return all(0 <= said <= 1000 and abs(said / 1000 - part) <= 0.0251 for said, part in zip(box, true, strict=True))


def _line(scene: Scene, number: int, text: str) -> bool:
    lines = sorted(scene.labels, key=lambda label: label.y)
    return len(lines) > max(number, 1) and lines[number].text == text


# What is said -> whether it is true. The first pattern that fits all of a sentence counts.
CLAIMS: dict[str, list[tuple[str, Claim]]] = {
    "text": [
        (r"(?:I see|No, there is) no text\.|我没看到文字。|没有，没有文字。", lambda s, m: not s.labels),
        (r"Yes, there is text\.|有，有文字。", lambda s, m: bool(s.labels)),
    ],
    "nothing": [(r"I see nothing but the background\.|我只看到背景。", lambda s, m: not s.things)],
    "reading": [
        (
            r"(?:It says|写的是)[^<>]+",
            lambda s, m: printed(m[0]) == [label.text for label in sorted(s.labels, key=lambda label: label.y)] != [],
        )
    ],
    "line": [
        (rf"The ({any_of(ORDINALS)}) line says {TEXT}\.", lambda s, m: _line(s, list(ORDINALS).index(m[1]), m[2])),
        (rf"第(.)行写的是{TEXT}。", lambda s, m: _line(s, list(ORDINALS.values()).index(m[1]), m[2])),
        (rf"(?:The last line says |最后一行写的是){TEXT}[.。]", lambda s, m: _line(s, -1, m[1])),
        (r"(?:There are |有)(\d)(?: lines\.|行。)", lambda s, m: len(s.labels) == int(m[1]) > 1),
    ],
    "missing": [
        (rf"(?:I see|No, there is) no ({ENGLISH_NAME})\.", lambda s, m: not things_of(s, named(m[1]))),
        (rf"(?:I see|No, there is) nothing ({COLOUR})\.", lambda s, m: not things_of(s, Named("thing", m[1]))),
        (rf"(?:我没看到|没有，没有)({CHINESE_NAME})。", lambda s, m: not things_of(s, named(m[1]))),
    ],
    "there": [
        (rf"Yes, there is an? ({ENGLISH_NAME})\.", lambda s, m: bool(things_of(s, named(m[1])))),
        (rf"Yes, there is something ({COLOUR})\.", lambda s, m: bool(things_of(s, Named("thing", m[1])))),
        (rf"有，有({CHINESE_NAME})。", lambda s, m: bool(things_of(s, named(m[1])))),
    ],
    "count": [
        (rf"(?:Yes, t|No, t|T)here (?:are|is) (no|\d) ({ENGLISH_NAME})\.", _count),
        (rf"(?:是的，|不是，)?(?:没有|有(\d)个)({CHINESE_NAME})。", _count),
    ],
    "colour": [
        (
            rf"(?:Yes, t|No, t|T)he ({ENGLISH_NAME}) (?:is|are) {COLOUR}\."
            rf"|(?:是的，|不是，)?({CHINESE_NAME})都?是{ZH_COLOUR}的。",
            lambda s, m: _all_of(s, m[1] or m[2], m[0], lambda thing: thing.colour, COLOURS),
        )
    ],
    "size": [
        (
            rf"The ({ENGLISH_NAME}) is {any_of(SIZES.values())}\.|({CHINESE_NAME})是{any_of(SIZES)}的。",
            lambda s, m: _all_of(s, m[1] or m[2], m[0], lambda thing: getattr(thing, "size", None), SIZES),
        )
    ],
    "largest": [
        (rf"The (largest|smallest) one is the ({ENGLISH_NAME})\.", lambda s, m: _largest(s, m[1], m[2])),
        (rf"最(大|小)的是({CHINESE_NAME})。", lambda s, m: _largest(s, m[1], m[2])),
    ],
    "shape": [
        (
            rf"The ({ENGLISH_NAME}) (?:is an?|are) {any_of([*KINDS.values(), *KINDS_MANY])}\."
            rf"|({CHINESE_NAME})都?是{any_of(KINDS)}。",
            lambda s, m: _all_of(s, m[1] or m[2], m[0], lambda thing: getattr(thing, "kind", None), KINDS),
        )
    ],
    "place": [
        (
            rf"(?:The ({ENGLISH_NAME}) is ({PLACE})\.|({CHINESE_NAME})在({ZH_PLACE})。)",
            lambda s, m: (
                (thing := _only(s, m[1] or m[3])) is not None and place_of(s, thing) == place_said(m[2] or m[4])
            ),
        )
    ],
    "at place": [
        (rf"An? ({ENGLISH_NAME}) is ({PLACE})\.", lambda s, m: _at_place(s, m[1], m[2])),
        (rf"({ZH_PLACE})是({CHINESE_NAME})。", lambda s, m: _at_place(s, m[2], m[1])),
    ],
    "beside": [
        (
            rf"(?:Yes, t|No, t|T)he ({ENGLISH_NAME}) is ({SIDE}) the ({ENGLISH_NAME})\.",
            lambda s, m: _beside(s, m[1], m[2], m[3]),
        ),
        (
            rf"(?:是的，|不是，)?({CHINESE_NAME})在({CHINESE_NAME})的({ZH_SIDE})。",
            lambda s, m: _beside(s, m[1], m[3], m[2]),
        ),
    ],
    "colour beside": [
        (
            rf"The ({ENGLISH_NAME}) ({SIDE}) the ({ENGLISH_NAME}) is ({COLOUR})\.",
            lambda s, m: _colour_beside(s, m[1], m[2], m[3], m[4]),
        ),
        (
            rf"({CHINESE_NAME})({ZH_SIDE})的({CHINESE_NAME})是({ZH_COLOUR})的。",
            lambda s, m: _colour_beside(s, m[3], m[2], m[1], m[4]),
        ),
    ],
    "what beside": [
        (
            rf"An? ({ENGLISH_NAME}) is ({SIDE}) the ({ENGLISH_NAME})\.",
            lambda s, m: _what_beside(s, m[1], m[2], m[3]),
        ),
        (rf"({CHINESE_NAME})的({ZH_SIDE})是({CHINESE_NAME})。", lambda s, m: _what_beside(s, m[3], m[2], m[1])),
    ],
    "box": [
        (rf"<ref>({ENGLISH_NAME}|{CHINESE_NAME})</ref>(?:<box>[\d ]+</box>)+", lambda s, m: _box(s, m[1], m[0])),
    ],
    "description": [
        (
            r"(?:I see|我看到).+",
            lambda s, m: (
                listed(m[0])
                == Counter([f"{shape.colour} {shape.kind}" for shape in s.shapes] + [label.text for label in s.labels])
            ),
        )
    ],
}


def claim(answer: str) -> str | None:
    """Which sort of claim an answer is; None for one that says nothing about a picture."""
    return next((sort for sort, _, _ in _readings(answer)), None)


def is_true(scene: Scene, answer: str) -> bool:
    """Reads an answer on its own, without knowing the question, and checks it with the scene."""
    return next((holds(scene, match) for _, holds, match in _readings(answer)), False)


def _readings(answer: str) -> Iterator[tuple[str, Claim, re.Match[str]]]:
    for sort, patterns in CLAIMS.items():
        for pattern, holds in patterns:
            if match := re.fullmatch(pattern, answer):
                yield sort, holds, match


def talk_about(scene: Scene, rng: random.Random) -> Talk:
    return scene, conversation(Facts(scene), rng, 7)
