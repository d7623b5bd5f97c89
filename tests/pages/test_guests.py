"""The Gradio page for more than one person: logins, a proxy in front of it, and limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from PIL import Image
from playwright.sync_api import Browser, expect

from omnilmm.engine.local import LocalEngine
from omnilmm.ui import attempts
from tests.pages.strangers import Stranger
from tests.pages.visitor import PATIENCE_MS, SAMPLES, Site, Visitor, serve

Visit = Callable[..., Visitor]

CIRCLE, STARS = SAMPLES["circle"], SAMPLES["stars"]
LOGIN = {"ann": "secret", "bob": "hidden"}
QUIETLY: dict[str, Any] = {"verbose": False, "httpx_kwargs": {"timeout": 60}}


def test_with_a_login_nothing_is_shown_before_and_all_works_after(
    visit: Visit, browser: Browser, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "FIRST_WAIT_S", 600.0)
    with serve(engine, login=LOGIN) as site:
        for path in ("config", "gradio_api/info", "gradio_api/file=x", "gradio_api/upload", "gradio_api/queue/data"):
            said = httpx.get(f"{site.address}{path}", params={"session_hash": "x"}, timeout=60)
            assert said.status_code in (401, 403, 404, 405), (path, said.status_code)
        upload = httpx.post(f"{site.address}gradio_api/upload", files={"files": b"x"}, timeout=60)
        assert upload.status_code == 401
        with pytest.raises(Exception, match="Could not login"):
            Client(site.address, auth=("ann", "wrong"), **QUIETLY)
        Client(site.address, auth=("ann", "secret"), **QUIETLY)

        visitor = visit(site.address, login=("bob", "hidden"))
        visitor.ask(CIRCLE.question, CIRCLE.picture)
        assert visitor.answered() == CIRCLE.answer

        for _ in range(attempts.FREE):
            httpx.post(f"{site.address}login", data={"username": "ann", "password": "guessed"}, timeout=60)
        with browser.new_page(locale="en") as page:
            page.set_default_timeout(PATIENCE_MS)
            page.goto(site.address)
            page.locator("input[type=password]").fill("secret")
            page.locator("input:not([type=password]), textarea").first.fill("ann")
            page.locator("button").click()
            expect(page.locator("#locked-out")).to_contain_text("Too many wrong passwords: try again in ")


def test_there_is_no_door_for_programs(site: Site) -> None:
    """Every handler belongs to a page; programs have `chat.py`."""
    offered = Client(site.address, **QUIETLY).view_api(print_info=False, return_format="dict")
    assert offered == {"named_endpoints": {}, "unnamed_endpoints": {}}


def test_behind_a_proxy_under_a_path(visit: Visit, engine: LocalEngine, proxy: Callable[[str, str], str]) -> None:
    with serve(engine, root_path="/chat") as site:
        visitor = visit(proxy(site.address, "/chat"))
        visitor.ask(CIRCLE.question, CIRCLE.picture)
        assert visitor.answered() == CIRCLE.answer


def test_a_file_that_is_too_large_is_refused(visit: Visit, tmp_path: Path, engine: LocalEngine) -> None:
    large = tmp_path / "large.png"
    Image.effect_noise((1600, 1600), 200).save(large)
    assert large.stat().st_size > 2**20
    with serve(engine, max_file_mib=1) as site:
        stranger = Stranger(site)
        assert stranger.upload("large.png", large.read_bytes()).status_code == 413
        stranger.leave()
        visitor = visit(site.address)
        visitor.page.locator("#question input[type=file]").set_input_files(str(large))
        visitor.until(lambda: bool(visitor.page.locator("[data-testid=toast-body], .toast-body").count()))
        expect(visitor.attached).to_have_count(0)
        visitor.ask(CIRCLE.question, CIRCLE.picture)
        assert visitor.answered() == CIRCLE.answer
