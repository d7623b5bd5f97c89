"""How a model sees a video, as HTML: the frames with their times, and their number of tokens."""

from __future__ import annotations

import html

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Video
from omnilmm.images.video_sampling import groups_of
from omnilmm.ui.embedding import data_address
from omnilmm.ui.film_strip import COLUMNS_BESIDE, strip
from omnilmm.ui.texts import Texts


def seen_frames(video: Video, card: ModelCard, finer_detail: bool | None = None) -> tuple[list[int], int]:
    """Return which frames of a video a model sees, and about how many tokens they take.

    Args:
        video: the video.
        card: the card of the model.
        finer_detail: whether each frame gets four times as many tokens.

    Raises:
        InputError: The model does not support videos.
    """
    groups = groups_of(video, card.require_video(finer_detail))
    return [place for group in groups for place in group], len(groups) * card.frame_tokens(finer_detail)


def video_line(video: Video, card: ModelCard, texts: Texts, finer_detail: bool | None = None) -> str:
    """Return the number of frames, the times of the first and the last, and their number of tokens."""
    places, tokens = seen_frames(video, card, finer_detail)
    first, last = video.times_s[places[0]], video.times_s[places[-1]]
    return texts.video_line(len(places), tokens, card.context, first, last)


def video_figure(video: Video, card: ModelCard, texts: Texts, finer_detail: bool | None = None) -> str:
    """Return the same line with the frames."""
    name = html.escape(texts.video_name(video))
    if not card.video:  # another model was chosen meanwhile
        return f"<p>{name}</p>"
    source = data_address(strip(video, seen_frames(video, card, finer_detail)[0], COLUMNS_BESIDE))
    line = html.escape(video_line(video, card, texts, finer_detail))
    return f'<figure><img class="strip" src="{source}" alt="{name}"><figcaption>{name}<br>{line}</figcaption></figure>'
