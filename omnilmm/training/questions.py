"""Conversations about a scene, true by construction, and the text to train a tokenizer on.

Each ability has many ways to ask and exactly one way to state a fact, so that answers can be scored by exact match.
A question is only asked where the scene leaves one answer: "What colour is the star?" needs a single star, or stars of
one colour; "Where is it?" needs a turn before that was about one thing; places close to a border of the 3 x 3 grid of
words are not asked for. Shapes are counted and named among shapes only; the printed text is "the word" or "the number".
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from omnilmm.training.scenes import COLOURS, KINDS, Label, Scene, Shape, random_scene

ABILITIES = (
    "colour",
    "shape",
    "count",
    "yes_no",
    "place",
    "description",
    "reading",
    "follow_up",
    "chat",
)
CHAT_ANSWER = (
    "I only know simple drawings: shapes, colours, places, how many things there are, and short printed words."
)
NOTHING = "I see nothing but the background."
NO_TEXT = "I see no text."
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
_NUMBERS = ("no", "a", "two", "three", "four", "five", "six")
_BORDER = 0.035  # of the side: closer to a border between two places, the place is not asked for
# How often to try a question about a thing that is not there. It always works out, while others often do not, so that
# in the end about 8 % of such questions are of this sort.
_ABSENT = 0.035


@dataclass(frozen=True)
class Turn:
    """A question and its only right answer; `ability` is one of ABILITIES."""

    question: str
    answer: str
    ability: str


@dataclass(frozen=True)
class _Subject:
    """The one thing a turn was about, as it was named, and what has been said of it ("kind", "colour", "place"...)."""

    name: str
    thing: Shape | Label
    known: frozenset[str]


@dataclass(frozen=True)
class _Asked:
    turn: Turn
    subject: _Subject | None = None


# --- wording ----------------------------------------------------------------------------------------------------------

_ASK: dict[str, tuple[str, ...]] = {
    "colour one": (
        "What colour is the {name}?",
        "Which colour is the {name}?",
        "What is the colour of the {name}?",
        "What colour does the {name} have?",
        "Tell me the colour of the {name}.",
        "The {name} is what colour?",
        "What colour is the {name} in the picture?",
        "Which colour does the {name} have?",
    ),
    "colour many": (
        "What colour are the {name}?",
        "Which colour are the {name}?",
        "What is the colour of the {name}?",
        "What colour do the {name} have?",
        "Tell me the colour of the {name}.",
        "What colour are the {name} in the picture?",
    ),
    "shape one": (
        "Which shape is {colour}?",
        "What shape is {colour}?",
        "What is the {colour} thing?",
        "What is the {colour} shape?",
        "What shape is the {colour} one?",
        "Which thing is {colour}?",
        "What is {colour} in the picture?",
        "What shape does the {colour} thing have?",
        "What {colour} shape is there?",
    ),
    "shape many": (
        "Which shapes are {colour}?",
        "What shapes are {colour}?",
        "What are the {colour} things?",
        "What are the {colour} shapes?",
        "What shape are the {colour} ones?",
        "Which things are {colour}?",
        "What kind of shapes are the {colour} ones?",
    ),
    "count": (
        "How many {names} are there?",
        "How many {names} are in the picture?",
        "How many {names} do you see?",
        "How many {names} can you see in the picture?",
        "Count the {names}.",
        "What is the number of {names}?",
        "How many {names}?",
        "Tell me how many {names} there are.",
    ),
    "is there": (
        "Is there {name}?",
        "Is there {name} in the picture?",
        "Do you see {name}?",
        "Can you see {name} in the picture?",
        "Does the picture show {name}?",
        "Does the picture contain {name}?",
        "Can you find {name}?",
    ),
    "is it colour": (
        "Is the {name} {colour}?",
        "Is the colour of the {name} {colour}?",
        "Is the {name} in the picture {colour}?",
        "Is {colour} the colour of the {name}?",
        "Would you say the {name} is {colour}?",
        "Does the {name} have the colour {colour}?",
    ),
    "are there": (
        "Are there {number} {names}?",
        "Are there {number} {names} in the picture?",
        "Do you see {number} {names}?",
        "Can you see {number} {names}?",
        "Does the picture show {number} {names}?",
        "Is the number of {names} {number}?",
    ),
    "is there text": (
        "Is there any text?",
        "Is there any text in the picture?",
        "Is something written in the picture?",
        "Is anything printed there?",
        "Do you see any text?",
        "Does the picture have text in it?",
        "Are there letters or numbers in the picture?",
    ),
    "place": (
        "Where is the {name}?",
        "Where is the {name} in the picture?",
        "Where do you see the {name}?",
        "In which part of the picture is the {name}?",
        "Where can I find the {name}?",
        "Tell me where the {name} is.",
        "In what place is the {name}?",
        "What is the position of the {name}?",
    ),
    "at place": (
        "What is {place}?",
        "What is {place} of the picture?",
        "What do you see {place}?",
        "What can you see {place} of the picture?",
        "Which thing is {place}?",
        "Tell me what is {place}.",
        "What is there {place}?",
    ),
    "description": (
        "What is in this picture?",
        "Describe the picture.",
        "What do you see?",
        "What can you see in this picture?",
        "What does the picture show?",
        "Tell me what is in the picture.",
        "What is this?",
        "Please describe this picture.",
        "Describe this picture for me.",
        "What's in the picture?",
        "What is there in the picture?",
        "Can you describe the picture?",
    ),
    "reading": (
        "What does it say?",
        "What is written in the picture?",
        "Read the text.",
        "What does the text say?",
        "What text is in the picture?",
        "What is printed in the picture?",
        "Can you read the text?",
        "What does the picture say?",
        "Which text do you see?",
        "Read what is written there.",
    ),
    "reading word": (
        "What word is this?",
        "Which word is in the picture?",
        "What does the word say?",
        "Read the word.",
        "Which letters do you see?",
        "What is the word?",
    ),
    "reading number": (
        "What number is this?",
        "Which number is in the picture?",
        "What does the number say?",
        "Read the number.",
        "Which number do you see?",
        "What is the number?",
    ),
    "its colour": (
        "And what colour is it?",
        "What colour is it?",
        "Which colour is it?",
        "And its colour?",
        "What colour does it have?",
        "Tell me its colour.",
        "What is its colour?",
    ),
    "its place": (
        "Where is it?",
        "And where is it?",
        "Where is it in the picture?",
        "In which part of the picture is it?",
        "Where can I find it?",
        "And its place?",
        "Tell me where it is.",
    ),
    "its shape": (
        "What shape is it?",
        "And what shape is it?",
        "Which shape is it?",
        "And its shape?",
        "What shape does it have?",
        "Tell me its shape.",
        "What is it?",
    ),
    "its text": (
        "What does it say?",
        "And what does it say?",
        "Can you read it?",
        "Read it.",
        "What is it?",
        "Tell me what it says.",
    ),
    "chat": (
        "Hello",
        "Hello!",
        "Hi there",
        "Hi!",
        "Hey",
        "Good morning",
        "How are you?",
        "Who are you?",
        "What are you?",
        "What can you do?",
        "What do you know?",
        "Can you help me?",
        "Help",
        "Thank you!",
        "Who made you?",
        "Who is the president?",
        "Write a poem.",
        "Tell me a joke.",
        "Tell me a story.",
        "What is the capital of France?",
        "What time is it?",
        "What is the weather like?",
        "Write a program in Python.",
        "Translate this into German.",
        "How old are you?",
        "Who is in this picture?",
        "What is the meaning of life?",
        "Where was this picture taken?",
        "Who painted this picture?",
        "Sing a song.",
    ),
}


def _worded(key: str, rng: random.Random, **parts: str) -> str:
    """One way to ask, spelled and punctuated as people do."""
    text = rng.choice(_ASK[key]).format(**parts)
    if key != "chat" and rng.random() < 0.5:
        text = text.replace("colour", "color")
    text = text.replace("picture", rng.choice(("picture", "picture", "image", "photo", "drawing")))
    if rng.random() < 0.15:
        text = text[0].lower() + text[1:] if rng.random() < 0.3 else text.lower()
    if rng.random() < 0.15:
        text = text.rstrip("?.")
    return text


def _plural(kind: str) -> str:
    return kind + ("es" if kind.endswith("s") else "s")


def _with_article(name: str) -> str:
    return ("an " if name[0] in "aeiou" else "a ") + name


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _counted(count: int, one: str, many: str) -> str:
    if count == 0:
        return f"There are no {many}."
    return f"There is 1 {one}." if count == 1 else f"There are {count} {many}."


# --- facts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Facts:
    """A scene as questions see it."""

    scene: Scene
    kinds: Counter[str] = field(init=False)
    colours: Counter[str] = field(init=False)
    pairs: Counter[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", Counter(shape.kind for shape in self.scene.shapes))
        object.__setattr__(self, "colours", Counter(shape.colour for shape in self.scene.shapes))
        object.__setattr__(self, "pairs", Counter((shape.colour, shape.kind) for shape in self.scene.shapes))

    @property
    def label(self) -> Label | None:
        return self.scene.label

    @property
    def noun(self) -> str:
        """What the printed text is called."""
        return "number" if self.label is not None and self.label.is_number else "word"

    def name(self, shape: Shape) -> str | None:
        """The shortest name that means this shape alone; None if none does."""
        if self.kinds[shape.kind] == 1:
            return shape.kind
        if self.pairs[shape.colour, shape.kind] == 1:
            return f"{shape.colour} {shape.kind}"
        return None

    def is_only_colour(self, colour: str) -> bool:
        """Whether exactly one thing, printed text included, has this colour, and it is a shape."""
        return self.colours[colour] == 1 and not self.is_printed_in(colour)

    def is_printed_in(self, colour: str) -> bool:
        return self.label is not None and self.label.colour == colour

    def place(self, thing: Shape | Label) -> str | None:
        """Where a thing's centre is, in words; None too close to a border to say."""
        across, down = thing.x / self.scene.width, thing.y / self.scene.height
        if any(abs(part - border) < _BORDER for part in (across, down) for border in (1 / 3, 2 / 3)):
            return None
        return PLACES[int(down * 3)][int(across * 3)]


