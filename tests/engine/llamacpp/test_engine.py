"""llama.cpp in a child process: answers, reuse, crashes, and what is freed."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from omnilmm.catalog import BUILT_IN
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Finished, Progress, TextDelta
from omnilmm.engine.llamacpp import starting
from omnilmm.engine.llamacpp.child import Settings
from omnilmm.engine.llamacpp.engine import LlamaCppEngine
from omnilmm.engine.llamacpp.prepared import PreparedGGUF
from omnilmm.engine.loading import load_engine, prepare
from omnilmm.engine.options import Greedy
from omnilmm.engine.provider import ModelProvider
from omnilmm.engine.remote.dialects import LLAMA_CPP
from omnilmm.engine.spaces.fallback import provide
from omnilmm.errors import (
    CheckpointError,
    HardwareError,
    InputError,
    MissingPackageError,
    OmniLMMError,
    OptionsError,
    ServerError,
)
from omnilmm.export.to_gguf import Exported
from omnilmm.images.pixels import open_picture
from tests.engine.local_hub import LocalHub, serving
from tests.guarded import guarded_attributes
from tests.waiting import wait_until

PATIENCE_S = 60
SAMPLE = "assets/samples/circle.png"
GREEDY = Greedy(max_new_tokens=24)
LONG = Greedy(max_new_tokens=1500)
ENDLESS = replace(LLAMA_CPP, always={**LLAMA_CPP.always, "ignore_eos": True})  # answers up to the limit


@pytest.fixture(scope="module")
def engine(exported: Exported) -> Iterator[LlamaCppEngine]:
    found = load_engine(str(exported.model))
    assert isinstance(found, LlamaCppEngine)
    yield found
    found.close()


@pytest.fixture(scope="module")
def asked() -> Conversation:
    return Conversation().with_message("user", open_picture(SAMPLE), "What colour is the circle?")


def finished(engine: LlamaCppEngine | ModelProvider, conversation: Conversation) -> Finished:
    *_, last = engine.stream(conversation, GREEDY)
    assert isinstance(last, Finished)
    return last


def test_a_follow_up_reuses_what_the_slot_has(engine: LlamaCppEngine, asked: Conversation) -> None:
    first = finished(engine, asked)
    assert first.text == "The circle is red." and first.reason == "end"
    assert first.usage.picture_tokens == 3 * 36, "llama.cpp cuts this picture into two slices"
    more = asked.with_message("assistant", first.text).with_message("user", "Where is it?")
    second = finished(engine, more)
    assert second.usage.reused > 108, "the picture was not encoded again"
    assert finished(engine, more).text == second.text
    assert str(engine.dtype) == "F16 (as requested)"
    assert str(engine.device) == "cpu (through llama.cpp, with 1 threads)"


def test_a_child_that_is_killed_is_a_line_and_the_conversation_goes_on(
    engine: LlamaCppEngine, asked: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnilmm.engine.llamacpp.engine.END_S", PATIENCE_S)
    expected = finished(engine, asked).text
    assert engine._inner is not None
    engine._inner.dialect = ENDLESS
    answer = engine.stream(Conversation().with_message("user", "Hello"), LONG)
    assert any(isinstance(event, TextDelta) for event in answer)  # stops at the first one
    os.kill(engine.pid or 0, signal.SIGKILL)
    with pytest.raises(ServerError, match=r"has ended.*starts again with the next question"):
        list(answer)
    assert finished(engine, asked).text == expected
    os.kill(engine.pid or 0, signal.SIGKILL)
    assert finished(engine, asked).text == expected, "it had said nothing yet: another one answers"


def test_leaving_the_answer_frees_the_slot(engine: LlamaCppEngine, asked: Conversation) -> None:
    for _ in range(6):  # more than there are slots
        answer = engine.stream(Conversation().with_message("user", "Hello"), Greedy(max_new_tokens=256))
        assert any(isinstance(event, TextDelta) for event in answer)  # stops at the first one
        answer.close()
    assert finished(engine, asked).text == "The circle is red."


def test_the_child_is_gone_with_its_engine_and_with_this_program(exported: Exported) -> None:
    engine = load_engine(str(exported.model))
    assert isinstance(engine, LlamaCppEngine)
    pid = engine.pid or 0
    engine.close()
    assert not psutil.pid_exists(pid)
    with pytest.raises(ServerError, match="being replaced"):
        finished(engine, Conversation().with_message("user", "Hi"))
    forgotten = load_engine(str(exported.model))
    assert isinstance(forgotten, LlamaCppEngine)
    pid = forgotten.pid or 0
    del forgotten
    gc.collect()
    assert not psutil.pid_exists(pid)
    code = (
        "import os, sys; from omnilmm.engine.llamacpp.child import LlamaServer, Settings;"
        "server = LlamaServer(Settings(sys.argv[1])); print(server.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported.model)], capture_output=True, text=True, check=False
    )
    pid = int(done.stdout)
    wait_until(lambda: not psutil.pid_exists(pid))  # its parent was killed


def children() -> set[int]:
    found = set()
    for one in psutil.Process().children():
        with suppress(psutil.Error):  # any other that has ended meanwhile
            found |= {one.pid} if "serving.py" in " ".join(one.cmdline()) else set()
    return found


def test_switching_back_frees_it_and_a_failed_switch_keeps_it(exported: Exported, tmp_path: Path) -> None:
    arguments = {"model": str(exported.model), "device": "auto", "dtype": "auto"}
    others = children()
    provider = provide(arguments, lambda *_: None)
    provider.wait()
    (child,) = children() - others
    broken = tmp_path / "broken-Q8_0.gguf"
    broken.write_bytes(exported.model.read_bytes()[:-1000])
    provider.names |= {str(broken)}
    with pytest.raises(CheckpointError, match="cut off or damaged"):
        provider.switch(str(broken))
    assert finished(provider, Conversation().with_message("user", "Hi")).text
    assert provider.switch(BUILT_IN)
    provider.wait()
    assert provider.card.name == BUILT_IN and not psutil.pid_exists(child)


def test_a_folder_is_a_model_and_the_pair_is_found(exported: Exported, tmp_path: Path) -> None:
    for name in ("a-Q8_0.gguf", "a-F16.gguf"):
        shutil.copy(exported.model, tmp_path / name)
    shutil.copy(exported.mmproj, tmp_path / "mmproj-a-F16.gguf")
    assert prepare(str(tmp_path)).dtype.value == "Q8_0"
    ready = prepare(str(tmp_path), quant="f16")
    assert (ready.dtype.value, ready.card.pictures) == ("F16", True)
    assert ready.settings.mmproj.endswith("mmproj-a-F16.gguf")  # type: ignore[union-attr]
    (tmp_path / "mmproj-a-F16.gguf").rename(tmp_path / "eyes.gguf")
    with pytest.raises(CheckpointError, match=r"has no nothing\.gguf"):
        prepare(str(tmp_path / "a-Q8_0.gguf"), mmproj="nothing.gguf")
    assert prepare(str(tmp_path / "a-Q8_0.gguf"), mmproj="eyes.gguf").card.pictures
    with pytest.raises(CheckpointError, match="is a language model; --mmproj is"):
        prepare(str(tmp_path / "a-Q8_0.gguf"), mmproj="a-F16.gguf")
    with pytest.raises(CheckpointError, match="the part of a model that sees"):
        prepare(str(tmp_path / "eyes.gguf"))


def test_a_text_model_refuses_a_picture(exported: Exported, asked: Conversation, tmp_path: Path) -> None:
    shutil.copy(exported.model, tmp_path / "text-Q8_0.gguf")
    engine = load_engine(str(tmp_path / "text-Q8_0.gguf"))
    assert isinstance(engine, LlamaCppEngine) and not engine.card.pictures
    with pytest.raises(InputError, match="takes no pictures"):
        finished(engine, asked)
    assert finished(engine, Conversation().with_message("user", "Hi")).text
    engine.close()


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        ({"dtype": "bf16"}, OptionsError, "give --quant, such as Q4_K_M, instead of --dtype bf16"),
        ({"device": "cuda"}, OptionsError, "llama.cpp chooses the device by itself"),
    ],
)
def test_choices_that_a_gguf_does_not_have(
    exported: Exported, arguments: dict[str, str], kind: type[OmniLMMError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        prepare(str(exported.model), **arguments)


def test_flags_of_ggufs_are_refused_for_others() -> None:
    with pytest.raises(OptionsError, match="is no model in GGUF"):
        prepare(BUILT_IN, quant="Q8_0")


def test_without_llama_cpp_the_command_is_reported(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'omnilmm-chat\[llamacpp\]'"):
        prepare(str(exported.model))


def test_too_large_for_the_memory_is_refused_before_the_download(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only the two files that are needed are downloaded; a quantisation that is here is preferred to a new one."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    content = exported.model.read_bytes()
    files = {"m-Q8_0.gguf": content + bytes(2_000_000), "m-Q4_K_M.gguf": content, "m-f16.gguf": bytes(9_000_000)}
    hub = LocalHub(files | {"mmproj-m-f16.gguf": exported.mmproj.read_bytes(), "README.md": b"#"}, "owner/m-gguf")
    with serving(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        free = 2**29 + len(content) + exported.mmproj.stat().st_size + 1_000_000
        monkeypatch.setattr("omnilmm.engine.placement.device_memory.free_memory", lambda _: free)
        with pytest.raises(HardwareError, match=r"in Q8_0 needs about .*Use --quant Q4_K_M"):
            prepare("owner/m-gguf", quant="Q8_0")
        assert not hub.requests or not {name for name in hub.asked if name.endswith(".gguf")}
        told: list[tuple[int, int]] = []
        ready = prepare("owner/m-gguf", report=lambda *now: told.append(now))
        assert ready.dtype.value == "Q4_K_M" and told[-1][0] == told[-1][1]
        assert {"m-Q4_K_M.gguf", "mmproj-m-f16.gguf"} == {name for name in hub.asked if name.endswith(".gguf")}
        monkeypatch.setattr("omnilmm.engine.placement.device_memory.free_memory", lambda _: 2**40)
        assert prepare("owner/m-gguf").dtype.value == "Q4_K_M", "it is here"
        hub.requests.clear()
    assert prepare("owner/m-gguf", offline=True).dtype.value == "Q4_K_M"
    assert prepare("owner/m-gguf").card.pictures, "the hub is gone"
    with pytest.raises(CheckpointError, match="not there in Q8_0"):
        prepare("owner/m-gguf", quant="Q8_0", offline=True)


def test_memory_that_did_not_become_free_is_not_counted(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the model before it was on a GPU."""
    free = 2**20
    monkeypatch.setattr("omnilmm.engine.placement.device_memory.free_memory", lambda _: free)
    ready = prepare(str(exported.model), freed_bytes=2**40)
    others = children()
    with pytest.raises(HardwareError, match="free"):
        ready.load()
    assert not children() - others
    assert isinstance(ready, PreparedGGUF) and ready.settings.slots == 4
    free = 2**29 + exported.model.stat().st_size + exported.mmproj.stat().st_size
    engine = ready.load()
    assert engine._settings.slots == 1 and finished(engine, Conversation().with_message("user", "Hi")).text
    engine.close()


