"""The Gradio page on a GGUF: llama.cpp runs in a process that the test kills."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import expect

from omnilmm.catalog import BUILT_IN, cards
from omnilmm.engine.choosing import ListedModel
from omnilmm.engine.events import Event, TextDelta
from omnilmm.engine.llamacpp.engine import LlamaCppEngine
from omnilmm.engine.provider import ModelProvider
from omnilmm.engine.remote.dialects import LLAMA_CPP
from omnilmm.engine.spaces.fallback import provide
from omnilmm.export.to_gguf import export_gguf
from omnilmm.model_lookup import find
from omnilmm.ui.offer import Offer
from omnilmm.ui.texts import ENGLISH
from tests.pages.visitor import SAMPLES, Site, Visitor, serve

CIRCLE = SAMPLES["circle"].picture


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> ModelProvider:
    folder = tmp_path_factory.mktemp("gguf")
    made = export_gguf(Path(find(BUILT_IN).location), folder, "built-in", "f16")
    found = provide({"model": str(made.model), "device": "auto", "dtype": "auto"}, lambda *_: None)
    found.wait()
    return found


@pytest.fixture(scope="module")
def site(provider: ModelProvider) -> Iterator[Site]:
    offer = Offer(lambda _: [ListedModel(cards()[BUILT_IN], "fp32", True)])
    with serve(provider, offer) as site:
        yield site


def llama(provider: ModelProvider) -> LlamaCppEngine:
    engine = provider._engine
    assert isinstance(engine, LlamaCppEngine)
    return engine


def freeze(engine: LlamaCppEngine) -> int:
    """Stop the process in the next answer, which has no end of its own, however fast the machine is; its id."""
    inner, pid = engine._inner, engine.pid
    assert inner is not None and pid is not None
    stream, dialect = inner.stream, inner.dialect
    inner.dialect = replace(LLAMA_CPP, always={**LLAMA_CPP.always, "ignore_eos": True})

    def frozen(*arguments: Any) -> Generator[Event]:
        inner.stream = stream  # type: ignore[method-assign]
        with closing(stream(*arguments)) as events:
            for event in events:
                if isinstance(event, TextDelta):
                    os.kill(pid, signal.SIGSTOP)
                    inner.dialect = dialect
                yield event

    inner.stream = frozen  # type: ignore[method-assign]
    return pid


def test_a_conversation_through_llama_cpp(visit: Callable[..., Visitor], site: Site, provider: ModelProvider) -> None:
    visitor, other = visit(site.address), visit(site.address)
    page = visitor.page
    expect(page.locator("#header")).to_contain_text("built-in (GGUF) on cpu (through llama.cpp")
    expect(page.locator("#mode")).not_to_contain_text(ENGLISH.modes["beam"])
    for person in (visitor, other):  # not another answer in every run: llama.cpp draws the seeds itself
        person.page.get_by_text(ENGLISH.modes["greedy"], exact=True).click()

    visitor.ask("What colour is the circle?", CIRCLE)
    assert visitor.answered() == "The circle is red."
    expect(visitor.newest_note).to_contain_text("108 picture tokens")
    panel = page.locator("#seen-panel")
    panel.get_by_role("button", name=ENGLISH.seen).click()
    expect(panel).to_contain_text("2 slices of 132×204")  # as llama.cpp cuts it

    other.ask("Which shape is purple?", SAMPLES["triangle"].picture)
    assert other.answered() == "The purple one is a triangle."
    visitor.ask("Where is it?")
    assert "circle" in visitor.answered(2)
    expect(visitor.newest_note).to_contain_text("reused")
    assert len(other.answers()) == 1

    # Stop; the other one is answered.
    process = freeze(llama(provider))
    visitor.ask("Hello")
    visitor.until(lambda: len(visitor.notes()) == 3 and "tokens" in visitor.note)
    visitor.stop.click()
    visitor.until(lambda: ENGLISH.stopped in visitor.note)
    os.kill(process, signal.SIGCONT)
    other.ask("Is there a circle?")
    other.answered(2)

    # The process dies in an answer: one line; the next question starts another, and the conversation goes on.
    process = freeze(llama(provider))
    visitor.ask("And now?")
    visitor.until(lambda: len(visitor.notes()) == 4 and "tokens" in visitor.note)
    os.kill(process, signal.SIGKILL)
    expect(visitor.notice).to_contain_text("has ended")
    expect(visitor.notice).to_contain_text("starts again with the next question")
    visitor.until(lambda: len(visitor.notes()) == 3)
    other.ask("Is it red?")
    other.answered(3)
    visitor.box.press("Enter")  # the question has returned to the box
    visitor.answered(4)

    # Back to the built-in model: the process is gone.
    pid = llama(provider).pid or 0
    assert provider.switch(BUILT_IN)
    expect(page.locator("#header")).to_contain_text(ENGLISH.changes["done"].format(model=find(BUILT_IN).title))
    assert not psutil.pid_exists(pid)
    visitor.ask("What colour is the circle?")
    assert visitor.answered(5) == "The circle is red."