def _reading_order(scene: Scene, thing: Shape | Label) -> tuple[int, float]:
    return int(thing.y / scene.height * 3), thing.x / scene.width


def describe(scene: Scene) -> str:
    """All that is in a scene, in one sentence.

    In reading order (top, middle and bottom third, each from left to right); equal shapes are put together where the
    first of them is; the printed text stands where it is.
    """
    things: list[Shape | Label] = [*scene.shapes]
    if scene.label is not None:
        things.append(scene.label)
    pairs = Counter((thing.colour, thing.kind) for thing in scene.shapes)
    parts: dict[str, None] = {}  # an ordered set: the second of equal shapes adds nothing
    for thing in sorted(things, key=lambda thing: _reading_order(scene, thing)):
        if isinstance(thing, Label):
            parts[f"the {'number' if thing.is_number else 'word'} {thing.text}"] = None
            continue
        count = pairs[thing.colour, thing.kind]
        if count == 1:
            parts[_with_article(f"{thing.colour} {thing.kind}")] = None
        else:
            parts[f"{_NUMBERS[count]} {thing.colour} {_plural(thing.kind)}"] = None
    return f"I see {_joined(list(parts))}." if parts else NOTHING


# --- one question per ability; None where the scene does not allow it -------------------------------------------------


def _absent(present: Counter[str], names: tuple[str, ...], rng: random.Random) -> str | None:
    missing = [name for name in names if not present[name]]
    return rng.choice(missing) if missing else None


