"""Videos of MiniCPM-V 4.6 and 4.7 through the engine, whose models and processors are transformers'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from omnilmm.conversation import Conversation, Picture, Video
from omnilmm.engine.events import Finished, Progress
from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import BeamSearch, Options, Sampling
from omnilmm.errors import InputError
from omnilmm.images.videos import open_video
from omnilmm.model_lookup import find
from omnilmm.versions import AS_PICTURES
from tests.images.drawn_videos import drawn, numbered
from tests.models.tiny_library import save_library_model

GREEDY = Sampling(top_k=1, seed=0, max_new_tokens=6)
FINER = Sampling(top_k=1, seed=0, max_new_tokens=6, finer_detail=True)
PICTURE = Picture(numbered(7, (300, 100)))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = drawn(tmp_path_factory.mktemp("video") / "a.mp4", 40, 10, (320, 240))
    return found


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LocalEngine]:
    folders: dict[str, Path] = {}

    def engine(name: str, **arguments: int) -> LocalEngine:
        if name not in folders:
            folders[name] = save_library_model(tmp_path_factory.mktemp("models") / name, name)
        return load_engine(str(folders[name]), "cpu", "fp32", **arguments)

    return engine


def asked(engine: LocalEngine, conversation: Conversation, options: Options) -> tuple[Finished, list[Progress]]:
    *before, last = engine.stream(conversation, options, "me")
    assert isinstance(last, Finished)
    return last, [event for event in before if isinstance(event, Progress)]


@pytest.mark.parametrize("name", ["minicpm-v-4.6", "minicpm-v-4.7"])
def test_reused_is_recomputed(name: str, load: Callable[..., LocalEngine], path: Path) -> None:
    engine, forgetful = load(name), load(name, prefix_cache_mib=0)
    video = open_video(path, engine.card.require_video())
    assert video.times_s == (0.0, 1.0, 2.0, 3.0)
    said = {}
    for options in (GREEDY, FINER, BeamSearch(max_new_tokens=5)):
        conversation = Conversation()
        for number, question in enumerate(([video, "What?"], ["And then?"], [PICTURE, "Is this in it?"])):
            conversation = conversation.with_message("user", *question)
            (found, told), (anew, _) = (asked(which, conversation, options) for which in (engine, forgetful))
            assert found.text == anew.text
            assert (found.usage.reused > 0) == (number == 1)
            assert ("frames", 4) in [(event.stage, event.total) for event in told] or number == 1
            assert engine.backend.length(conversation, options) == found.usage.text_tokens + found.usage.picture_tokens
            said[type(options), options.finer_detail, number] = found
            conversation = conversation.with_message("assistant", found.text)
    usual, finer = (said[Sampling, wish, 0].usage.picture_tokens for wish in (None, True))
    assert 3 * usual < finer <= 4 * usual


def test_frames_are_seen_in_order_and_nothing_is_numbered(load: Callable[..., LocalEngine], path: Path) -> None:
    engine = load("minicpm-v-4.6")
    video = open_video(path, engine.card.require_video())
    backwards = Video(video.frames[::-1], video.times_s, video.duration_s, video.size)
    both, other = (Conversation().with_message("user", one, PICTURE, "?") for one in (video, backwards))
    alone = Conversation().with_message("user", PICTURE, "?")
    prompts = [
        engine.backend.tokenizer.decode(engine.backend.inputs(conversation)["input_ids"][0])
        for conversation in (both, alone)
    ]
    assert "<image_id>" in prompts[1] and "<image_id>" not in prompts[0]
    assert prompts[0].count("<image>") == 4 + 1 and prompts[0].count("<slice>") == prompts[1].count("<slice>") > 0
    pixels, turned = (engine.backend.inputs(conversation)["pixel_values_videos"] for conversation in (both, other))
    assert pixels.shape == turned.shape and not pixels.equal(turned)


def test_with_finer_detail_fewer_frames_fit_into_the_context(load: Callable[..., LocalEngine], path: Path) -> None:
    card = load("minicpm-v-4.6").card
    usual, finer = card.require_video(), card.require_video(finer_detail=True)
    assert usual.most > 3 * finer.most > 0 and usual.multiple == 56


def test_models_that_take_no_videos_say_so(load: Callable[..., LocalEngine], path: Path) -> None:
    asking = Conversation().with_message("user", open_video(path, AS_PICTURES), "?")
    qwen, blind = load("qwen2-vl"), load("minicpm-v-4.6")
    with pytest.raises(InputError, match=r"cannot look at videos here.*MiniCPM-V 4\.6"):
        next(qwen.stream(asking, GREEDY))
    blind.backend.template.places_videos = False  # a template that leaves videos out
    with pytest.raises(InputError, match="This model cannot look at videos"):
        list(blind.stream(asking, GREEDY))
    assert find("minicpm-v-4.6").video and find("minicpm-v-4.7").video
