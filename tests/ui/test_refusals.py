"""What an HTTP request is refused with is in the language of the browser that sent it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from omnilmm.ui.access import Guard
from omnilmm.ui.gradio_page.routes import API, Gate, own_routes
from omnilmm.ui.gradio_page.uploads import HEADER, Uploads
from omnilmm.ui.hosts import Hosts, KnownHosts

CHINESE = {"accept-language": "zh-CN,zh;q=0.9,en;q=0.5"}
FILE = {"files": ("a.png", bytes(100))}


def answered(app: Any, method: str, path: str, **how: Any) -> tuple[int, str]:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **how)

    found = asyncio.run(ask())
    return found.status_code, found.text


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path)


def own(uploads: Uploads) -> Any:
    return Starlette(routes=own_routes(uploads, most_bytes=10))


def guarded(_: Uploads) -> Any:
    return Guard(Starlette(), {"a": "b"})


def gate(_: Uploads) -> Any:
    return Gate(Starlette(), None)  # type: ignore[arg-type]


def hosts(_: Uploads) -> Any:
    return Hosts(Starlette(), KnownHosts("127.0.0.1"))


VISITOR = {HEADER: "a" * 32}


@pytest.mark.parametrize(
    ("app", "request_", "status", "english", "chinese"),
    [
        (guarded, ("GET", "/", {}), 401, "asks for a name and a password", "需要用户名和密码"),
        (gate, ("GET", "/monitoring", {}), 404, "There is no such page here.", "这里没有这个页面"),
        (hosts, ("GET", "/", {"headers": {"host": "evil.example"}}), 403, "not served as evil.example", "evil.example"),
        (hosts, ("GET", "/", {"headers": {"origin": "http://evil.example"}}), 403, "A page of evil", "不能使用此页面"),
        (own, ("POST", f"{API}/upload", {"files": FILE}), 403, "needs the name of a visitor", "访客名称"),
        (own, ("GET", f"{API}/file=/etc/passwd", {}), 403, "not among your uploads", "不在"),
    ],
    ids=lambda given: given.__name__ if callable(given) else None,
)
def test_a_refusal_is_in_the_language_of_the_browser(
    app: Callable[[Uploads], Any],
    request_: tuple[str, str, dict[str, Any]],
    status: int,
    english: str,
    chinese: str,
    uploads: Uploads,
) -> None:
    method, path, how = request_
    for line, language in ((english, {}), (chinese, CHINESE)):
        asked = how | {"headers": how.get("headers", {}) | language}
        found = answered(app(uploads), method, path, **asked)
        assert found[0] == status and line in found[1]
        assert any("\u4e00" <= sign <= "\u9fff" for sign in found[1]) == bool(language)


def test_an_upload_that_is_too_large_or_finds_no_room_is_said(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = {"headers": CHINESE | VISITOR}
    status, line = answered(own(uploads), "POST", f"{API}/upload", files=FILE, **visitor)
    assert status == 413 and "--max-file-size" in line and "缩小" in line
    status, line = answered(own(uploads), "POST", f"{API}/upload", content=b"x", **visitor)
    assert status == 400 and "multipart/form-data" in line and "文件" in line

    def full(*_: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads, "save", full)
    status, line = answered(own(uploads), "POST", f"{API}/upload", files={"files": ("a.png", bytes(5))}, **visitor)
    assert status == 507 and "没有空间" in line and "No space left" in line