def _ask_colour(facts: _Facts, rng: random.Random) -> _Asked | None:
    if rng.random() < _ABSENT:
        kind = _absent(facts.kinds, KINDS, rng)
        if kind is None:
            return None
        question = (
            _worded("colour one", rng, name=kind)
            if rng.random() < 0.7
            else _worded("colour many", rng, name=_plural(kind))
        )
        return _Asked(Turn(question, f"I see no {kind}.", "colour"))
    if facts.label is not None and rng.random() < 0.3:
        subject = _Subject(facts.noun, facts.label, frozenset({"kind", "colour"}))
        answer = f"The {facts.noun} is {facts.label.colour}."
        return _Asked(Turn(_worded("colour one", rng, name=facts.noun), answer, "colour"), subject)
    if not facts.kinds:
        return None
    kind = rng.choice(sorted(facts.kinds))
    shapes = [shape for shape in facts.scene.shapes if shape.kind == kind]
    colour = shapes[0].colour
    if len(shapes) == 1:
        answer = f"The {kind} is {colour}."
        subject = _Subject(kind, shapes[0], frozenset({"kind", "colour"}))
        return _Asked(Turn(_worded("colour one", rng, name=kind), answer, "colour"), subject)
    if any(shape.colour != colour for shape in shapes):
        return None
    answer = f"The {_plural(kind)} are {colour}."
    return _Asked(Turn(_worded("colour many", rng, name=_plural(kind)), answer, "colour"))


