"""The server of the Streamlit page and people who mean harm: routes, sessions, uploads and what widgets cannot say."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

import httpx
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequestType
from websockets.exceptions import InvalidStatus

from omnilmm.catalog import cards
from omnilmm.engine.choosing import ListedModel
from omnilmm.ui.offer import Offer
from omnilmm.ui.streamlit_page import messages, server_state, sidebar, visitor
from omnilmm.ui.streamlit_page.routes import ROUTES, Need, need_of
from omnilmm.ui.streamlit_page.visitor import QUESTION, Visitor
from omnilmm.ui.texts import ENGLISH
from tests.pages.visitor import SAMPLES
from tests.streamlit_pages.person import Site, serve
from tests.streamlit_pages.stranger import Stranger, come, port_of
from tests.ui.scripted import Held, ScriptedEngine, capable
from tests.waiting import PATIENCE_S, wait_until

CIRCLE, HEART = SAMPLES["circle"].picture.read_bytes(), SAMPLES["heart"].picture.read_bytes()


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with serve(ScriptedEngine(card=capable())) as site:
        yield site


@pytest.fixture
def engine(server: Site) -> ScriptedEngine:
    server.use(engine := ScriptedEngine(card=capable()))
    return engine


def sees(stranger: Stranger, text: str) -> bool:
    return any(text in said for said in stranger.texts())


def answered(stranger: Stranger) -> None:
    """The answer has come to its end, as a click later shows."""
    for _ in range(200):
        if stranger.has("regenerate"):
            return
        stranger.draw()
        stranger.listen(0.05)
    raise AssertionError(stranger.texts())


def test_every_route_of_streamlit_is_in_the_table_and_what_is_not_is_closed(
    server: Site, engine: ScriptedEngine
) -> None:
    from streamlit import config
    from streamlit.web.server.starlette.starlette_app import create_streamlit_routes

    config.set_option("server.enableStaticServing", True)
    config.set_option("server.scriptHealthCheckEnabled", True)
    try:
        routes = create_streamlit_routes(Runtime.instance())
    finally:
        config.set_option("server.enableStaticServing", False)
        config.set_option("server.scriptHealthCheckEnabled", False)
    found = {route.path for route in routes} - {""}  # files of Streamlit's own page, which the table names one by one
    assert found <= set(ROUTES), "say what each needs"
    assert {path for path in ROUTES if path not in found} == {
        "/", "/index.html", "/favicon.png", "/manifest.json", "/static/{path:path}"
    }  # fmt: skip
    assert need_of("/a/route/of/a/later/version")[0] is Need.CLOSED
    with httpx.Client(base_url=server.address, timeout=PATIENCE_S) as web:
        for path in (*ROUTES, "/a/page", "/_stcore/anything", "/%2e%2e/requirements.txt"):
            need, _ = need_of(path)
            for method in ("GET", "POST", "PUT", "DELETE"):
                code = web.request(method, path.replace("{", "").replace("}", "")).status_code
                assert need is Need.NOTHING or code == 404, (method, path, code)
        assert web.get("/").status_code == web.get("/_stcore/health").status_code == 200
        for path in ("", "/_stcore/health"):
            for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
                for method in ("GET", "PUT", "POST", "DELETE"):
                    assert web.request(method, path, headers=headers).status_code == 403, (method, path, headers)


def test_sessions_pictures_and_uploads_belong_to_the_browser_that_opened_them(
    server: Site, engine: ScriptedEngine
) -> None:
    with come(server.address) as mine, come(server.address) as other:
        other.draw(other.tell("browser-state", "kept", "{}"))
        other.ask("A secret?", ("circle.png", CIRCLE))
        answered(other)
        (picture,) = other.media()[:1]
        upload = f"/_stcore/upload_file/{other.session}/waiting"
        other.upload_to(upload, "heart.png", HEART).raise_for_status()
        assert other.web.get(picture).status_code == 200
        nameless = httpx.Client(base_url=server.address, timeout=PATIENCE_S)
        with nameless:
            for web in (mine.web, nameless):
                assert web.get(picture).status_code == web.head(picture).status_code == 404
                assert web.delete(upload, headers={"X-Xsrftoken": "x"}).status_code == 404
        assert mine.upload_to(upload, "mine.png", CIRCLE).status_code == 404
        files = Runtime.instance().uploaded_file_mgr.get_files(other.session, ["waiting"])
        assert [file.data for file in files] == [HEART]

        with come(server.address, session=other.session) as thief:  # with another cookie
            assert thief.session != other.session and not sees(thief, "A secret?")
        assert Runtime.instance().is_active_session(other.session)

        assert saved(mine, other) is None
        own = saved(other, other)
        assert own and own.status_code == 200 and b"A secret?" in own.content
        other.draw()  # the page is drawn anew before the browser fetches it
        assert other.web.get(own.request.url.path).status_code == 200
        assert mine.web.get(own.request.url.path).status_code == 404
        kept = other.session
        other.hang_up()
        back = Stranger(server.address, session=kept, web=other.web)  # the line was broken for a moment
        back.draw()
        assert back.session == kept and sees(back, "A secret?")
        back.leave()


def test_every_message_is_whole(server: Site, engine: ScriptedEngine) -> None:
    """Streamlit's browser side (1.67) drops old ones early if runs come fast, and fails when one is needed."""
    with come(server.address) as someone:
        someone.draw(someone.tell("browser-state", "kept", "{}"))
        someone.ask("One?")
        answered(someone)
        assert not someone.referable


