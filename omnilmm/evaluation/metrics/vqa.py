"""The VQA score, used for TextVQA.

Source: VQA (arXiv:1505.00468), as in `process_line(method="vqa_score")` of VLMEvalKit, which, other than the first
evaluation code, removes punctuation even where all annotators agree.
"""

from __future__ import annotations

import re

from omnilmm.evaluation.metrics.base import Asked, Mark

AGREEING = 3  # an answer that so many annotators gave is right
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_IN_A_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"(?<!\d)\.(?!\d)")
_MOST_STOPS = 32  # the published code passes a flag where the limit of replacements belongs
_NUMBERS = {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
}
_NUMBERS["none"] = "0"
_ARTICLES = ("a", "an", "the")
# Each is written without one of its apostrophes, too; those that would be other words ("id", "its", "wed") are not.
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()


def _without_one_apostrophe() -> dict[str, str]:
    found = {
        word[:place] + word[place + 1 :]: word
        for word in _CONTRACTIONS
        for place, sign in enumerate(word)
        if sign == "'"
    }
    return found | {"somebody'd": "somebodyd"}  # so in the published table


_WRITTEN = _without_one_apostrophe()


def without_punctuation(text: str) -> str:
    """Return a text without punctuation: deleted beside a space or if a number has a comma, else replaced by a space.

    Full stops between digits stay.
    """
    has_number = _IN_A_NUMBER.search(text) is not None
    result = text
    for sign in _PUNCTUATION:
        is_beside_space = f"{sign} " in text or f" {sign}" in text
        result = result.replace(sign, "" if is_beside_space or has_number else " ")
    return _FULL_STOP.sub("", result, count=_MOST_STOPS)


def normalised(answer: str) -> str:
    """Return an answer in lower case without punctuation and articles, with digits for numbers up to ten."""
    words = without_punctuation(answer.replace("\n", " ").replace("\t", " ").strip()).lower().split()
    words = [_NUMBERS.get(word, word) for word in words]
    return " ".join(_WRITTEN.get(word, word) for word in words if word not in _ARTICLES)


def vqa_score(asked: Asked, answer: str) -> Mark:
    """Mark by the annotators who agree: the mean, over each one left out, of min(1, agreeing others / 3).

    With fewer than four annotators that could never be 1, so that there one who agrees is enough; the published code
    marks all answers to such questions lower.
    """
    given = normalised(answer)
    agree = [normalised(right) == given for right in asked.answers]
    if len(agree) <= AGREEING:
        return Mark(float(any(agree)), given)
    every = sum(agree)
    return Mark(sum(min(1.0, (every - own) / AGREEING) for own in agree) / len(agree), given)