def test_progress_is_reported_while_it_starts_again(engine: LlamaCppEngine) -> None:
    os.kill(engine.pid or 0, signal.SIGKILL)
    assert engine._server is not None and engine._server.has_ended(PATIENCE_S)
    events = list(engine.stream(Conversation().with_message("user", "Hi"), GREEDY))
    assert Progress("loading") in events and isinstance(events[-1], Finished)


def _left_while_it_starts(engine: LlamaCppEngine) -> None:
    os.kill(engine.pid or 0, signal.SIGKILL)
    assert engine._server is not None and engine._server.has_ended(PATIENCE_S)
    answer = engine.stream(Conversation().with_message("user", "Hi"), GREEDY)
    assert next(answer) == Progress("loading")
    answer.close()  # type: ignore[attr-defined]


def test_leaving_while_it_starts_again_leaves_no_second_one(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = children()
    engine = load_engine(str(exported.model))
    assert isinstance(engine, LlamaCppEngine)
    unguarded = guarded_attributes(engine, engine._lock.locked, "_server", "_inner", "_starting", "_is_closed")
    _left_while_it_starts(engine)
    assert finished(engine, Conversation().with_message("user", "Hi")).text
    assert children() - others == {engine.pid}
    with monkeypatch.context() as broken:
        broken.setattr(subprocess, "Popen", lambda *_, **__: 1 / 0)
        _left_while_it_starts(engine)
        with pytest.raises(CheckpointError, match="division by zero"):
            finished(engine, Conversation().with_message("user", "Hi"))
    assert finished(engine, Conversation().with_message("user", "Hi")).text
    _left_while_it_starts(engine)
    engine.close()
    assert not children() - others and unguarded == []


def test_a_start_that_is_abandoned_ends_as_soon_as_there_is_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, ended = threading.Event(), threading.Event()

    class Server:
        stop = staticmethod(ended.set)

        def __init__(self, _: Settings) -> None:
            goes_on.wait(PATIENCE_S)

    monkeypatch.setattr(starting, "LlamaServer", Server)
    start = starting.Start(Settings("model.gguf"))
    unguarded = guarded_attributes(start, start._lock.locked, "_found", "_is_abandoned")
    start.abandon()
    assert not ended.is_set()
    goes_on.set()
    assert start.is_over(PATIENCE_S) and ended.is_set() and unguarded == []
