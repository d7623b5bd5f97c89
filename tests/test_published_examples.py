"""The examples of the models' own READMEs, on tiny folders of every family."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import pytest
from PIL import Image

from chat import OmniLMMChat, img2base64
from omnilmm.engine.events import Finished, Preview
from tests.models.tiny import VERSIONS, save_tiny
from tests.waiting import wait_until

PICTURE = Path(__file__).parents[1] / "assets" / "samples" / "picture.png"
FAMILIES = [*VERSIONS, "omnilmm"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("openbmb")
    return {family: save_tiny(root / f"MiniCPM-V {family}", family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_two_turns_in_the_published_form(folders: dict[str, Path], family: str) -> None:
    chat_model = OmniLMMChat(str(folders[family]), dtype="fp32")
    im_64 = img2base64(PICTURE)
    msgs = [{"role": "user", "content": "What is interesting about this image?"}]
    inputs = {"image": im_64, "question": json.dumps(msgs)}
    answer = chat_model.chat(inputs)
    assert isinstance(answer, str)

    msgs.append({"role": "assistant", "content": answer})
    msgs.append({"role": "user", "content": "Where is China in the image"})
    inputs = {"image": im_64, "question": json.dumps(msgs)}
    assert isinstance(chat_model.chat(inputs), str)


@pytest.mark.parametrize("family", ["2.5", "2.6"])
def test_model_chat_of_2_5_with_a_system_prompt_sampling_and_streaming(folders: dict[str, Path], family: str) -> None:
    """`model.chat(image=image, msgs=msgs, sampling=True, temperature=0.7, system_prompt=…, stream=True)`."""
    image = Image.open(PICTURE).convert("RGB")
    chat_model = OmniLMMChat(str(folders[family]), dtype="fp32")
    msgs = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [image, "What is in the image?"]},
    ]
    generated_text = ""
    for new_text in chat_model.stream(msgs, temperature=0.7, seed=5, max_new_tokens=20):
        generated_text += new_text
    assert generated_text == "".join(chat_model.stream(msgs, temperature=0.7, seed=5, max_new_tokens=20)) != ""


@pytest.mark.parametrize("family", FAMILIES)
def test_beam_search_shows_previews_and_ends(folders: dict[str, Path], family: str) -> None:
    chat_model = OmniLMMChat(str(folders[family]), dtype="fp32")
    msgs = [{"role": "user", "content": [PICTURE, "What is it?"]}]
    events = list(chat_model.events(msgs, "beam", max_new_tokens=5))
    assert any(isinstance(event, Preview) for event in events)
    assert isinstance(events[-1], Finished) and events[-1].usage.picture_tokens > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_stop_leaves_the_model_ready_for_the_next_question(folders: dict[str, Path], family: str) -> None:
    chat_model = OmniLMMChat(str(folders[family]), dtype="fp32")
    msgs = [{"role": "user", "content": [PICTURE, "What is it?"]}]
    for _ in chat_model.stream(msgs, max_new_tokens=200):
        break
    *_, last = chat_model.events(msgs, max_new_tokens=3)
    assert isinstance(last, Finished)


@pytest.mark.parametrize(("first", "second"), [("2.0", "omnilmm"), ("omnilmm", "2.6")])
def test_another_model_in_the_same_process_frees_the_first(folders: dict[str, Path], first: str, second: str) -> None:
    msgs = [{"role": "user", "content": [PICTURE, "What is it?"]}]
    chat_model = OmniLMMChat(str(folders[first]), dtype="fp32")
    list(chat_model.stream(msgs, max_new_tokens=3))
    model = weakref.ref(chat_model.engine.model)
    chat_model = OmniLMMChat(str(folders[second]), dtype="fp32")
    list(chat_model.stream(msgs, max_new_tokens=3))

    def is_freed() -> bool:
        gc.collect()
        return model() is None

    wait_until(is_freed)  # the first one's thread may take a moment to end