def _ask_shape(facts: _Facts, rng: random.Random) -> _Asked | None:
    if rng.random() < _ABSENT:
        colour = _absent(facts.colours, COLOURS, rng)
        if colour is None or facts.is_printed_in(colour):
            return None
        return _Asked(Turn(_worded("shape one", rng, colour=colour), f"I see nothing {colour}.", "shape"))
    if not facts.colours:
        return None
    colour = rng.choice(sorted(facts.colours))
    shapes = [shape for shape in facts.scene.shapes if shape.colour == colour]
    kind = shapes[0].kind
    if facts.is_printed_in(colour) or any(shape.kind != kind for shape in shapes):
        return None
    if len(shapes) > 1:
        answer = f"The {colour} ones are {_plural(kind)}."
        return _Asked(Turn(_worded("shape many", rng, colour=colour), answer, "shape"))
    subject = _Subject(f"{colour} one", shapes[0], frozenset({"kind", "colour"}))
    answer = f"The {colour} one is {_with_article(kind)}."
    return _Asked(Turn(_worded("shape one", rng, colour=colour), answer, "shape"), subject)


def _only_subject(shapes: list[Shape], name: str, known: set[str]) -> _Subject | None:
    return _Subject(name, shapes[0], frozenset(known)) if len(shapes) == 1 else None


def _ask_count(facts: _Facts, rng: random.Random) -> _Asked | None:
    asked = _any_count(facts, rng)
    if asked is not None and asked.turn.answer.startswith("There is 1 ") and rng.random() < 0.4:
        return None  # one of a sort is what most scenes have; the other numbers are to be learned as well
    return asked


