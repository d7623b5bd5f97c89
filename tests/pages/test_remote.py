"""The Gradio page in front of a real llama.cpp server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from omnilmm.engine.remote.servers import ServerProvider, Servers
from omnilmm.ui.offer import Offer
from omnilmm.ui.samples import samples
from omnilmm.ui.texts import ENGLISH
from tests.engine.remote.llama_server import LlamaServer
from tests.engine.remote.tiny_gguf import write_tiny
from tests.pages.visitor import Site, Visitor, serve


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    model = write_tiny(tmp_path_factory.mktemp("gguf") / "slow.gguf", width=256, layers=16)
    server = LlamaServer(model)
    yield server
    server.kill()


@pytest.fixture
def site(llama: LlamaServer) -> Iterator[Site]:
    provider = ServerProvider(Servers([llama.url]), None)
    provider.wait()
    with serve(provider, Offer(provider.listed, None)) as site:
        yield site


def test_a_conversation_with_a_server(visit: Callable[..., Visitor], site: Site, llama: LlamaServer) -> None:
    visitor = visit(site.address)
    page = visitor.page
    host = llama.url.split("/")[2]
    expect(page.locator("#header")).to_contain_text(f"tiny on {host} (through llama.cpp)")
    # Nothing is offered that the server cannot do.
    expect(page.locator("#mode")).to_contain_text(ENGLISH.modes["greedy"])
    expect(page.locator("#mode")).not_to_contain_text(ENGLISH.modes["beam"])
    expect(page.locator("#top_k").first).to_be_visible()
    for of_pictures in ("#max_slices", "#samples", "#camera", "#seen-panel"):
        expect(page.locator(of_pictures)).to_be_hidden()
    visitor.unfold("models")
    expect(page.locator("#picker input")).to_be_visible()
    expect(page.locator("#dtype")).to_be_hidden()

    length = page.locator("#max_new_tokens input[type=number]")
    length.fill("8")
    length.press("Tab")
    visitor.ask("Hello")
    first = visitor.answered()
    assert first.isalpha() and len(first) == 8 and ENGLISH.length_limit in visitor.note
    visitor.ask("And then?")
    visitor.answered(2)
    assert "reused" in visitor.note  # of the prompt, by the server

    # A picture for a model that takes none: one line, and the question stays in the box.
    visitor.ask("What is this?", samples()[0].picture)
    expect(visitor.notice).to_contain_text("takes no pictures")
    visitor.until(lambda: len(visitor.notes()) == 2)
    expect(visitor.box).to_have_value("What is this?")
    page.locator("#question .thumbnail-item button").first.click()

    length.fill("8192")
    length.press("Tab")
    visitor.ask("Tell me more")
    visitor.until(lambda: len(visitor.answers()) == 3 and bool(visitor.answer))
    assert llama.busy == 1
    visitor.stop.click()
    visitor.until(lambda: ENGLISH.stopped in visitor.note)
    visitor.until(lambda: llama.busy == 0)

    # The server dies in an answer; it comes back at the same address, and the conversation goes on.
    visitor.ask("And more")
    visitor.until(lambda: len(visitor.answers()) == 4 and bool(visitor.answer))
    llama.kill()
    expect(visitor.notice).to_contain_text("broke during the answer")
    visitor.until(lambda: len(visitor.notes()) == 3)
    llama.start()
    length.fill("8")
    length.press("Tab")
    visitor.box.press("Enter")  # the question has returned to the box
    visitor.answered(4)
    visitor.until(lambda: visitor.questions()[-1].strip() == "And more")
