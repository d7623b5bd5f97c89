"""Photos and a model that knows drawings only: whether a conversation is about one, and which model is offered then."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.provider import ModelProvider
from omnilmm.images.photos import looks_like_photo
from omnilmm.ui.offer import Offer
from omnilmm.ui.texts import Texts

_looked_at: WeakKeyDictionary[Picture, bool] = WeakKeyDictionary()  # once for each picture, not for each turn


def is_about_a_photo(conversation: Conversation) -> bool:
    """Whether one of the newest pictures of a conversation, those that came together, looks like a photo."""
    newest = next((message.pictures for message in reversed(conversation.messages) if message.pictures), ())
    return any(_is_photo(picture) for picture in newest)


def _is_photo(picture: Picture) -> bool:
    if picture not in _looked_at:
        _looked_at[picture] = looks_like_photo(picture.image)
    return _looked_at[picture]


def offered_for_photos(offer: Offer | None, provider: ModelProvider) -> ModelCard | None:
    """What one click chooses for photos; None where the model of now knows them, or nothing can be chosen now.

    Args:
        offer: what visitors can choose from; None where they cannot choose.
        provider: of the model that answers now.
    """
    if offer is None or provider.is_changing or not provider.card.drawings_only:
        return None
    better = offer.better(provider)
    return better.card if better else None


def offer_label(offer: ModelCard, texts: Texts) -> str:
    """What the button of an offer says."""
    return f"{texts.best_model.format(model=offer.title)} ({offer.download_gib:g} GiB)"