def _any_count(facts: _Facts, rng: random.Random) -> _Asked | None:
    absent = rng.random() < 0.1 or not facts.kinds
    what = rng.choices(("kind", "colour", "pair", "all"), (8, 5, 4, 3))[0]
    if what == "all":
        total = len(facts.scene.shapes)
        return _Asked(Turn(_worded("count", rng, names="shapes"), _counted(total, "shape", "shapes"), "count"))
    if what == "kind":
        # Each kind as often as it has shapes: else most answers would be 1.
        kind = _absent(facts.kinds, KINDS, rng) if absent else rng.choice(facts.scene.shapes).kind
        if kind is None:
            return None
        shapes = [shape for shape in facts.scene.shapes if shape.kind == kind]
        turn = Turn(_worded("count", rng, names=_plural(kind)), _counted(len(shapes), kind, _plural(kind)), "count")
        return _Asked(turn, _only_subject(shapes, kind, {"kind"}))
    if what == "colour":
        colour = _absent(facts.colours, COLOURS, rng) if absent else rng.choice(facts.scene.shapes).colour
        if colour is None:
            return None
        shapes = [shape for shape in facts.scene.shapes if shape.colour == colour]
        # A printed word is a thing too; only "shapes" leaves it out for certain.
        thing = "shapes" if facts.is_printed_in(colour) else rng.choice(("shapes", "things"))
        answer = _counted(len(shapes), f"{colour} shape", f"{colour} shapes")
        turn = Turn(_worded("count", rng, names=f"{colour} {thing}"), answer, "count")
        return _Asked(turn, _only_subject(shapes, f"{colour} one", {"colour"}) if thing == "things" else None)
    if absent:
        colour, kind = _absent_pair(facts, rng)
    else:
        shape = rng.choice(facts.scene.shapes)
        colour, kind = shape.colour, shape.kind
    shapes = [shape for shape in facts.scene.shapes if (shape.colour, shape.kind) == (colour, kind)]
    answer = _counted(len(shapes), f"{colour} {kind}", f"{colour} {_plural(kind)}")
    turn = Turn(_worded("count", rng, names=f"{colour} {_plural(kind)}"), answer, "count")
    return _Asked(turn, _only_subject(shapes, f"{colour} {kind}", {"kind", "colour"}))


def _absent_pair(facts: _Facts, rng: random.Random) -> tuple[str, str]:
    """Colour and kind of a shape that is not there, mostly one whose colour or kind, or both, are."""
    while True:
        present = facts.scene.shapes
        manner = rng.random() if present else 1.0
        colour = rng.choice(present).colour if manner < 0.65 else rng.choice(COLOURS)
        kind = rng.choice(present).kind if manner < 0.35 or 0.65 <= manner < 0.9 else rng.choice(KINDS)
        if not facts.pairs[colour, kind]:
            return colour, kind
        if rng.random() < 0.2:  # every pair of what is there may be there
            present = ()
            colour, kind = rng.choice(COLOURS), rng.choice(KINDS)
            if not facts.pairs[colour, kind]:
                return colour, kind


def _is_there_pair(facts: _Facts, rng: random.Random, yes: bool) -> _Asked | None:
    if not yes:
        colour, kind = _absent_pair(facts, rng)
        question = _worded("is there", rng, name=_with_article(f"{colour} {kind}"))
        return _Asked(Turn(question, f"No, there is no {colour} {kind}.", "yes_no"))
    if not facts.scene.shapes:
        return None
    shape = rng.choice(facts.scene.shapes)
    name = f"{shape.colour} {shape.kind}"
    turn = Turn(_worded("is there", rng, name=_with_article(name)), f"Yes, there is {_with_article(name)}.", "yes_no")
    same = [other for other in facts.scene.shapes if (other.colour, other.kind) == (shape.colour, shape.kind)]
    return _Asked(turn, _only_subject(same, name, {"kind", "colour"}))


def _is_there_kind(facts: _Facts, rng: random.Random, yes: bool) -> _Asked | None:
    kind = rng.choice(sorted(facts.kinds)) if yes and facts.kinds else _absent(facts.kinds, KINDS, rng)
    if kind is None or bool(facts.kinds[kind]) != yes:
        return None
    question = _worded("is there", rng, name=_with_article(kind))
    if not yes:
        return _Asked(Turn(question, f"No, there is no {kind}.", "yes_no"))
    shapes = [shape for shape in facts.scene.shapes if shape.kind == kind]
    turn = Turn(question, f"Yes, there is {_with_article(kind)}.", "yes_no")
    return _Asked(turn, _only_subject(shapes, kind, {"kind"}))


