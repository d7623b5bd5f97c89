"""Accounts, and that nothing behind the guard can be reached without one: every route of a real Streamlit server."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from omnilmm.errors import OptionsError
from omnilmm.ui import attempts as attempts_module
from omnilmm.ui.access import COOKIE, Guard, accounts
from omnilmm.ui.attempts import FREE, LONGEST_WAIT_S, Attempts

ANNA = ("Anna", "it is: me")


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> object:
    from streamlit.starlette import App

    script = tmp_path_factory.mktemp("page") / "page.py"
    script.write_text("import streamlit as st\nst.write('behind the guard')\n", encoding="utf-8")
    return App(str(script))


@pytest.fixture(scope="module")
def server(app: object) -> Iterator[TestClient]:
    with TestClient(Guard(app, dict([ANNA])), follow_redirects=False) as client:  # type: ignore[arg-type]
        yield client


@pytest.fixture
def client(server: TestClient) -> Iterator[TestClient]:
    yield server
    server.cookies.clear()


def test_accounts_are_given_one_by_one_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "people.txt"
    file.write_text("\ufeff# who may\nben: with a space \n\n李:密码\n", encoding="utf-8")
    assert accounts(["Anna:a:b", str(file)]) == {"Anna": "a:b", "ben": " with a space", "李": "密码"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["secret"], "the file secret cannot be read"),
        (["anna:"], "one value cannot be used"),
        ([":secret"], "one value cannot be used"),
        (["anna:secret", "anna:other"], "two passwords for 'anna'"),
    ],
)
def test_what_is_no_account_is_refused(values: list[str], said: str) -> None:
    with pytest.raises(OptionsError, match=said) as refused:
        accounts(values)
    assert "secret" not in str(refused.value).replace("file secret", "")


def test_a_file_that_names_nobody_would_lock_everybody_out_and_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "people.txt"
    file.write_text("# nobody yet\n", encoding="utf-8")
    with pytest.raises(OptionsError, match="names nobody"):
        accounts([str(file)])
    file.write_text("ok:ok\nno password\n", encoding="utf-8")
    with pytest.raises(OptionsError, match="line 2 of"):
        accounts([str(file)])


def routes(app: object) -> list[object]:
    built = app._build_starlette_app() if app._starlette_app is None else app._starlette_app  # type: ignore[attr-defined]
    return list(built.routes)


def filled(path: str) -> str:
    """A path with something in place of its parameters."""
    return "/".join("x" if "{" in part else part for part in path.split("/"))


def test_no_route_of_the_server_answers_a_stranger(client: TestClient, app: object) -> None:
    seen = {"http": 0, "websocket": 0, "upload": 0}
    for route in routes(app):
        if isinstance(route, WebSocketRoute):
            with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(filled(route.path)):
                pass
            assert refused.value.code == 1008
            seen["websocket"] += 1
            continue
        assert isinstance(route, Route | Mount), f"a kind of route that this test does not know: {route!r}"
        methods = getattr(route, "methods", None) or {"GET"}
        for method in sorted(methods):
            answer = client.request(method, filled(route.path) or "/")
            assert answer.status_code == 401, f"{method} {route.path}"
            assert answer.headers["www-authenticate"].startswith("Basic")
            assert "set-cookie" not in answer.headers
            seen["http"] += 1
            seen["upload"] += "upload" in route.path
    assert seen["http"] > 5 and seen["websocket"] >= 1 and seen["upload"] >= 1


def test_a_right_password_opens_and_the_cookie_goes_on_opening(client: TestClient) -> None:
    answer = client.get("/", headers=basic(*ANNA))
    assert answer.status_code == 200 and "<html" in answer.text
    assert "HttpOnly" in answer.headers["set-cookie"] and "SameSite=Strict" in answer.headers["set-cookie"]
    assert client.get("/_stcore/health").text == "ok"  # the cookie alone
    with client.websocket_connect("/_stcore/stream", headers={"Origin": "http://testserver"}):
        pass


@pytest.mark.parametrize(
    ("scheme", "is_secure"), [("http", False), ("https", True), ("ws", False), ("wss", True), (None, False)]
)
def test_behind_https_the_cookie_never_goes_over_plain_http(scheme: str | None, is_secure: bool) -> None:
    kind = "websocket" if scheme and scheme.startswith("ws") else "http"
    sent: list[Any] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"} if kind == "websocket" else {"type": "http.response.start"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    headers = [(name.lower().encode(), value.encode()) for name, value in basic(*ANNA).items()]
    scope = {"type": kind, "headers": headers} | ({"scheme": scheme} if scheme else {})
    asyncio.run(Guard(behind, dict([ANNA]))(scope, receive, send))
    (cookie,) = (value.decode() for name, value in sent[0]["headers"] if name == b"set-cookie")
    assert ("; Secure" in cookie) == is_secure
    assert cookie.startswith(f"{COOKIE}={ANNA[0].encode().hex()}.") and "; HttpOnly; SameSite=Strict" in cookie


@pytest.mark.parametrize(
    "headers",
    [
        basic("Anna", "it is: not me"),
        basic("Anna", ""),
        basic("Ben", ""),
        basic("", ""),
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
        {"Authorization": "Bearer " + base64.b64encode(b"Anna:it is: me").decode()},
        {"Cookie": f"{COOKIE}=416e6e61.0000"},
        {"Cookie": f"{COOKIE}="},
        {"Cookie": f"{COOKIE}=é.é".encode()},
        {"Cookie": b";;=;"},
    ],
)
def test_what_is_wrong_opens_nothing(client: TestClient, headers: dict[str, str | bytes]) -> None:
    assert client.get("/_stcore/health", headers=headers).status_code == 401


def test_a_cookie_of_another_server_opens_nothing(client: TestClient, app: object) -> None:
    client.get("/", headers=basic(*ANNA))
    value = client.cookies[COOKIE]
    elsewhere = Guard(app, dict([ANNA]))  # type: ignore[arg-type]
    assert not elsewhere._has_cookie(f"{COOKIE}={value}")


def test_guessing_is_slowed_and_the_wait_grows_and_ends() -> None:
    now = 0.0
    attempts = Attempts(lambda: now)
    for _ in range(FREE):
        assert attempts.wait_s("1.2.3.4", "Anna") == 0
        attempts.failed("1.2.3.4", "Anna")
    first = attempts.wait_s("1.2.3.4", "Anna")
    assert first > 0 and attempts.wait_s("1.2.3.4", "Ben") == attempts.wait_s("5.6.7.8", "Anna") == 0
    now = first
    assert attempts.wait_s("1.2.3.4", "Anna") == 0
    attempts.failed("1.2.3.4", "Anna")
    assert attempts.wait_s("1.2.3.4", "Anna") == 2 * first
    for _ in range(100):
        attempts.failed("1.2.3.4", "Anna")
    assert attempts.wait_s("1.2.3.4", "Anna") == LONGEST_WAIT_S
    attempts.succeeded("1.2.3.4", "Anna")
    assert attempts.wait_s("1.2.3.4", "Anna") == 0


def test_who_guesses_is_told_to_wait(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "FIRST_WAIT_S", LONGEST_WAIT_S)  # longer than any test takes
    codes = [client.get("/_stcore/health", headers=basic("Cleo", str(guess))).status_code for guess in range(FREE + 1)]
    assert codes == [401] * FREE + [429]
    refused = client.get("/_stcore/health", headers=basic("Cleo", "x"))
    assert "try again in" in refused.text and int(refused.headers["retry-after"]) > 0
    assert client.get("/_stcore/health", headers=basic(*ANNA)).status_code == 200
