"""Printed texts are legible, and those of the evaluation are never seen in training."""

import random

from omnilmm.training.printing import CHARACTERS, LEAST_LETTER, is_held_out, printable_text
from omnilmm.training.scenes import Scene, random_scene


def test_printed_text_is_legible_in_the_shrunk_picture(scenes: list[Scene]) -> None:
    for scene in scenes:
        if scene.label is None:
            continue
        text = scene.label.text
        assert scene.label.height >= LEAST_LETTER * scene.unit
        assert (text.isdigit() and 1 <= len(text) <= 4) or (text.isalpha() and text.isupper() and 3 <= len(text) <= 6)
        assert all(character in CHARACTERS for character in text)
        # The real ink of every character is as high as promised (rounded parts and Q only make it higher).
        assert all(bottom - top > 0.9 * scene.label.height for _, top, _, bottom in scene.label.boxes)


def test_held_out_texts_are_never_in_training_and_always_in_evaluation(scenes: list[Scene]) -> None:
    assert not any(is_held_out(scene.label.text) for scene in scenes if scene.label)
    rng = random.Random(4)
    held_out = [random_scene(rng, held_out=True) for _ in range(200)]
    printed = [scene.label.text for scene in held_out if scene.label]
    assert len(printed) > 40
    assert all(is_held_out(text) for text in printed)
    assert any(text.isdigit() for text in printed) and any(text.isalpha() for text in printed)
    assert not any(is_held_out(digit) for digit in "0123456789")


def test_about_a_tenth_of_texts_is_held_out() -> None:
    rng = random.Random(5)
    texts = {printable_text(rng) for _ in range(2000)} | {printable_text(rng, held_out=True) for _ in range(2000)}
    random_letters = ["".join(rng.choices(CHARACTERS[:26], k=5)) for _ in range(4000)]
    assert 0.08 < sum(map(is_held_out, random_letters)) / 4000 < 0.12
    assert all(set(text) <= set(CHARACTERS) for text in texts)