def _is_there_colour(facts: _Facts, rng: random.Random, yes: bool) -> _Asked | None:
    colour = rng.choice(sorted(facts.colours)) if yes and facts.colours else _absent(facts.colours, COLOURS, rng)
    if colour is None or bool(facts.colours[colour]) != yes or facts.is_printed_in(colour):
        return None
    question = _worded("is there", rng, name=rng.choice((f"something {colour}", f"anything {colour}")))
    if not yes:
        return _Asked(Turn(question, f"No, there is nothing {colour}.", "yes_no"))
    shapes = [shape for shape in facts.scene.shapes if shape.colour == colour]
    turn = Turn(question, f"Yes, there is something {colour}.", "yes_no")
    return _Asked(turn, _only_subject(shapes, f"{colour} one", {"colour"}))


def _is_it_colour(facts: _Facts, rng: random.Random, yes: bool) -> _Asked | None:
    things: list[Shape | Label] = [shape for shape in facts.scene.shapes if facts.kinds[shape.kind] == 1]
    if facts.label is not None:
        things.append(facts.label)
    if not things:
        return None
    thing = rng.choice(things)
    name = facts.noun if isinstance(thing, Label) else thing.kind
    # A wrong colour is the harder to deny where something else has it.
    nearby = [other for other in facts.colours if other != thing.colour]
    wrong = rng.choice(sorted(nearby)) if nearby and rng.random() < 0.6 else rng.choice(COLOURS)
    colour = thing.colour if yes else wrong
    if not yes and colour == thing.colour:
        return None
    answer = f"{'Yes' if yes else 'No'}, the {name} is {thing.colour}."
    turn = Turn(_worded("is it colour", rng, name=name, colour=colour), answer, "yes_no")
    return _Asked(turn, _Subject(name, thing, frozenset({"kind", "colour"})))


def _are_there_so_many(facts: _Facts, rng: random.Random, yes: bool) -> _Asked | None:
    if not facts.kinds:
        return None
    kind = rng.choice(sorted(facts.kinds))
    count = facts.kinds[kind]
    number = count if yes else max(2, count + rng.choice((-2, -1, 1, 1, 2)))
    if number < 2 or (number == count) != yes:
        return None
    question = _worded("are there", rng, number=str(number), names=_plural(kind))
    fact = _counted(count, kind, _plural(kind))
    answer = f"{'Yes' if yes else 'No'}, {fact[0].lower()}{fact[1:]}"
    shapes = [shape for shape in facts.scene.shapes if shape.kind == kind]
    return _Asked(Turn(question, answer, "yes_no"), _only_subject(shapes, kind, {"kind"}))


def _is_there_text(facts: _Facts, rng: random.Random, yes: bool) -> _Asked | None:
    if (facts.label is not None) != yes:
        return None
    question = _worded("is there text", rng)
    if facts.label is None:
        return _Asked(Turn(question, "No, there is no text.", "yes_no"))
    subject = _Subject(facts.noun, facts.label, frozenset({"kind"}))
    return _Asked(Turn(question, f"Yes, there is a {facts.noun}.", "yes_no"), subject)


def _ask_yes_no(facts: _Facts, rng: random.Random) -> _Asked | None:
    yes = rng.random() < 0.5
    askers = (
        _is_there_pair,
        _is_there_kind,
        _is_there_colour,
        _is_it_colour,
        _are_there_so_many,
        _is_there_text,
    )
    # "No" could be asked of more scenes than "yes", most of which have no text.
    weights = (8, 4, 3, 5, 4, 2 if facts.label is not None else 1)
    for _ in range(6):  # the wish for yes or no stays, so that both are about as frequent
        asked = rng.choices(askers, weights)[0](facts, rng, yes)
        if asked is not None:
            return asked
    return None


