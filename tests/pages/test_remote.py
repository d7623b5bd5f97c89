"""The Gradio page in front of two real servers: llama.cpp, and our own API with the built-in model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import pytest
from playwright.sync_api import expect

from omnilmm.api.app import application
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Event, Finished
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import BeamSearch, options_for
from omnilmm.engine.servers import ServerProvider, Servers
from omnilmm.images.pixels import open_picture
from omnilmm.ui.offer import Offer
from omnilmm.ui.samples import samples
from omnilmm.ui.texts import ENGLISH
from tests.api.serving import served
from tests.engine.remote.llama_server import LlamaServer
from tests.engine.remote.tiny_gguf import write_tiny
from tests.pages.visitor import SAMPLES, Site, Visitor, serve

KEY = "a key of the operator"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    model = write_tiny(tmp_path_factory.mktemp("gguf") / "slow.gguf", width=256, layers=16)
    server = LlamaServer(model)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def api(engine: LocalEngine) -> Iterator[str]:
    with served(application(engine, key=KEY)) as address:
        yield f"{address}/v1"


@pytest.fixture
def site(llama: LlamaServer, api: str) -> Iterator[Site]:
    provider = ServerProvider(Servers([llama.url, api], ["none", KEY]), "tiny")
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
    page.locator("#picker input").click()
    expect(page.get_by_role("option")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.locator("#dtype")).to_be_hidden()

    length = page.locator("#max_new_tokens input[type=number]")
    length.fill("8")
    length.press("Tab")
    visitor.ask("Hello")
    first = visitor.answered()
    assert first.isalpha() and len(first) == 8
    expect(visitor.newest_note).to_contain_text(ENGLISH.length_limit)
    visitor.ask("And then?")
    visitor.answered(2)
    expect(visitor.newest_note).to_contain_text("reused")  # of the prompt, by the server

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


def test_pictures_for_our_own_api(
    visit: Callable[..., Visitor], site: Site, api: str, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from machine A to machine B: another model is chosen, and answers as the engine there would."""
    visitor = visit(site.address)
    page, host = visitor.page, api.split("/")[2]
    asked: list[object] = []
    stream = engine.stream
    monkeypatch.setattr(engine, "stream", lambda *given: asked.append(given[1]) or stream(*given))
    visitor.unfold("models")
    page.locator("#picker input").click()
    page.get_by_role("option", name=engine.card.title).click()
    page.locator("#switch").click()
    expect(page.locator("#header")).to_contain_text(f"{engine.card.title} on {host} (through OmniLMM Chat)")
    assert KEY not in page.content()

    page.get_by_text(ENGLISH.modes["greedy"], exact=True).click()
    visitor.ask(SAMPLES["heart"].question, SAMPLES["heart"].picture)
    first = visitor.answered()
    expected = Conversation().with_message("user", open_picture(SAMPLES["heart"].picture), SAMPLES["heart"].question)
    assert first.strip() == text_of(stream(expected, options_for(engine.card, "greedy")))
    visitor.ask("What colour is it?")
    visitor.answered(2)
    expect(visitor.newest_note).to_contain_text(re.compile("reused.*picture tokens|picture tokens.*reused"))
    page.get_by_text(ENGLISH.modes["beam"], exact=True).click()
    visitor.ask("And what shape is it?")
    visitor.answered(3)
    assert isinstance(asked[-1], BeamSearch) and asked[-1].beams == engine.card.beam.beams
    visitor.press("clear")
    visitor.until(lambda: visitor.questions() == [])
    box = next(sample for sample in SAMPLES.values() if "<box>" in sample.answer)
    visitor.ask(box.question, box.picture)
    expect(page.locator(f"#chat .bot img[alt='{ENGLISH.boxes_on_picture}']")).to_have_count(1)


def text_of(events: Iterable[Event]) -> str:
    *_, last = events
    assert isinstance(last, Finished)
    return last.text
