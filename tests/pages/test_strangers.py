"""The server of the Gradio page and people who mean harm: files, addresses, events and routes, without a browser."""

from __future__ import annotations

import errno
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from omnilmm.catalog import ROOT
from omnilmm.engine.options import LIMITS
from omnilmm.ui.attempts import FREE
from omnilmm.ui.gradio_page.routes import ROUTES, Need, need_of
from omnilmm.ui.gradio_page.uploads import HEADER
from tests.pages.strangers import Stranger
from tests.pages.visitor import SAMPLES, Site, serve
from tests.ui.scripted import ScriptedEngine, capable
from tests.waiting import wait_until

Come = Callable[..., Stranger]

CIRCLE, HEART = SAMPLES["circle"].picture, SAMPLES["heart"].picture


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve(ScriptedEngine(card=capable())) as site:
        yield site


@pytest.fixture
def come() -> Iterator[Callable[..., Stranger]]:
    """Lets somebody come."""
    there: list[Stranger] = []

    def arrive(site: Site, **how: Any) -> Stranger:
        there.append(Stranger(site, **how))
        return there[-1]

    yield arrive
    for stranger in there:
        stranger.leave()


def uploaded(stranger: Stranger, path: Path = CIRCLE) -> str:
    (where,) = stranger.upload(path.name, path.read_bytes()).raise_for_status().json()
    return str(where)


def shown(site: Site, stranger: Stranger) -> list[str]:
    return [message.text for message in site.page.visitors.get(stranger.session).session.conversation.messages]


def test_only_files_of_the_visitors_own_are_read_or_deleted(site: Site, come: Come, tmp_path: Path) -> None:
    mine, theirs = come(site), come(site)
    other = uploaded(theirs)
    link = Path(uploaded(mine, HEART)).with_name("link.png")
    link.symlink_to(HEART)
    paths = (str(HEART), "assets/samples/heart.png", "/etc/passwd", str(ROOT / "assets/built-in/config.json"), other)
    odd = (
        "",
        ".",
        "\0",
        str(Path(other).parent),
        f"{Path(other).parent}/../../{HEART}",
        str(link),
        "http://127.0.0.1/",
    )
    for path in (*paths, *odd, str(tmp_path / "none.png")):
        for refused in (
            mine.ask("What is it?", path),
            mine.join("Pictures.show_slices", [{"text": "", "files": [{"path": path}]}]),
            mine.join("Pictures.attach", [{"path": path}, None]),
            mine.join("Conversations.load", [{"path": path}]),
            mine.join("Conversations.undo", [{"text": "", "files": [{"path": path}]}]),
        ):
            assert refused.status_code == 422, path
            assert "not among your uploads" in refused.json()["detail"], path
    assert HEART.is_file() and Path(other).is_file() and shown(site, mine) == []
    assert come(site, named=False).ask("What is it?", other).status_code == 422
    assert theirs.ask("What is it?", other).status_code == 200
    assert theirs.outcome()["success"]
    assert shown(site, theirs) == ["What is it?", "What is it?"] and not Path(other).exists()


def test_the_same_upload_of_two_people_is_two_files(site: Site, come: Come) -> None:
    first, second = come(site), come(site)
    one, two = uploaded(first), uploaded(second)
    assert one != two
    for stranger, path in ((first, one), (second, two)):
        stranger.ask("What is it?", path).raise_for_status()
        assert stranger.outcome()["success"]
        assert shown(site, stranger) == ["What is it?", "What is it?"]
    assert not Path(one).exists() and not Path(two).exists()


@pytest.fixture
def listening() -> Iterator[tuple[str, list[Any]]]:
    """An address of which it is noted when somebody comes."""
    came: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        ends = threading.Event()

        def listen() -> None:
            while not ends.is_set():
                try:
                    came.append(server.accept()[0].close())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", came
        ends.set()
        thread.join()