def _ask_place(facts: _Facts, rng: random.Random) -> _Asked | None:
    if rng.random() < _ABSENT:
        kind = _absent(facts.kinds, KINDS, rng)
        return _Asked(Turn(_worded("place", rng, name=kind), f"I see no {kind}.", "place")) if kind else None
    if rng.random() < 0.28:
        return _ask_at_place(facts, rng)
    if facts.label is not None and rng.random() < 0.25:
        place = facts.place(facts.label)
        if place is None:
            return None
        turn = Turn(_worded("place", rng, name=facts.noun), f"The {facts.noun} is {place}.", "place")
        return _Asked(turn, _Subject(facts.noun, facts.label, frozenset({"kind", "place"})))
    if not facts.scene.shapes:
        return None
    shape = rng.choice(facts.scene.shapes)
    place = facts.place(shape)
    if place is not None and facts.is_only_colour(shape.colour) and rng.random() < 0.25:
        asked_as = f"{shape.colour} {rng.choice(('thing', 'one', 'shape'))}"
        turn = Turn(_worded("place", rng, name=asked_as), f"The {shape.colour} one is {place}.", "place")
        return _Asked(turn, _Subject(f"{shape.colour} one", shape, frozenset({"colour", "place"})))
    name = facts.name(shape)
    if place is None or name is None:
        return None
    known = {"kind", "place"} | ({"colour"} if " " in name else set())
    turn = Turn(_worded("place", rng, name=name), f"The {name} is {place}.", "place")
    return _Asked(turn, _Subject(name, shape, frozenset(known)))


def _ask_at_place(facts: _Facts, rng: random.Random) -> _Asked | None:
    """Asks what is at a place where one thing is for certain, and nothing else nearly is."""
    things: list[Shape | Label] = [*facts.scene.shapes]
    if facts.label is not None:
        things.append(facts.label)
    if not things:
        return None
    thing = rng.choice(things)
    place = facts.place(thing)
    if place is None:
        return None
    row, column = int(thing.y / facts.scene.height * 3), int(thing.x / facts.scene.width * 3)

    def is_nearly_there(other: Shape | Label) -> bool:
        across, down = other.x / facts.scene.width, other.y / facts.scene.height
        in_row = row / 3 - _BORDER <= down <= (row + 1) / 3 + _BORDER
        in_column = column / 3 - _BORDER <= across <= (column + 1) / 3 + _BORDER
        # "At the top" may also mean the whole top, "on the left" the whole left side.
        if column == 1 and row != 1:
            return in_row
        if row == 1 and column != 1:
            return in_column
        return in_row and in_column

    if any(is_nearly_there(other) for other in things if other is not thing):
        return None
    name = facts.noun if isinstance(thing, Label) else f"{thing.colour} {thing.kind}"
    answer = f"{_with_article(name).capitalize()} is {place}."
    question = _worded("at place", rng, place=place)
    if isinstance(thing, Label):
        return _Asked(Turn(question, answer, "place"), _Subject(name, thing, frozenset({"kind", "place"})))
    return _Asked(Turn(question, answer, "place"))


def _ask_description(facts: _Facts, rng: random.Random) -> _Asked | None:
    turn = Turn(_worded("description", rng), describe(facts.scene), "description")
    if len(facts.scene.shapes) == 1 and facts.label is None:
        shape = facts.scene.shapes[0]
        return _Asked(turn, _Subject(shape.kind, shape, frozenset({"kind", "colour"})))
    if not facts.scene.shapes and facts.label is not None:
        return _Asked(turn, _Subject(facts.noun, facts.label, frozenset({"kind", "text"})))
    return _Asked(turn)


def _ask_reading(facts: _Facts, rng: random.Random) -> _Asked | None:
    if facts.label is None:
        key = rng.choices(("reading", "reading word", "reading number"), (3, 1, 1))[0]
        return _Asked(Turn(_worded(key, rng), NO_TEXT, "reading"))
    key = "reading" if rng.random() < 0.65 else f"reading {facts.noun}"
    subject = _Subject(facts.noun, facts.label, frozenset({"kind", "text"}))
    return _Asked(Turn(_worded(key, rng), f'It says "{facts.label.text}".', "reading"), subject)


