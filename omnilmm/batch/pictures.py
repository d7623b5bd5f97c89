"""Questions about pictures that a program holds: `OmniLMMChat.map`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from omnilmm.batch.answering import Prepare
from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation
from omnilmm.engine.options import Options
from omnilmm.errors import InputError
from omnilmm.images.sources import picture_from
from omnilmm.images.videos import is_video_file, open_video

_NONE_LEFT = object()


def about_each(
    card: ModelCard, pictures: Iterable[Any], question: str | Iterable[str], options: Options
) -> Iterator[Prepare]:
    """Yield what prepares the question about each picture; pictures are decoded only then.

    Args:
        card: of the model that answers.
        pictures: anything `picture_from` takes, or paths of videos.
        question: one for all, or one for each.
        options: for every answer.

    Raises:
        InputError: There are more pictures than questions, or the other way round.
    """
    if isinstance(question, str):
        yield from (partial(_prepared, card, picture, question, options) for picture in pictures)
        return
    for number, (picture, own) in enumerate(zip_longest(pictures, question, fillvalue=_NONE_LEFT)):
        if picture is _NONE_LEFT or own is _NONE_LEFT:
            raise InputError("map_lengths", count=number)
        yield partial(_prepared, card, picture, own, options)


def _prepared(card: ModelCard, source: Any, question: Any, options: Options) -> tuple[Conversation, Options]:
    if isinstance(source, str | Path) and is_video_file(source):
        return Conversation().with_message("user", open_video(source, card.require_video()), question), options
    return Conversation().with_message("user", picture_from(source), question), options