def test_files_are_served_to_their_owner_and_addresses_to_nobody(
    site: Site, come: Come, listening: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (host, came), mine, theirs = listening, come(site), come(site)
    nameless = come(site, named=False)

    async def public(host: str) -> str:  # what the library takes for a public address
        return "127.0.0.1"

    monkeypatch.setattr("safehttpx.async_validate_url", public)
    other, page = uploaded(theirs), uploaded(theirs, Path(__file__))
    for stranger in (mine, theirs, nameless):
        for kind in ("file=", "proxy=", "file/", "file%3D"):
            for address in (f"http://{host}/x.png", f"HTTP://{host}/x.png", f"//{host}/x.png", f"http:/{host}/x.png"):
                answer = stranger.web.get(f"/gradio_api/{kind}{address}")
                assert answer.status_code in (403, 404), (kind, address)
        assert stranger.join("Answers.ask", stranger.defaults("Answers.ask")).status_code == 200
        assert stranger.ask("What is it?", f"http://{host}/x.png").status_code == 422
        assert stranger.web.get(f"/gradio_api/file={HEART}").content == HEART.read_bytes()
        for path in ("/etc/passwd", str(ROOT / "assets/samples/samples.yaml"), f"{HEART}/../samples.yaml"):
            assert stranger.web.get(f"/gradio_api/file={path}").status_code == 403, path
    assert came == [], "the server called an address"
    assert [stranger.web.get(f"/gradio_api/file={other}").status_code for stranger in (mine, nameless)] == [403, 403]
    assert theirs.web.get(f"/gradio_api/file={other}").headers["content-type"] == "image/png"
    text = theirs.web.get(f"/gradio_api/file={page}")
    assert text.headers["content-type"] == "application/octet-stream"
    assert text.headers["content-disposition"].startswith("attachment")


def templates(routes: Any) -> set[str]:
    """Paths of all routes, also of routers within."""
    found = set()
    for route in routes:
        inside = getattr(route, "original_router", None)
        found |= templates(inside.routes) if inside else {route.path}
    return found


def test_every_route_of_gradio_is_in_the_table(site: Site, come: Come) -> None:
    ours = {"/gradio_api/file={path:path}"}
    assert templates(site.page.demo.app.routes) - ours - set(ROUTES) == set(), "say what each needs"
    assert need_of("/a/route/of/a/later/version") is Need.CLOSED
    stranger = come(site)
    for path, need in ROUTES.items():
        if need is Need.CLOSED:
            for method in ("GET", "POST"):
                assert stranger.web.request(method, path.replace("{", "").replace("}", "")).status_code == 404, path
    for path in ("", "gradio_api/queue/join", "gradio_api/stream/x"):  # it has no websocket
        with pytest.raises(InvalidStatus) as refused, connect(f"{site.address.replace('http', 'ws', 1)}{path}"):
            pass
        assert refused.value.response.status_code == 403, path


def test_with_a_login_every_route_asks_for_it(site: Site, come: Come) -> None:
    with serve(ScriptedEngine(), login={"ann": "secret"}) as guarded:
        stranger = come(guarded)
        for path, need in ROUTES.items():
            if need not in (Need.CLOSED, Need.NOTHING):
                for method in ("GET", "HEAD", "POST"):
                    answer = stranger.web.request(method, path.replace("{", "").replace("}", ""))
                    assert answer.status_code == 401, (method, path)
        assert stranger.upload("x.png", CIRCLE.read_bytes()).status_code == 401
        assert "examples" not in stranger.web.get("/").text and "Answers" not in stranger.web.get("/").text
        stranger.web.post("/login", data={"username": "ann", "password": "secret"}).raise_for_status()
        where = uploaded(stranger)
        assert stranger.ask("What is it?", where).status_code == 200


def test_who_has_left_does_not_come_back_and_leaves_no_file(site: Site, come: Come) -> None:
    visitors, before = site.page.visitors, len(site.page.visitors)
    stranger = come(site)
    path = uploaded(stranger)
    with ExitStack() as line:
        line.enter_context(stranger.present())
        stranger.ask("Hello?").raise_for_status()
        assert stranger.outcome()["success"] and len(visitors) == before + 1
        with stranger.present():  # the line was broken, and is there again before anybody missed it
            line.close()
            wait_until(lambda: visitors._present[stranger.session] == 1)
            assert shown(site, stranger) == ["Hello?", "Hello?"] and Path(path).exists()
    wait_until(lambda: len(visitors) == before and not Path(path).exists())
    for late in ("Choices.show_model", "Pictures.show_camera"):  # what was on its way when the tab was closed
        stranger.join(late, []).raise_for_status()
        assert stranger.outcome()["success"]
    assert len(visitors) == before and stranger.session not in site.page.demo.state_holder
    with stranger.present():
        visitors.get(stranger.session).is_restored.set()  # it had nothing before
        stranger.ask("Again?").raise_for_status()
        assert stranger.outcome()["success"] and len(visitors) == before + 1
    wait_until(lambda: len(visitors) == before)


def test_no_statistics_of_events_are_computed(site: Site, come: Come) -> None:
    """Gradio would compute them anew with each event, of all events so far: slower and slower."""
    stranger, queue = come(site), site.page.demo._queue
    for _ in range(3):
        stranger.ask("Hello?").raise_for_status()
        assert stranger.outcome()["success"]
    assert len(queue.event_analytics) <= 1 and queue.event_count_at_last_cache == 0


def test_what_no_widget_gives_is_one_line_and_nothing_happens(site: Site, come: Come) -> None:
    stranger = come(site)
    asked = stranger.defaults("Answers.ask")
    names = [str(widget.elem_id) for widget in site.page.demo.fns[stranger.number("Answers.ask")].inputs]
    wrong = ("[]", "{}", "true", '"1"', "null", "1e400", "NaN", "10" * 30, "9" * 4301, '"\\ud800"', "[[[[", "-7")
    box = '{"text": "Hello?", "files": []}'
    for number, name in enumerate(names):
        for value in wrong:
            is_text = name in ("None", "system", "seed", "mode") and value in ('"1"', "null", "-7")
            is_number = value == "-7" or (value == "10" * 30 and name in LIMITS)
            if (
                is_text
                or is_number
                or (name in ("thinking", "finer-detail") and value == "true")
                or (name == "question" and value in ("{}", "null"))
            ):
                continue  # of the right kind: a matter of the handler
            data = [box, *(json.dumps(value) for value in asked[1:])]
            data[number] = value
            answer = stranger.join("Answers.ask", f"[{', '.join(data)}]")
            assert answer.status_code == 422, (name, value, answer.text)
            assert "\n" not in answer.json()["detail"] and len(answer.json()["detail"]) < 300, (name, value)
    for body in (b"", b"[]", b"null", b"[" * 100_000, b'{"data": []}', b"\xff"):
        assert stranger.web.post("/gradio_api/queue/join", content=body).status_code == 422
    for index in (-1, 1, 10**6, 10**30, "0", None):  # 1 is of the browser alone
        said = json.dumps({"fn_index": index, "session_hash": stranger.session, "data": []})
        assert stranger.web.post("/gradio_api/queue/join", content=said).status_code == 422, index
    assert shown(site, stranger) == []
    data = [{"text": "Hello?", "files": []}, *asked[1:]]
    data[names.index("seed")] = "9" * 4301
    stranger.join("Answers.ask", data).raise_for_status()
    assert stranger.outcome()["success"] and "seed must be a whole number" in stranger.heard


def test_uploads_that_break_off_or_find_no_room_leave_nothing(
    site: Site, come: Come, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, uploads = come(site), site.page.context.uploads

    def files() -> list[Path]:
        return [path for path in uploads.folder.rglob("*") if path.is_file()]

    before = files()
    host, port = site.address.removeprefix("http://").strip("/").split(":")
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\n{HEADER}: {'a' * 40}\r\nContent-Length: 9000000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    )
    with socket.create_connection((host, int(port))) as line:
        line.sendall(head.encode() + b"0" * 3_000_000)
    monkeypatch.setattr(uploads, "most_bytes", 1000)
    full = stranger.upload("a.png", b"0" * 1001)
    assert full.status_code == 413 and "--upload-quota" in full.text
    stranger.upload("a.png", b"0" * 900).raise_for_status()
    assert stranger.upload("b.png", b"0" * 200).status_code == 413
    assert come(site).upload("a.png", b"0" * 900).status_code == 200, "it is another one's room"
    wait_until(lambda: len(files()) == len(before) + 2)  # the server has noticed that the first one broke off
    kept = files()

    def full_disk(content: Any, file: Any) -> None:
        file.write(b"a piece")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full_disk)
    refused = come(site).upload("c.png", b"0" * 10)
    assert refused.status_code == 507 and refused.text.count("\n") == 1 and "No space left" in refused.text
    assert files() == kept


