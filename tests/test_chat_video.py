"""Videos in Python and in the terminal, on a tiny random MiniCPM-V 4.5."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from chat import OmniLMMChat, main
from omnilmm.archive import read_conversation_file
from omnilmm.conversation import Conversation
from omnilmm.engine.options import Sampling
from omnilmm.errors import InputError, VideoError
from omnilmm.ui.terminal import Terminal
from tests.images.drawn_videos import drawn
from tests.models.tiny import save_tiny

SHORT = {"top_k": 1, "max_new_tokens": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-4.5", "4.5")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = drawn(tmp_path_factory.mktemp("videos") / "a clip.mp4", 20, 10)
    return found


@pytest.fixture(scope="module")
def chat(folder: Path) -> OmniLMMChat:
    return OmniLMMChat(str(folder), "cpu", "fp32")


def test_every_form_of_a_video_is_the_same_question(chat: OmniLMMChat, path: Path) -> None:
    said = set()
    with path.open("rb") as file:
        for part in (
            path,
            {"type": "video", "video": str(path)},
            {"type": "video", "path": path},
            {"type": "video", "video": path.read_bytes()},
            {"type": "video", "video": file},
        ):
            messages = [{"role": "user", "content": [part, "What?"]}]
            said.add("".join(chat.stream(messages, seed=1, **SHORT)))
    assert len(said) == 1 and said != {"".join(chat.stream([{"role": "user", "content": "What?"}], seed=1, **SHORT))}


def test_the_published_form_takes_a_video(chat: OmniLMMChat, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Conversation] = []
    monkeypatch.setattr(chat, "_answer", lambda conversation, *_: asked.append(conversation) or iter([None]))
    chat.chat({"video": str(path), "question": [{"role": "user", "content": "What?"}]})
    video, question = asked[0].messages[0].parts
    assert question == "What?" and asked[0].videos == (video,) and len(asked[0].videos[0].frames) == 10


def test_what_is_no_video_is_said(chat: OmniLMMChat, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    for given, told in ((tmp_path / "a.mp4", "damaged"), (str(tmp_path / "b.mp4"), "No such video file"), (3, "got")):
        with pytest.raises(InputError, match=told):
            list(chat.stream([{"role": "user", "content": [{"type": "video", "video": given}, "?"]}]))


def test_a_terminal_shows_a_video_says_its_cost_and_saves_its_frames(
    chat: OmniLMMChat, path: Path, tmp_path: Path
) -> None:
    notes, out = io.StringIO(), io.StringIO()
    terminal = Terminal(chat.engine, Sampling(max_new_tokens=4, seed=1), out=out, notes=notes)
    terminal.handle(f"/image {path}")
    assert "2 s of video: 10 frames, about 680 of the model's" in notes.getvalue()
    terminal.handle("What happens?")
    terminal.handle(f"/save {tmp_path / 'talk.json'}")
    (saved,) = read_conversation_file(tmp_path / "talk.json").videos
    assert saved.times_s == tuple(index / 10 for index in range(1, 20, 2))
    terminal.handle(f"/load {tmp_path / 'talk.json'}")
    assert "Loaded 2 messages with 0 pictures and 1 videos from" in notes.getvalue()
    with pytest.raises(VideoError, match="No such video file"):
        terminal.handle("/video nothing.mp4")


def test_the_command_line_answers_about_a_video(folder: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--model", str(folder), "--device", "cpu", "--dtype", "fp32"]
    for flag, more in (("--video", []), ("--image", ["--thinking"])):
        assert main([*where, flag, str(path), "--json", "--max-new-tokens", "4", *more, "What?"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["usage"]["picture_tokens"] == 10 * 4
        assert bool(told["thought"] and told["thought"]["text"]) == bool(more) != bool(told["text"])
    with pytest.raises(SystemExit):
        main([*where, "--check", "--image", str(path)])
    assert "--check asks about a picture, not about a video" in capsys.readouterr().err


def test_a_model_that_sees_no_videos_refuses_before_it_is_loaded(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", "minicpm-v-2", "--video", str(path), "What?"]) == 1
    assert "MiniCPM-V 2.0 cannot look at videos here. These models can: " in capsys.readouterr().err
