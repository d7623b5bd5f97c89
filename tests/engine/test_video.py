"""A video through the engine: frames are encoded one after the other, reported and cached."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from omnilmm.archive import read_conversation, to_json
from omnilmm.conversation import Conversation, Picture, Video
from omnilmm.engine.events import Finished, Progress
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import BeamSearch, Options, Sampling
from omnilmm.errors import InputError
from omnilmm.hardware import Choice
from omnilmm.images.videos import open_video
from omnilmm.model_lookup import find
from omnilmm.versions import VideoSampling
from tests.images.drawn_videos import drawn, numbered
from tests.models.tiny import tiny_model, tiny_processor

GREEDY = Sampling(top_k=1, seed=0, max_new_tokens=8)
MODES: dict[str, Options] = {"greedy": GREEDY, "beam": BeamSearch(max_new_tokens=6)}
PICTURE = Picture(numbered(7, (190, 60)))


def engine_of(version: str, **caches: int) -> LocalEngine:
    card = find(f"minicpm-v-{version.removesuffix('.0')}").model_copy(update={"context": 2000, "max_new_tokens": 64})
    where = Choice("cpu", "test"), Choice("fp32", "test")
    return LocalEngine(tiny_model(version), tiny_processor(version), card, *where, **caches)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = drawn(tmp_path_factory.mktemp("video") / "a.mp4", 40, 10)
    return found


@pytest.fixture(autouse=True)
def _nothing_is_said_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a frame takes."""
    monkeypatch.setattr("omnilmm.engine.generation.HEARTBEAT_S", 60)


def video_for(engine: LocalEngine, path: Path) -> Video:
    return open_video(path, engine.card.require_video())


def answered(
    engine: LocalEngine, conversation: Conversation, options: Options = GREEDY
) -> tuple[Finished, list[Progress]]:
    events = list(engine.stream(conversation, options, "me"))
    assert isinstance(events[-1], Finished)
    return events[-1], [event for event in events if isinstance(event, Progress) and event.stage == "frames"]


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
@pytest.mark.parametrize("version", ["2.6", "4.0", "4.5"])
def test_reused_is_recomputed(version: str, options: Options, path: Path) -> None:
    engine, forgetful = engine_of(version), engine_of(version, feature_bytes=0, prefix_bytes=0)
    video = video_for(engine, path)
    conversation = Conversation()
    for question in ([video, "What happens?"], ["And then?"], [PICTURE, "Is this in it?"]):
        conversation = conversation.with_message("user", *question)
        (said, read), (anew, read_anew) = (
            answered(engine, conversation, options),
            answered(forgetful, conversation, options),
        )
        assert said.text == anew.text and said.usage.picture_tokens == anew.usage.picture_tokens
        frames = [event for event in read if event.done]
        first = len(conversation.messages) == 1
        assert [event.done for event in frames] == (list(range(1, len(video.frames) + 1)) if first else [])
        assert {event.total for event in frames} <= {len(video.frames)}
        assert first or said.usage.reused > len(video.frames) * 4
        assert [event.done for event in read_anew if event.done] == list(range(1, len(video.frames) + 1))
        conversation = conversation.with_message("assistant", said.text)


def test_groups_of_frames_are_read_together_and_their_times_count(path: Path) -> None:
    engine = engine_of("4.5")
    video = open_video(path, VideoSampling(100.0, 1000))
    engine.processor.video = VideoSampling(5.0, 14, packing=3, has_times=True)
    asked = Conversation().with_message("user", video, "?")
    _, read = answered(engine, asked)
    # 40 frames of 4 s, of which 5·4 > 14 asks for groups of 2; 14 groups hold 28 of them
    assert [event.done for event in read if event.done] == list(range(2, 41, 2)) or read[-1].total == 40
    inputs = engine.processor.inputs(asked)
    assert {len(times) for times in inputs["temporal_ids"]} == {2}
    assert int(inputs["image_slots"].sum()) == 4 * len(inputs["temporal_ids"])
    with torch.no_grad():
        features = engine.model.get_image_features(
            inputs["pixel_values"], inputs["target_sizes"], inputs["temporal_ids"]
        )
        later = [[time + 100 for time in times] for times in inputs["temporal_ids"]]
        others = engine.model.get_image_features(inputs["pixel_values"], inputs["target_sizes"], later)
        views = engine.processor.views(asked)
    assert float((features - others).abs().max()) > 0.05
    encoder = engine.backend.image_encoder  # type: ignore[attr-defined]
    with torch.inference_mode():
        alone = torch.cat(
            [list(encoder.encode(view, key))[-1] for view, key in zip(views, encoder.keys(views), strict=True)]
        )
    assert torch.allclose(alone, features, atol=1e-5)


def test_pictures_beside_a_video_keep_their_slices_and_nothing_is_numbered(path: Path) -> None:
    engine = engine_of("4.5")
    video = video_for(engine, path)
    alone = engine.processor.apply_chat_template(Conversation().with_message("user", PICTURE, "?"))
    both = engine.processor.apply_chat_template(Conversation().with_message("user", video, PICTURE, "?"))
    assert "<image_id>" in alone and "<image_id>" not in both
    assert both.count("<image>") == len(video.frames) + 1 and both.count("<slice>") == alone.count("<slice>") > 0
    place = "<image><unk><unk><unk><unk></image>\n"
    assert both.startswith("<|im_start|>user\n" + place * len(video.frames) + place.strip())
    answered(engine, Conversation().with_message("user", video, PICTURE, "?"))


def test_a_model_that_sees_no_videos_says_which_do(path: Path) -> None:
    video = open_video(path, VideoSampling(1.0, 64))
    for name in ("minicpm-v-1", "minicpm-v-2", "minicpm-llama3-v-2.5", "omnilmm-12b"):
        with pytest.raises(InputError, match=r"cannot look at videos.*MiniCPM-V 2\.6.*MiniCPM-V 4\.5"):
            find(name).require_video()
    engine = engine_of("2.6")
    engine.card = engine.card.model_copy(update={"video": False})
    with pytest.raises(InputError, match="cannot look at videos"):
        next(engine.stream(Conversation().with_message("user", video, "?"), GREEDY))


def test_an_export_keeps_the_frames_and_their_times(path: Path) -> None:
    video = open_video(path, VideoSampling(1.0, 64))
    asked = Conversation().with_message("user", video, "?").with_message("assistant", "!")
    text = to_json(asked)
    (back,) = read_conversation(text).videos
    assert (back.times_s, back.duration_s, back.size) == (video.times_s, video.duration_s, video.size)
    assert [frame.image.size for frame in back.frames] == [frame.image.size for frame in video.frames]
    with pytest.raises(InputError, match="for each of them a time"):
        read_conversation(text.replace('"times_s": [', '"times_s": [0.0,'))
