"""How things are said: the many ways to ask a question, and the grammar of the one way to answer it."""

import random

WAYS_TO_ASK: dict[str, tuple[str, ...]] = {
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


def worded(key: str, rng: random.Random, **parts: str) -> str:
    """One of WAYS_TO_ASK with its gaps filled in, spelled and punctuated as people do."""
    text = rng.choice(WAYS_TO_ASK[key]).format(**parts)
    if key != "chat" and rng.random() < 0.5:
        text = text.replace("colour", "color")
    text = text.replace("picture", rng.choice(("picture", "picture", "image", "photo", "drawing")))
    if rng.random() < 0.15:
        text = text[0].lower() + text[1:] if rng.random() < 0.3 else text.lower()
    if rng.random() < 0.15:
        text = text.rstrip("?.")
    return text


def plural(name: str) -> str:
    """Of "star" this is "stars", of "red cross" it is "red crosses"."""
    return name + ("es" if name.endswith("s") else "s")


def with_article(name: str) -> str:
    """Of "star" this is "a star", of "orange star" it is "an orange star"."""
    return ("an " if name[0] in "aeiou" else "a ") + name


def joined(parts: list[str]) -> str:
    """A list as it is spoken: "a star, a cross and the word CAT"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def counted(count: int, name: str) -> str:
    """The sentence that says how many there are."""
    if count == 0:
        return f"There are no {plural(name)}."
    return f"There is 1 {name}." if count == 1 else f"There are {count} {plural(name)}."
