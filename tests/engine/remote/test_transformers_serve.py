"""The remote engine before `transformers serve` with a tiny LLaVA: its own server, on a thread of this process.

As a program of its own it takes ten seconds more, to import torch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers.cli.serve import Serve

from omnilmm.conversation import Conversation
from omnilmm.engine.events import Finished, TextDelta
from omnilmm.engine.loading import load_engine
from omnilmm.engine.options import options_for
from omnilmm.engine.remote.dialects import TRANSFORMERS, VLLM
from omnilmm.engine.remote.engine import RemoteEngine
from omnilmm.engine.servers import Servers
from omnilmm.errors import ServerError
from omnilmm.images.pixels import open_picture
from omnilmm.ui.samples import samples
from tests.models.tiny_library import save_library_model

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # its list of models leaves them open
MODEL, COMMIT = "tiny/llava", "1" * 40
ASKED = Conversation().with_message("user", open_picture(samples()[0].picture), "What is this?")


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The model in a cache of the hub: this server lists nothing else."""
    cache = tmp_path_factory.mktemp("hub")
    repository = cache / "models--tiny--llava"
    for folder in ("blobs", "refs"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("huggingface_hub.constants", "huggingface_hub.utils._cache_manager"):
            patch.setattr(f"{module}.HF_HUB_CACHE", str(cache))
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield save_library_model(repository / "snapshots" / COMMIT, "llava")


@pytest.fixture(scope="module")
def server(cached: Path) -> Iterator[SimpleNamespace]:
    """Its address, and how many passes its model has made, each after a pause."""
    program = Serve(force_model=MODEL, host="127.0.0.1", port=0, device="cpu", non_blocking=True)
    while not program.server.started:
        time.sleep(0.01)
    port = program.server.servers[0].sockets[0].getsockname()[1]
    found = SimpleNamespace(url=f"http://127.0.0.1:{port}/v1", passes=0, pause_s=0.0)

    def count(*_: object) -> None:
        time.sleep(found.pause_s)
        found.passes += 1

    (loaded,) = program._model_manager.loaded_models.values()
    loaded.model.register_forward_hook(count)
    yield found
    program.kill_server()


@pytest.fixture(scope="module")
def engine(server: SimpleNamespace) -> RemoteEngine:
    served = Servers([server.url]).choose(None)
    assert (served.model.id, served.model.dialect) == (MODEL, TRANSFORMERS)
    return served.load()


def ask(engine: RemoteEngine, conversation: Conversation = ASKED, **options: object) -> Finished:
    *_, last = engine.stream(conversation, options_for(engine.card, **options))  # type: ignore[arg-type]
    assert isinstance(last, Finished)
    return last


def test_pictures_are_answered_as_by_the_library(engine: RemoteEngine, cached: Path) -> None:
    here = load_engine(str(cached))
    *_, own = here.stream(ASKED, options_for(here.card, "greedy", repetition_penalty=1.0, max_new_tokens=12))
    there = ask(engine, temperature=0, max_new_tokens=12)
    assert isinstance(own, Finished)
    assert there.usage.text_tokens == own.usage.text_tokens + own.usage.picture_tokens > own.usage.picture_tokens > 0
    assert (there.text, there.reason, there.usage.new_tokens) == (own.text, "length", 12)
    follow_up = ASKED.with_message("assistant", "A heart.").with_message("user", "What colour?")
    assert ask(engine, follow_up, max_new_tokens=4).usage.text_tokens > there.usage.text_tokens


def test_a_temperature_switches_sampling_on(engine: RemoteEngine) -> None:
    texts = [ask(engine, temperature=1.5, top_p=1, seed=seed, max_new_tokens=12).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_closing_stops_the_model(
    engine: RemoteEngine, server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "pause_s", 0.02)  # all of the answer would take a minute
    events = engine.stream(ASKED, options_for(engine.card, temperature=0, max_new_tokens=3000))
    assert any(isinstance(event, TextDelta) for event in events)
    passes = server.passes
    events.close()
    ask(engine, max_new_tokens=4)  # waits until the answer before has ended
    assert server.passes < passes + 1500


def test_what_it_refuses(engine: RemoteEngine, server: SimpleNamespace) -> None:
    taken_for_another = RemoteEngine(server.url, MODEL, dialect=VLLM)
    assert ask(taken_for_another, max_new_tokens=4).without_effect == ("repetition_penalty", "top_k")
    with pytest.raises(ServerError, match=r"status 400.*pinned to 'tiny/llava'"):
        ask(RemoteEngine(server.url, "other"))
