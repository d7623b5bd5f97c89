"""Videos: the frames that a model sees, at their times, whatever the file is like; or one line."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omnilmm.conversation import Picture, Video
from omnilmm.errors import VideoError
from omnilmm.images.video_sampling import frame_indices, groups_of, time_ids
from omnilmm.images.videos import is_video_file, open_video
from omnilmm.versions import AS_PICTURES, VERSIONS, VideoSampling
from tests.images.drawn_videos import drawn, number_of, turned

TIMED = VERSIONS["4.5"].video
assert TIMED is not None
ALL = VideoSampling(100.0, 10_000)


def published_plan(total: int, fps: float, chosen: int = 5) -> tuple[int, int]:
    """Frames and packing as the makers' example for 4.5 computes them (the specification's words)."""
    duration = total / fps
    if chosen * int(duration) <= 180:
        return round(min(chosen, round(fps)) * min(180, duration)), 1
    packing = math.ceil(duration * chosen / 180)
    return (round(duration * chosen), packing) if packing <= 3 else (540, 3)


def a_video(count: int, duration_s: float) -> Video:
    picture = Picture(Image.new("RGB", (2, 2)))
    return Video((picture,) * count, tuple(n * duration_s / count for n in range(count)), duration_s, (2, 2))


@pytest.mark.parametrize(
    ("total", "fps"), [(300, 30.0), (1110, 30.0), (1079, 29.97), (3000, 25.0), (30_000, 24.0), (20, 20.0)]
)
def test_frames_of_4_5_are_chosen_and_packed_as_published(total: int, fps: float) -> None:
    count, packing = published_plan(total, fps)
    indices = frame_indices(total, fps, TIMED)
    gap = total / count
    assert indices == [int(i * gap + gap / 2) for i in range(count)]
    groups = groups_of(a_video(len(indices), total / fps), TIMED)
    assert [len(group) for group in groups[:-1]] == [packing] * (len(groups) - 1)
    assert [place for group in groups for place in group] == list(range(count))


def test_frames_of_2_6_and_4_0_are_one_per_second_and_64_at_most() -> None:
    assert frame_indices(95, 30.0, AS_PICTURES) == [0, 30, 60, 90]
    long = frame_indices(3 * 3600 * 30, 30.0, AS_PICTURES)
    assert len(long) == 64 and long[0] == int(3 * 3600 / 64 / 2) * 30
    assert groups_of(a_video(4, 4.0), AS_PICTURES) == [[0], [1], [2], [3]]
    assert len(groups_of(a_video(540, 400.0), AS_PICTURES)) == 64  # it was opened for another model
    assert frame_indices(1, 25.0, AS_PICTURES) == frame_indices(1, 25.0, TIMED) == [0]
    assert frame_indices(4, 0.2, TIMED) == [0, 1, 2, 3]  # one frame in five seconds


def test_times_lose_a_tenth_where_the_published_ones_do() -> None:
    tenths = [number / 10 for number in range(100)]
    lost = [number for number, found in enumerate(time_ids(tenths, 10.0)) if found != number]
    assert len(lost) == 4 and {43, 81, 86} < set(lost)
    assert time_ids([0.0, 0.04, 0.26], 0.3) == [0, 0, 2]
    assert time_ids([0.0], 0.0) == [0]


def test_an_even_video_gives_the_sampled_frames_at_their_times(tmp_path: Path) -> None:
    video = open_video(drawn(tmp_path / "a.mp4", 40, 10, has_sound=True), TIMED)
    indices = frame_indices(40, 10.0, TIMED)
    assert [number_of(frame.image) for frame in video.frames] == indices
    assert video.times_s == tuple(index / 10 for index in indices)
    assert video.duration_s == 4.0 and video.size == (64, 48) == video.frames[0].image.size


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.webm", "libvpx"),
        ("a.mkv", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.mov", "libx264"),
        ("a.mpg", "mpeg2video"),
        ("a.ts", "libx264"),
    ],
)
def test_every_container_is_known_by_its_bytes_and_read(tmp_path: Path, name: str, codec: str) -> None:
    path = drawn(tmp_path / name, 26, 25, codec=codec)
    assert is_video_file(path)
    video = open_video(path, VideoSampling(5.0, 64))
    assert [number_of(frame.image) for frame in video.frames] == [0, 5, 10, 15, 20, 25]
    assert video.times_s == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_recording_of_a_browser_says_no_duration(tmp_path: Path) -> None:
    """MediaRecorder writes a stream: nothing of its header is filled in at the end."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    file = Pipe()
    drawn(file, 20, 10, codec="libvpx", container="webm")
    video = open_video(file.getvalue(), ALL)
    assert video.duration_s == pytest.approx(2.0) and len(video.frames) == 20


def test_frames_of_a_variable_rate_have_their_own_times(tmp_path: Path) -> None:
    times = [0, 1, 2, 3, 20, 40, 41, 60]
    video = open_video(drawn(tmp_path / "a.mp4", 8, 20, pts=times), ALL)
    assert [round(time * 20) for time in video.times_s] == times
    assert [number_of(frame.image) for frame in video.frames] == list(range(8))


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    video = open_video(drawn(tmp_path / "a.mp4", 1, 25), TIMED)
    assert (len(video.frames), video.times_s) == (1, (0.0,)) and video.duration_s == pytest.approx(0.04)