def _ask_follow_up(facts: _Facts, rng: random.Random, subject: _Subject) -> _Asked | None:
    """Asks on about the thing of the turn before; the answer names it."""
    thing, name = subject.thing, subject.name
    place = facts.place(thing)
    answers = {"colour": ("its colour", f"The {name} is {thing.colour}.")}
    if place is not None:
        answers["place"] = ("its place", f"The {name} is {place}.")
    if isinstance(thing, Label):
        answers["text"] = ("its text", f'It says "{thing.text}".')
    else:
        answers["kind"] = ("its shape", f"The {name} is {_with_article(thing.kind)}.")
    unknown = [aspect for aspect in answers if aspect not in subject.known]
    if not unknown:
        return None
    aspect = rng.choice(unknown)
    key, answer = answers[aspect]
    asked_on = replace(subject, known=subject.known | {aspect})
    return _Asked(Turn(_worded(key, rng), answer, "follow_up"), asked_on)


def _ask_chat(facts: _Facts, rng: random.Random) -> _Asked | None:
    return _Asked(Turn(_worded("chat", rng), CHAT_ANSWER, "chat"))


_ASKERS: dict[str, Callable[[_Facts, random.Random], _Asked | None]] = {
    "colour": _ask_colour,
    "shape": _ask_shape,
    "count": _ask_count,
    "yes_no": _ask_yes_no,
    "place": _ask_place,
    "description": _ask_description,
    "reading": _ask_reading,
    "chat": _ask_chat,
}


def _weights(facts: _Facts, subject: _Subject | None) -> dict[str, float]:
    # Description and reading have one answer per scene and are asked once, so their weight is the chance of that.
    return {
        "colour": 4.6,
        "shape": 3.6,
        "count": 2.9,
        "yes_no": 2.1,
        "place": 5.6,
        "description": 6.0,
        "reading": 12.0 if facts.label is not None else 0.6,
        "follow_up": 9.0 if subject is not None else 0.0,
        "chat": 0.35,
    }


def conversation_about(scene: Scene, rng: random.Random, turns: int = 6) -> list[Turn]:
    """Asks several questions about one picture, with no answer twice while there are others left.

    Args:
        scene: what the picture shows.
        rng: decides what is asked, and how.
        turns: how many questions.

    Returns:
        That many turns, in an order that follow-up questions ("Where is it?") depend on.
    """
    facts = _Facts(scene)
    conversation: list[Turn] = []
    subject: _Subject | None = None
    said: set[str] = set()
    tries = 0
    while len(conversation) < turns:
        tries += 1
        weights = _weights(facts, subject)
        ability = rng.choices(list(weights), list(weights.values()))[0]
        if ability == "follow_up":
            asked = _ask_follow_up(facts, rng, subject) if subject is not None else None
        else:
            asked = _ASKERS[ability](facts, rng)
        if asked is None or (asked.turn.answer in said and tries < 20 * turns):
            continue
        conversation.append(asked.turn)
        said.add(asked.turn.answer)
        subject = asked.subject
    return conversation


def corpus(rng: random.Random, n: int) -> Iterator[str]:
    """Yields n texts, questions and answers by turns, to train a tokenizer on.

    Printed words are spelled with spaces between their characters ("C A T"): reading is one character at a time, and a
    tokenizer that had merged some of them would have to guess where.
    """
    given = 0
    while given < n:
        scene = random_scene(rng)
        for turn in conversation_about(scene, rng):
            for text in (turn.question, turn.answer):
                if given == n:
                    return
                given += 1
                yield text if scene.label is None else _spelled(text, scene.label.text)


def _spelled(text: str, printed: str) -> str:
    for mark in ('"{}"', "word {}", "number {}"):  # only where the answer quotes it; "There are 3" stays
        text = text.replace(mark.format(printed), mark.format(" ".join(printed)))
    return text