def test_guessing_a_password_is_slowed_for_that_name_alone(
    site: Site, come: Come, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnilmm.ui.attempts.FIRST_WAIT_S", 600.0)
    with serve(ScriptedEngine(), login={"ann": "secret", "bob": "hidden"}) as guarded:
        stranger = come(guarded)
        codes = [
            stranger.web.post("/login", data={"username": "ann", "password": str(guess)}).status_code
            for guess in range(FREE + 2)
        ]
        assert codes == [400] * FREE + [429] * 2
        right = stranger.web.post("/login", data={"username": "ann", "password": "secret"})
        assert right.status_code == 429 and right.json()["detail"].startswith("Too many wrong passwords")
        told = stranger.web.post("/login", data={"username": "ann", "password": "x"}, headers={"accept-language": "zh"})
        assert "密码错误次数过多" in told.json()["detail"]
        proxied = {"x-forwarded-for": "5.6.7.8"}  # as a proxy on this machine says it: somebody elsewhere
        wrong = [
            stranger.web.post("/login", data={"username": "ann", "password": "x"}, headers=proxied).status_code
            for _ in range(FREE + 1)
        ]
        assert wrong == [400] * FREE + [429]
        elsewhere = stranger.web.post(
            "/login", data={"username": "ann", "password": "secret"}, headers={"x-forwarded-for": "9.9.9.9, 5.6.7.9"}
        )
        assert elsewhere.status_code == 200
        assert stranger.web.post("/login", data={"username": "bob", "password": "hidden"}).status_code == 200


def test_a_busy_machine_is_no_reason_not_to_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio gives its server five seconds to start, and then asks it for three whether it is there."""
    from gradio import http_server, networking

    ticks = itertools.count(step=10)
    monkeypatch.setattr(http_server, "time", SimpleNamespace(time=lambda: next(ticks), sleep=time.sleep))
    monkeypatch.setattr(networking, "url_ok", lambda url: False)
    with serve(ScriptedEngine()) as site:
        assert httpx.get(site.address, timeout=60).status_code == 200