def session_of(stranger: Stranger) -> Any:
    """Streamlit's own, of an open page."""
    sessions = (info.session for info in Runtime.instance()._session_mgr.list_active_sessions())
    return next(session for session in sessions if session.id == stranger.session)


@pytest.mark.parametrize("has_reloaded", [True, False])
def test_the_model_forgets_who_has_left_but_not_who_has_reloaded(
    server: Site, engine: ScriptedEngine, has_reloaded: bool
) -> None:
    with come(server.address) as someone:
        someone.draw(someone.tell("browser-state", "kept", "{}"))
        someone.ask("One?")
        answered(someone)
        session = session_of(someone)
        if has_reloaded:
            session.session_state[visitor.VISITOR].page = "the page that shows it now"
        session.shutdown()
        assert engine.forgotten == ([] if has_reloaded else engine.owners) and len(engine.owners) == 1
        engine.forgotten.clear()
        session.shutdown()  # as Python's garbage collector does, which may hold any lock
        assert not engine.forgotten


def test_a_run_of_the_page_goes_on_to_its_end_while_its_visitor_leaves(server: Site, engine: ScriptedEngine) -> None:
    """Streamlit's threads go through the state of a session without a lock that its end would wait for."""
    with come(server.address) as visitor:
        visitor.draw(visitor.tell("browser-state", "kept", "{}"))
        session = session_of(visitor)
        going_through = iter(session.session_state._old_state)
        next(going_through)
        session.shutdown()
        assert list(going_through), "and not `RuntimeError: dictionary changed size during iteration`"
        assert not session.session_state._old_state


def element(stranger: Stranger, key: str) -> Any:
    """A widget of the page by its key."""
    for drawn in stranger.elements.values():
        kind = drawn.what.WhichOneof("type")
        found = getattr(drawn.what, kind) if kind else None
        if getattr(found, "id", "").endswith(f"-{key}"):
            return found
    raise AssertionError(key)


def saved(asking: Stranger, owner: Stranger) -> httpx.Response | None:
    """What the button to save a conversation gives to somebody; None where a stranger gets no answer."""
    message = BackMsg()
    message.backend_operation_request.request_id = "a request"
    message.backend_operation_request.session_id = asking.session
    message.backend_operation_request.deferred_file.file_id = element(owner, "export-json").deferred_file_id
    urls: list[str] = []
    take = asking.take

    def listen(said: ForwardMsg) -> None:
        if said.WhichOneof("type") == "backend_operation_response":
            urls.append(said.backend_operation_response.deferred_file.url)
        take(said)

    asking.take = listen  # type: ignore[method-assign]
    asking.send(message)
    if asking is owner:
        asking.until(lambda: urls)
    for _ in range(3):  # by then an answer would have come; the first end may be that of a run before
        asking.draw()
    return owner.web.get(urls[0]) if urls and urls[0] else None