def test_three_hours_are_sought_through(tmp_path: Path) -> None:
    """One frame in five seconds, which is what takes long to write."""
    path = drawn(tmp_path / "a.mp4", 2160, "1/5", gop=60)
    video = open_video(path, AS_PICTURES)
    assert video.duration_s == 3 * 3600 and len(video.frames) == 64
    indices = frame_indices(2160, 0.2, AS_PICTURES)
    assert [number_of(f.image) for f, i in zip(video.frames, indices, strict=True)] == indices
    assert len(open_video(path, TIMED).frames) == 540


@pytest.mark.parametrize(("turns", "corner"), [(1, (1, 0)), (2, (1, 1)), (3, (0, 1))])
def test_a_phone_held_otherwise_gives_upright_frames(turns: int, corner: tuple[int, int]) -> None:
    """The corner that was on the top left is where the turn takes it."""
    pixels = np.full((48, 64, 3), 30, np.uint8)
    pixels[:24, :32] = 220
    file = drawn(io.BytesIO(), 3, 10, container="mp4", images=[Image.fromarray(pixels)] * 3)
    video = open_video(turned(file.getvalue(), turns), ALL)
    width, height = (48, 64) if turns % 2 else (64, 48)
    assert video.size == (width, height)
    grey = np.asarray(video.frames[0].image.convert("L")).astype(float)
    means = {
        (x, y): grey[y * height // 2 :, x * width // 2 :][: height // 2, : width // 2].mean()
        for x in (0, 1)
        for y in (0, 1)
    }
    assert max(means, key=lambda place: means[place]) == corner


def test_large_frames_become_as_large_as_a_model_sees_them(tmp_path: Path) -> None:
    video = open_video(drawn(tmp_path / "a.mp4", 2, 10, (1280, 720)), ALL)
    assert video.size == (1280, 720) and video.frames[0].image.size == (602, 336)


def test_what_was_cut_off_is_seen_up_to_there(tmp_path: Path) -> None:
    content = drawn(tmp_path / "a.mkv", 60, 10, gop=10).read_bytes()
    video = open_video(content[: len(content) * 2 // 3], ALL)
    assert 20 < len(video.frames) < 60
    assert [number_of(f.image) for f in video.frames] == list(range(len(video.frames)))


def test_damage_in_the_middle_costs_the_frames_there(tmp_path: Path) -> None:
    content = bytearray(drawn(tmp_path / "a.mkv", 60, 10, gop=10).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    video = open_video(bytes(content), ALL)
    assert 10 < len(video.frames) < 60
    assert list(video.times_s) == sorted(set(video.times_s))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"\0\0\0\x18ftypisom" + bytes(200), "damaged"),
        (b"\x1aE\xdf\xa3" + bytes(range(256)) * 4, "damaged"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "cannot be read"),
        (b"ffconcat version 1.0\nfile '/etc/hostname'\n", "cannot be read"),
        (b"GIF89a" + bytes(300), "cannot be read"),
    ],
)
def test_what_is_no_video_gets_one_line(content: bytes, told: str) -> None:
    with pytest.raises(VideoError, match=told) as refused:
        open_video(content, AS_PICTURES)
    assert "\n" not in str(refused.value)


def test_a_playlist_is_not_followed(tmp_path: Path) -> None:
    """A file that names another one would open it for whoever uploads it."""
    drawn(tmp_path / "secret.ts", 10, 10)
    for name, text in {
        "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n",
        "a.ffconcat": "ffconcat version 1.0\nfile secret.ts\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(VideoError):
            open_video(tmp_path / name, AS_PICTURES)


def test_sound_alone_is_said(tmp_path: Path) -> None:
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with pytest.raises(VideoError, match="sound only"):
        open_video(path, AS_PICTURES)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("FILE_MB", "1", "larger than 1 MB"),
        ("MEGAPIXELS", "1", "more than the allowed 1 megapixels"),
        ("SECONDS", "0.02", "longer than 0.02 seconds"),
        ("MEMORY_MB", "4", "more than 4 MB of memory"),
    ],
)
def test_limits_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str) -> None:
    path = drawn(tmp_path / "a.mp4", 40, 10, (1280, 960))
    with path.open("ab") as file:
        file.truncate(2 * 2**20)  # a hole behind the end, which no container minds
    monkeypatch.setenv(f"OMNILMM_VIDEO_{variable}", value)
    with pytest.raises(VideoError, match=told):
        open_video(path, ALL)
    monkeypatch.delenv(f"OMNILMM_VIDEO_{variable}")
    assert len(open_video(path, AS_PICTURES).frames) == 4


def test_without_a_process_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drawn(tmp_path / "a.mp4")
    with_process = open_video(path, TIMED)
    monkeypatch.setenv("OMNILMM_VIDEO_PROCESSES", "0")
    assert open_video(path, TIMED) == with_process == open_video(path.read_bytes(), TIMED)
