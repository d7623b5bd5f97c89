"""Under which names the pages are served: asked of the real servers of both, by a program that names any host."""

from __future__ import annotations

import socket

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from omnilmm.ui.hosts import Hosts, KnownHosts, hosts_of
from tests.pages.visitor import serve
from tests.ui.scripted import ScriptedEngine

OWN = socket.gethostname()
ADDRESSES = ("127.0.0.1:80", "[::1]:7860", "localhost", "LOCALHOST:1", "192.168.1.20:7860", OWN)
NETWORK = ("labbox:7860", "labbox.local", "lab.home.arpa:80", "lab.internal")
FOREIGN = (
    "evil.example",
    "127.0.0.1.evil.example:7860",
    "localhost.evil.example",
    "evil.example.:80",
    "",
    "a@b:c:d",
    "[::1",
)


@pytest.mark.parametrize(("bound", "refused"), [("127.0.0.1", NETWORK), ("::1", NETWORK), ("localhost", NETWORK)])
def test_a_page_of_this_machine_alone_is_opened_by_its_names(bound: str, refused: tuple[str, ...]) -> None:
    known = KnownHosts(bound)
    assert all(known.has(name) for name in ("127.0.0.1", "localhost", "::1", "10.0.0.7", OWN.lower()))
    assert not any(known.has(name.partition(":")[0]) for name in refused)
    assert not known.has("evil.example")


def test_what_was_said_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_HOST", "me-chat.hf.space,chat.me.example")
    known = KnownHosts("0.0.0.0", hosts_of(["a.example", "*.b.example"], "https://proxy.example/chat"))  # noqa: S104
    known.add("https://1a2b.gradio.live")
    for name in ("me-chat.hf.space", "chat.me.example", "a.example", "x.b.example", "y.x.b.example"):
        assert known.has(name), name
    assert known.has("proxy.example") and known.has("1a2b.gradio.live") and known.has("labbox")
    assert not any(known.has(name) for name in ("b.example", "xb.example", "x.a.example", "other.gradio.live"))
    assert KnownHosts("127.0.0.1", ["*"]).has("any.example")


def asked(host: str, origin: str | None = None) -> dict[str, str]:
    return {"host": host} | ({"origin": origin} if origin is not None else {})


def test_the_gradio_page_answers_under_its_own_names_alone() -> None:
    served = serve(ScriptedEngine(), allowed_hosts=["chat.example"])
    with served as site, httpx.Client(base_url=site.address, timeout=60) as web:
        for host in (*ADDRESSES, "chat.example", "CHAT.example:443"):
            assert web.get("/theme.css", headers=asked(host)).status_code == 200, host
        for host in (*FOREIGN[:4], *NETWORK):
            for path in ("/", "/gradio_api/queue/data", "/config"):
                refused = web.get(path, headers=asked(host))
                assert refused.status_code == 403, (host, path)
                name = host.rpartition(":")[0] or host
                assert f"--allowed-host {name.rstrip('.')}" in refused.text and refused.text.count("\n") == 1
        for origin in ("http://evil.example", "null", "http://6.6.6.6", "http://localhost:1", "x"):
            assert web.post("/gradio_api/queue/join", headers=asked("127.0.0.1", origin)).status_code == 403, origin
        for origin in ("http://127.0.0.1:9", "https://chat.example"):
            assert web.post("/gradio_api/queue/join", headers=asked("127.0.0.1", origin)).status_code == 422, origin


def test_a_websocket_of_another_host_is_refused() -> None:
    async def accept(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/", accept)], middleware=[Middleware(Hosts, known=KnownHosts("127.0.0.1"))])
    client = TestClient(app)
    with client.websocket_connect("/", headers=asked("localhost:1", "http://localhost:2")):
        pass
    for headers in (asked("evil.example", "http://evil.example"), asked("localhost", "http://evil.example")):
        with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/", headers=headers):
            pass
        assert closed.value.code == 1008