def test_a_browser_gets_nothing_done_that_the_page_has_no_use_for(
    server: Site, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("_handle_clear_cache_request", "_handle_set_run_on_save_request", "_handle_git_information_request"):
        monkeypatch.setattr(f"streamlit.runtime.app_session.AppSession.{name}", lambda *_, name=name: done.append(name))
    monkeypatch.setattr(
        "streamlit.runtime.app_session.AppSession._handle_backend_operation_request",
        lambda *_: done.append("operation"),
    )
    with come(server.address) as stranger:
        for kind in ("clear_cache", "set_run_on_save", "load_git_info", "debug_shutdown_runtime"):
            stranger.send(BackMsg(**{kind: True}))  # type: ignore[arg-type]
        for kind in ("install_skills", "dismiss_skills_nudge", "dataframe_chunk"):
            message = BackMsg()
            getattr(message.backend_operation_request, kind).SetInParent()
            message.backend_operation_request.session_id = stranger.session
            stranger.send(message)
        stranger.draw()
        assert done == [] and Runtime.instance().is_active_session(stranger.session)


def wrong_states(widget: str) -> Iterator[WidgetState]:
    """Everything that no browser says for a widget: kinds it does not have, and odd values of the right one."""
    plain = {
        "bool_value": True,
        "double_value": float("nan"),
        "int_value": -(2**62),
        "string_value": "\0<b>" * 10,
        "json_value": '{"a": [[[1e999]]]}',
        "bytes_value": b"\xff",
    }
    for kind, value in plain.items():
        yield WidgetState(id=widget, **{kind: value})  # type: ignore[arg-type]
    for kind, values in (("double", [float("inf"), -1e308]), ("int", [10**18]), ("string", ["x" * 1000] * 3)):
        state = WidgetState(id=widget)
        getattr(state, f"{kind}_array_value").data.extend(values)
        yield state
    state = WidgetState(id=widget)
    state.string_trigger_value.data = "boo"
    yield state
    for text in (
        "[[[[",
        '[{"event": "kept", "value": [1]}, {"event": 7}, 3, null]',
        '[{"event": "opened", "value": {}}]',
    ):
        yield WidgetState(id=widget, json_trigger_value=text)
    for kind in ("file_uploader_state_value", "chat_input_value"):
        state = WidgetState(id=widget)
        value = getattr(state, kind)
        getattr(value, "file_uploader_state", value).uploaded_file_info.add().file_id = "nobody's"
        yield state


def test_what_no_widget_says_harms_neither_the_session_nor_anybody_else(server: Site, engine: ScriptedEngine) -> None:
    provider = server_state.provider()
    server_state.SERVER.offer = Offer(lambda _: [ListedModel(card, "fp32", True) for card in cards().values()])
    before = (provider.version, provider.requested, provider.is_changing)
    with come(server.address) as stranger, come(server.address) as other:
        widgets = [*stranger.ids()]
        widgets += [
            f"$$STREAMLIT_INTERNAL_KEY_{name}__events" for name in widgets if "browser-state" in name or "past" in name
        ]
        assert len(widgets) > 30
        for widget in widgets:
            for state in wrong_states(widget):
                stranger.run(state)
                stranger.widgets.pop(widget, None)
            stranger.draw()
            assert not sees(stranger, "EXCEPTION"), widget
        stranger.draw(stranger.state("model", string_value="/etc"), stranger.state("dtype", string_value="int99"))
        stranger.click("switch")
        stranger.widgets.clear()
        assert (provider.version, provider.requested, provider.is_changing) == before
        stranger.click("reset")  # a seed that is none is a text like any other, and is told when one asks
        stranger.ask("Still there?")
        answered(stranger)
        other.draw()
        assert not sees(other, "Still there?") and not sees(other, "EXCEPTION")


def test_with_many_answers_each_page_is_drawn_anew_less_often(server: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "POLLS_PER_S", 1)
    monkeypatch.setattr(messages, "MOST_POLL_S", 2)
    monkeypatch.setattr(visitor, "_VISITORS", WeakValueDictionary())
    held = Held("one ", "two")
    server.use(ScriptedEngine(held, card=capable()))
    with come(server.address) as stranger, come(server.address) as other:
        for number, person in enumerate((stranger, other), 1):
            person.draw(person.tell("browser-state", "kept", "{}"))
            person.ask("How often?")
            wait_until(lambda: visitor.busy_count() == number)  # noqa: B023
            person.draw()
            assert number in {every_s for every_s, _ in person.timers.values()}
        held.goes_on.set()
        answered(stranger)
        answered(other)


def test_visitors_are_counted_while_others_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody's page is drawn, another thread may add a visitor."""
    people = [Visitor() for _ in range(3)]
    monkeypatch.setattr(visitor, "_VISITORS", WeakValueDictionary(enumerate(people)))

    class Arriving:
        @property
        def busy(self) -> bool:
            people.append(Visitor())
            visitor._VISITORS[str(len(people))] = people[-1]
            return True

    people[0].session = Arriving()  # type: ignore[assignment]
    assert visitor.busy_count() == 1


def no_room(_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_uploads_are_bounded_and_leave_nothing(
    server: Site, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads: Any = Runtime.instance().uploaded_file_mgr
    with come(server.address) as stranger, come(server.address) as other:
        path = f"/_stcore/upload_file/{stranger.session}/broken"
        head = (
            f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
            f"Cookie: {'; '.join(f'{name}={value}' for name, value in stranger.web.cookies.items())}\r\n"
            f"X-Xsrftoken: {stranger.web.cookies['_streamlit_xsrf']}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        )
        with socket.create_connection(("127.0.0.1", port_of(server.address))) as line:
            line.sendall(head.encode() + b"0" * 3_000_000)
        monkeypatch.setattr(server_state.SERVER, "quota_bytes", 10_000)
        for number in range(2):
            stranger.upload(f"{number}.png", b"0" * 4000, f"{number}").raise_for_status()
        refused = stranger.upload("more.png", b"0" * 4000, "more")
        assert refused.status_code == 413 and "--upload-quota" in refused.text and refused.text.count("\n") == 1
        other.upload("0.png", b"0" * 4000, "0").raise_for_status()  # it is another one's room
        with monkeypatch.context() as full_disk:
            full_disk.setattr(server_state.SERVER, "quota_bytes", 10**9)
            full_disk.setattr("tempfile.SpooledTemporaryFile.rollover", no_room)
            large = other.upload("large.png", b"0" * 3_000_000, "large")
            assert large.status_code == 507 and large.text.count("\n") == 1 and "No space left" in large.text
        assert uploads.held_bytes(stranger.session) == 8000
        assert stranger.web.delete(f"/_stcore/upload_file/{stranger.session}/0", headers={
            "X-Xsrftoken": stranger.web.cookies["_streamlit_xsrf"]}).status_code == 204  # fmt: skip
        assert uploads.held_bytes(stranger.session) == 4000
        both = len(CIRCLE) + len(HEART) - 1
        monkeypatch.setattr("omnilmm.ui.streamlit_page.routes.Gate._over_quota", lambda *_: None)
        monkeypatch.setattr(server_state.SERVER, "quota_bytes", both)
        stranger.ask("Both?", ("circle.png", CIRCLE), ("heart.png", HEART))
        assert sees(stranger, "heart.png: " + ENGLISH.uploads_full.format(most=0)) and engine.asked == []
        session = stranger.session
    wait_until(lambda: uploads.held_bytes(session) == 0 or not Runtime.instance().is_active_session(session))


def test_a_websocket_of_another_origin_or_path_is_refused(server: Site) -> None:
    from websockets.sync.client import connect
    from websockets.typing import Origin

    address = server.address.replace("http", "ws", 1)
    for path, origin in (("/_stcore/stream", "http://evil.example"), ("/media/x", None), ("/else", None)):
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(f"{address}{path}", origin=Origin(origin or server.address)),
        ):
            pass
        assert refused.value.response.status_code == 403, path


def test_two_runs_of_one_page_are_never_at_once(
    server: Site, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would read and write the same widgets: Streamlit fails with "dictionary changed size", now and then."""
    running, most, drawn = 0, 0, sidebar.draw

    def draw(*given: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.2)  # long enough for the other one to begin, if it may
        running -= 1
        drawn(*given)

    with come(server.address) as stranger:
        monkeypatch.setattr(sidebar, "draw", draw)
        before = stranger.runs
        for _ in range(3):
            stranger.run()
            wait_until(lambda: running)
        stranger.until(lambda: stranger.runs > before)
    assert most == 1


def question(stranger: Stranger, text: str) -> WidgetState:
    """What the box for questions sends."""
    state = stranger.state(QUESTION)
    state.chat_input_value.data = text
    return state


def test_a_click_that_comes_with_a_timers_message_too_is_done_once(server: Site, engine: ScriptedEngine) -> None:
    with come(server.address) as stranger:
        asked = question(stranger, "Hello")
        stranger.run(asked, fragment=next(iter(stranger.timers)))
        stranger.draw(asked)
        answered(stranger)
        stranger.draw()
    assert len(engine.asked) == 1


def test_a_click_is_done_to_its_end_while_the_browser_asks_for_more(
    server: Site, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, clicked, more = Visitor._options, threading.Event(), threading.Event()

    def late(me: Visitor, *given: Any) -> Any:
        clicked.set()
        assert more.wait(PATIENCE_S)
        return options(me, *given)  # reads widgets

    with come(server.address) as stranger:
        session = session_of(stranger)
        monkeypatch.setattr(Visitor, "_options", late)
        stranger.run(question(stranger, "Hello"))
        assert clicked.wait(PATIENCE_S)
        stranger.run()
        wait_until(lambda: session._scriptrunner._requests._state is ScriptRequestType.RERUN)
        more.set()
        answered(stranger)
    assert len(engine.asked) == 1
