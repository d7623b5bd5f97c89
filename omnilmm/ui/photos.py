"""Photos and models that know drawings only: whether a conversation is about a photo, and which model to offer then."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.provider import ModelProvider
from omnilmm.images.photos import looks_like_photo
from omnilmm.ui.offer import Offer
from omnilmm.ui.texts import Texts

_looked_at: WeakKeyDictionary[Picture, bool] = WeakKeyDictionary()  # checked once per picture, not per turn


def is_about_a_photo(conversation: Conversation) -> bool:
    """Return whether one of the newest pictures of a conversation, those sent together, looks like a photo."""
    newest = next((message.pictures for message in reversed(conversation.messages) if message.pictures), ())
    return any(_is_photo(picture) for picture in newest)


def _is_photo(picture: Picture) -> bool:
    if picture not in _looked_at:
        _looked_at[picture] = looks_like_photo(picture.image)
    return _looked_at[picture]


def offered_for_photos(offer: Offer | None, provider: ModelProvider) -> ModelCard | None:
    """Return the model that one click chooses for photos; None if the current one knows them, or none can be chosen.

    Args:
        offer: the models that visitors can choose from; None if they cannot choose.
        provider: provides the current model.
    """
    if offer is None or provider.is_changing or not provider.card.drawings_only:
        return None
    better = offer.better(provider)
    return better.card if better else None


def offer_label(offer: ModelCard, texts: Texts) -> str:
    """Return the label of the button of an offer."""
    return f"{texts.best_model.format(model=offer.title)} ({offer.download_gib:g} GiB)"
