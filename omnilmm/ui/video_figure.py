"""How a model sees a video, as HTML: the frames with their times, and their number of tokens."""

from __future__ import annotations

import html

from omnilmm.catalog import FRAME_TOKENS, ModelCard
from omnilmm.conversation import Video
from omnilmm.images.video_sampling import groups_of
from omnilmm.ui.embedding import data_address
from omnilmm.ui.film_strip import strip
from omnilmm.ui.texts import Texts


def seen_frames(video: Video, card: ModelCard) -> tuple[list[int], int]:
    """Return which frames of a video a model sees, and about how many tokens they take.

    Raises:
        InputError: The model does not support videos.
    """
    groups = groups_of(video, card.require_video())
    return [place for group in groups for place in group], len(groups) * FRAME_TOKENS


def video_line(video: Video, card: ModelCard, texts: Texts) -> str:
    """Return the number of frames, the times of the first and the last, and their number of tokens."""
    places, tokens = seen_frames(video, card)
    first, last = video.times_s[places[0]], video.times_s[places[-1]]
    return texts.video_line(len(places), tokens, card.context, first, last)


def video_figure(video: Video, card: ModelCard, texts: Texts) -> str:
    """Return the same line with the frames."""
    name = html.escape(texts.video_name(video))
    if card.video_sampling is None:  # another model was chosen meanwhile
        return f"<p>{name}</p>"
    source = data_address(strip(video, seen_frames(video, card)[0]))
    line = html.escape(video_line(video, card, texts))
    return f'<figure><img class="strip" src="{source}" alt="{name}"><figcaption>{name}<br>{line}</figcaption></figure>'
