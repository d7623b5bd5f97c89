"""What real servers do rarely: broken streams, refusals, silence. Each is one line for the reader, or goes on."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from PIL import Image

from omnilmm.catalog import BUILT_IN
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine import servers as remote_servers
from omnilmm.engine.events import Finished, Progress, TextDelta, ThoughtDelta
from omnilmm.engine.options import options_for
from omnilmm.engine.remote.client import Client, Endpoint
from omnilmm.engine.remote.dialects import DIALECTS, LLAMA_CPP, OMNILMM, PLAIN, TRANSFORMERS, VLLM, Dialect
from omnilmm.engine.remote.engine import RemoteEngine, retry_after_s
from omnilmm.engine.servers import Servers
from omnilmm.errors import ContextLengthError, InputError, OmniLMMError, OptionsError, ServerError
from omnilmm.model_lookup import find
from tests.engine.remote.scripted_server import DONE, HEAD, Scripted, delta, event, greeting, reply, scripted
from tests.guarded import guarded_calls
from tests.waiting import wait_until

HELLO = Conversation().with_message("user", "Hello")
PICTURE = Picture(Image.new("RGB", (1400, 900), "red"))
SHOWN = Conversation().with_message("user", PICTURE, "What is this?")
KEY = "sk-secret"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


def engine_of(server: Scripted, dialect: Dialect = PLAIN, **more: Any) -> RemoteEngine:
    return RemoteEngine(server.url, "m", KEY, dialect=dialect, **more)


def ask(engine: RemoteEngine, conversation: Conversation = HELLO, mode: Any = "sampling", **options: Any) -> Finished:
    *events, last = engine.stream(conversation, options_for(engine.card, mode, **options), "somebody")
    assert isinstance(last, Finished)
    assert "".join(one.text for one in events if isinstance(one, TextDelta)) == last.text
    return last


USAGE = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}})


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_stream_may_be_cut_anywhere(server: Scripted, size: int) -> None:
    """Inside characters, inside `data:`, between the parts of a line end; with comments and other fields in between."""
    stream = b": keep-alive\r\n\r\nevent: message\nid: 1\n" + delta("你好\u2028 ") + USAGE + b":\n\n"
    stream += delta("🙂 a").replace(b"\n\n", b"\r\n\r\n") + b"\n\n" + delta(reason="length") + DONE
    server.replies = [[HEAD, *[stream[start : start + size] for start in range(0, len(stream), size)]]]
    finished = ask(engine_of(server))
    assert finished.text == "你好\u2028 🙂 a" and finished.reason == "length"
    assert (finished.usage.text_tokens, finished.usage.new_tokens) == (7, 2)


@pytest.mark.parametrize(
    "end",
    [
        [delta(reason="stop")],  # without [DONE]
        [delta(reason="stop").rstrip()],  # without the empty line after it
        [delta(reason="stop") + DONE, 60.0],  # without closing the connection
    ],
)
def test_ends_that_are_ends(server: Scripted, end: list[Any]) -> None:
    server.replies = [[HEAD, delta("Yes."), *end]]
    assert ask(engine_of(server)).text == "Yes."


def test_an_answer_in_one_piece(server: Scripted) -> None:
    choices = [{"index": n, "message": {"content": text}, "finish_reason": "stop"} for n, text in enumerate("ab")]
    server.replies = [[reply({"choices": choices, "usage": {"prompt_tokens": 3, "completion_tokens": 1}})]]
    finished = ask(engine_of(server, VLLM), mode="beam", beams=4)
    assert (finished.text, finished.usage.new_tokens) == ("a", 1)
    (body,) = server.bodies
    assert (body["use_beam_search"], body["n"]) == (True, 4) and "temperature" not in body
    assert body["skip_special_tokens"] is False, "else marks of boxes may be missing"


BROKEN: list[tuple[list[Any], str]] = [
    ([HEAD, delta("Half of"), None], "connection"),
    ([HEAD, delta("Half of")], "connection"),
    ([None], "connection"),
    ([b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n", delta("x")], "connection"),
    ([HEAD, b"data: <html>\n\n"], r"/v1"),
    ([HEAD, b"data: [1]\n\n"], r"/v1"),
    ([reply("<html><b>Sign in</b></html>", 200, "text/html")], r"/v1"),
    ([HEAD, delta("Half"), event({"error": {"message": "CUDA out of memory", "code": 500}})], "CUDA out of memory"),
    ([HEAD, event({"error": "the model crashed"})], "the model crashed"),
    ([reply("<html>Bad Gateway</html>", 502, "text/html")], "502.*Bad Gateway"),
    ([reply({"object": "error", "message": "boom", "code": 400})], "400.*boom"),
    ([HEAD, event({"object": "error", "message": "boom", "code": 400}), DONE], "400.*boom"),
    ([HEAD, delta("Half"), event({"object": "error", "message": "boom"}), DONE], "boom"),
    ([reply({"detail": "no worker"})], "no worker"),
    ([HEAD, event({"detail": "no worker"}), DONE], "no worker"),
    ([HEAD, event({"detail": "no worker"})], "no worker"),
    ([reply({})], r"/v1"),
    ([reply({"choices": None})], r"/v1"),
    ([HEAD, event({}), DONE], r"/v1"),
    ([HEAD, DONE], "connection"),
    ([reply({"detail": "internal"}, 500)], "500.*internal"),
    ([reply({"error": {"message": "no"}}, 401)], "OPENAI_API_KEY"),
    ([reply("Forbidden", 403, "text/plain")], "OPENAI_API_KEY"),
    ([reply({"error": {"message": "The model `m` does not exist."}}, 404)], r"does not exist.*It lists: m, n"),
    ([reply({"error": {"message": "too big"}}, 413)], "too large"),
    ([b"HTTP/1.1 301 X\r\nlocation: http://127.0.0.2:1/\r\ncontent-length: 0\r\n\r\n"], "301|/v1"),
    ([b"nonsense\r\n\r\n"], "connection"),
]


@pytest.mark.parametrize(("pieces", "line"), BROKEN, ids=range(len(BROKEN)))
def test_each_failure_is_one_line_with_the_way_out(
    server: Scripted, pieces: list[Any], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.models = {"data": [{"id": "m"}, {"id": "n"}]}
    server.replies = [pieces]
    threads = threading.active_count()
    with pytest.raises(ServerError, match=line) as failed:
        ask(engine_of(server))
    for text in (str(failed.value), failed.value.sentence.worded("zh", "page")):
        assert "\n" not in text and KEY not in text and server.url in text
    assert "HTTP Request: POST" in caplog.text or "httpcore" in caplog.text
    assert server.headers["authorization"] == f"Bearer {KEY}" and KEY not in caplog.text
    wait_until(lambda: threading.active_count() <= threads)


def test_addresses_without_a_server() -> None:
    with pytest.raises(ServerError, match="No server answers"):
        ask(RemoteEngine("http://127.0.0.1:1/v1", "m"))
    nowhere = RemoteEngine("http://nowhere.invalid/v1", "m")
    nowhere.client = Client(nowhere.client.endpoint, connect_s=60.0)  # a name server may take its time
    with pytest.raises(ServerError, match="no host of this name"):
        ask(nowhere)
    with greeting(b"HTTP/1.1 400 Bad Request\r\n\r\n") as host, pytest.raises(ServerError, match="secure connection"):
        ask(RemoteEngine(f"https://{host}/v1", "m"))
    for wrong in ("", "localhost:8000", "ftp://a/v1", "http://", "http://a:b/v1", "http://a:99999/v1", "file:///etc"):
        with pytest.raises(OptionsError, match="URL must be the address"):
            RemoteEngine(wrong, "m")
    with pytest.raises(OptionsError) as refused:
        RemoteEngine("ftp://me:password@host/v1", "m")
    assert "password" not in str(refused.value)
    with pytest.raises(OptionsError, match="key"):
        RemoteEngine("http://a/v1", "m", "a\nb")


def test_a_host_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a firewall that drops packets: a full backlog does the same."""
    monkeypatch.setattr("omnilmm.engine.remote.client.HEARTBEAT_S", 0.01)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        address = full.getsockname()
        for _ in range(3):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(address)
        engine = RemoteEngine(f"http://127.0.0.1:{address[1]}/v1", "m")
        engine.client = Client(engine.client.endpoint, connect_s=60.0)
        events = engine.stream(HELLO)
        assert [next(events) for _ in range(3)] == [Progress("encoding")] * 3, "the page hears of it meanwhile"
        events.close()
        engine.client = Client(engine.client.endpoint, connect_s=0.5)
        with pytest.raises(ServerError, match="does not answer: check that the server runs"):
            ask(engine)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "all_proxy"])
def test_a_server_on_this_machine_is_asked_without_a_proxy(
    server: Scripted, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A proxy could not reach it, and must see neither the conversation nor the key; other servers are its business."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with scripted() as proxy:
        monkeypatch.setenv(variable, proxy.url.removesuffix("/v1"))
        server.replies = proxy.replies = [[HEAD, delta("Yes."), DONE]]
        for host in ("127.0.0.1", "localhost", "0.0.0.0"):  # noqa: S104
            url = server.url.replace("127.0.0.1", host)
            Servers([url], [KEY]).choose("m")
            assert ask(RemoteEngine(url, "m", KEY)).text == "Yes."
        assert not proxy.headers and len(server.bodies) == 3
        ask(RemoteEngine("http://elsewhere.invalid/v1", "m"))
        assert len(proxy.bodies) == 1


def test_silence_ends_and_heartbeats_come_meanwhile(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnilmm.engine.remote.client.HEARTBEAT_S", 0.01)
    server.replies = [[HEAD, b": alive\n\n", 60.0]]
    engine = engine_of(server)
    events = engine.stream(SHOWN)
    assert [next(events) for _ in range(3)] == [Progress("encoding", total=1)] * 3
    events.close()
    engine.client = Client(Endpoint.of(server.url), silence_s=0.5)
    with pytest.raises(ServerError, match="nothing for too long"):
        ask(engine, SHOWN)


@pytest.mark.parametrize("pieces", [[60.0], [HEAD, 60.0], [HEAD, delta("a"), 60.0]], ids=["headers", "body", "text"])
def test_closing_closes_the_connection_wherever_it_is(server: Scripted, pieces: list[Any]) -> None:
    server.replies = [pieces]
    threads = threading.active_count()
    events = engine_of(server).stream(HELLO)
    has_text = False
    while not server.bodies or has_text != (len(pieces) > 2):
        has_text = isinstance(next(events), TextDelta) or has_text
    events.close()
    assert server.left.wait(60)
    wait_until(lambda: threading.active_count() <= threads)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_waited_for_and_then_reported(server: Scripted, status: int) -> None:
    busy = [reply({"error": {"message": "Loading model"}}, status, retry_after="1")]
    server.replies = [busy, [HEAD, delta("Now."), DONE]]
    events = [*engine_of(server).stream(HELLO)]
    assert Progress("busy") in events and isinstance(events[-1], Finished) and events[-1].text == "Now."
    assert events[-1].timings.waited_s >= 1
    server.replies, asked = [busy], len(server.bodies)
    with pytest.raises(ServerError, match=r"busy.*Loading model"):
        ask(engine_of(server, busy_s=0.5))
    assert len(server.bodies) == asked + 1, "not asked before the second that it wants is over"


def test_how_long_a_busy_server_wants_to_be_left_alone() -> None:
    at_noon = datetime(2026, 11, 29, 12, tzinfo=UTC)
    for given, seconds in {
        "7": 7,
        " 7 ": 7,
        "Sun, 29 Nov 2026 12:00:07 GMT": 7,
        "Sun, 29 Nov 2026 11:00:00 GMT": 0,
    }.items():
        assert retry_after_s({"retry-after": given}, at_noon) == seconds
    for given in ("", "soon", "-1", "9" * 6, "Sun, 29 Nov 2026 12:00:07"):
        assert retry_after_s({"retry-after": given}, at_noon) == 0


def refusal(message: str, status: int = 400, **inner: Any) -> list[Any]:
    return [reply({"error": {"message": message, **inner}}, status)]


@pytest.mark.parametrize(
    ("refused", "gone", "options"),
    [
        (refusal("Unsupported parameter", param="temperature"), {"temperature"}, ("temperature",)),
        (refusal("Unknown arguments: 'top_p' and seed, top_k"), {"top_p", "top_k"}, ("top_k", "top_p")),
        ([reply({"detail": "Unexpected fields in the request: {'seed'}"}, 422)], {"seed"}, ("seed",)),
        (
            [reply({"detail": [{"loc": ["body", "repetition_penalty"], "msg": "extra"}]}, 422)],
            {"repetition_penalty"},
            ("repetition_penalty",),
        ),
        (refusal("use max_completion_tokens instead of max_tokens", param="max_tokens"), {"max_tokens"}, ()),
    ],
)
def test_a_refused_field_is_left_out_and_named(
    server: Scripted, refused: list[Any], gone: set[str], options: tuple[str, ...]
) -> None:
    server.replies = [refused, [HEAD, delta("Yes."), DONE]]
    engine = engine_of(server, VLLM)
    finished = ask(engine, seed=3)
    assert (finished.text, finished.without_effect) == ("Yes.", options)
    first, second = server.bodies
    assert set(first) - set(second) == gone
    assert ask(engine, seed=3).without_effect == options and len(server.bodies) == 3, "it is remembered"
    if "max_tokens" in gone:
        assert second["max_completion_tokens"] == first["max_tokens"]


@pytest.mark.parametrize(
    "refused",
    [
        refusal("temperature must be at most 2, not 9", param="temperature"),
        refusal("Unsupported value: 'temperature' does not support 9", param="temperature", code="unsupported_value"),
        refusal("I do not like `temperature`"),
    ],
)
def test_a_refused_value_of_one_visitor_takes_the_option_from_nobody(server: Scripted, refused: list[Any]) -> None:
    yes = [HEAD, delta("Yes."), DONE]
    server.replies = [refused, yes]
    engine = engine_of(server)
    assert ask(engine, temperature=2).without_effect == ("temperature",)
    assert "temperature" not in server.bodies[1]
    assert ask(engine).without_effect == () and server.bodies[2]["temperature"]


def test_what_one_answer_learns_another_at_the_same_time_does_not_forget(server: Scripted) -> None:
    yes = [HEAD, delta("Yes."), DONE]
    server.replies = [yes, refusal("Unknown field", param="seed"), yes]
    engine = engine_of(server)
    first = engine.stream(HELLO)
    assert any(isinstance(one, TextDelta) for one in first)  # stops at the first one
    assert ask(engine, seed=3).without_effect == ("seed",)
    assert isinstance([*first][-1], Finished)
    ask(engine, seed=3)
    assert "seed" not in server.bodies[3]


@pytest.mark.parametrize("param", ["max_tokens", None])
def test_the_limit_of_the_length_is_never_left_out(server: Scripted, param: str | None) -> None:
    yes = [HEAD, delta("Yes."), DONE]
    server.replies = [refusal("max_tokens is too large: 900. At most 512 are supported.", param=param), yes]
    engine = engine_of(server)
    with pytest.raises(ServerError, match="At most 512"):
        ask(engine, max_new_tokens=900)
    ask(engine, max_new_tokens=500)
    assert server.bodies[1]["max_tokens"] == 500
    unknown = [refusal(f"Unknown field {name}") for name in ("max_tokens", "max_completion_tokens")]
    server.replies += [*unknown, yes]
    with pytest.raises(ServerError, match="Unknown field max_completion_tokens"):
        ask(engine)
    ask(engine)
    assert server.bodies[-1]["max_tokens"]


def test_a_refusal_that_names_no_field_is_reported(server: Scripted) -> None:
    server.replies = [refusal("Conversation roles must alternate user and assistant; stop it.")]
    with pytest.raises(ServerError, match="must alternate"):
        ask(engine_of(server, OMNILMM), stop=("x",))
    assert len(server.bodies) == 1


def test_a_conversation_that_is_too_long_loses_its_oldest_turns(server: Scripted) -> None:
    too_long = refusal("This model's maximum context length is 512 tokens, max_tokens is too large")
    server.replies = [too_long, too_long, [HEAD, delta("Yes."), DONE]]
    conversation = Conversation()
    for question in "abc":
        conversation = conversation.with_message("user", question).with_message("assistant", "-")
    finished = ask(engine_of(server), conversation.with_message("user", "d"))
    assert finished.dropped_messages == 4
    assert [message["content"] for message in server.bodies[-1]["messages"]] == ["c", "-", "d"]
    assert server.bodies[-1]["max_tokens"], "not taken for a refused field"
    server.replies = [too_long]
    with pytest.raises(ContextLengthError, match="maximum context length is 512"):
        ask(engine_of(server))


def test_pictures_are_sent_once_more_smaller_or_refused(server: Scripted) -> None:
    server.replies = [[reply("", 413, "text/plain")], [HEAD, delta("Red."), DONE]]
    engine = engine_of(server)
    assert ask(engine, SHOWN).text == "Red."
    before, after = (body["messages"][0]["content"][0]["image_url"]["url"] for body in server.bodies)
    assert before.startswith("data:image/png;base64,") and after.startswith("data:image/jpeg;base64,")
    server.replies = [refusal("m is not a multimodal model")]
    with pytest.raises(InputError, match="takes no pictures"):
        ask(engine, SHOWN)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", None])
def test_thoughts(server: Scripted, name: str | None) -> None:
    apart = [event({"choices": [{"delta": {name: text, "content": None}}]}) for text in ("Red, ", "so?")]
    inline = [delta(piece) for piece in ("<th", "ink>\nRed, ", "so?\n</thi", "nk>")]
    usage = event({"choices": [], "usage": {"completion_tokens_details": {"reasoning_tokens": 5}}})
    server.replies = [[HEAD, *(apart if name else inline), delta("\n\nRed."), delta(reason="stop"), usage, DONE]]
    events = [*engine_of(server).stream(HELLO)]
    assert "".join(one.text for one in events if isinstance(one, ThoughtDelta)) == "Red, so?"
    finished = events[-1]
    assert isinstance(finished, Finished) and finished.thought
    assert (finished.text, finished.thought.text, finished.thought.tokens) == ("Red.", "Red, so?", 5)


def test_nothing_in_a_chunk_is_trusted(server: Scripted) -> None:
    odd = [{"choices": None}, {"choices": [7]}, {"choices": [{"delta": [], "message": 3}]}, {"usage": [1]}, {}]
    odd += [{"choices": [{"delta": {"content": 5}}], "usage": {"prompt_tokens": -1, "completion_tokens": True}}]
    odd += [{"timings": {"predicted_n": "x"}, "prompt_progress": {"total": "x"}}]
    server.replies = [[HEAD, *map(event, odd), delta("Yes."), DONE]]
    finished = ask(engine_of(server))
    assert finished.text == "Yes." and (finished.usage.text_tokens, finished.usage.new_tokens) == (0, 0)
    server.replies = [[HEAD, b"data: " + b"x" * 2**24]]
    with pytest.raises(ServerError):
        ask(engine_of(server))


# --- which server it is, and its models -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "routes", "name"),
    [
        ([{"id": "m", "owned_by": "vllm", "max_model_len": 99}], {}, "vllm"),
        ([{"id": "m", "owned_by": "sglang"}], {}, "sglang"),
        ([{"id": "m", "owned_by": "library"}], {}, "ollama"),
        ([{"id": "m", "owned_by": "organization_owner"}], {}, "lmstudio"),
        ([{"id": "m", "owned_by": "omnilmm"}], {}, "omnilmm"),
        ([{"id": "m", "owned_by": "openai"}], {"/version": {"version": "0.32"}}, "vllm"),
        ([{"id": "m"}], {"/props": {"default_generation_settings": {}}}, "llama.cpp"),
        ([{"id": "m", "owned_by": "author"}], {"/openapi.json": {"paths": {"/load_model": {}}}}, "transformers"),
        ([{"id": "m", "owned_by": "someone"}], {"/openapi.json": {"paths": []}}, "plain"),
    ],
)
def test_a_server_is_recognised(server: Scripted, models: list[Any], routes: dict[str, Any], name: str) -> None:
    server.models, server.routes = {"data": models}, routes
    served = Servers([server.url], [KEY]).choose(None)
    assert served.model.dialect is DIALECTS[name]
    assert server.headers["authorization"] == f"Bearer {KEY}"
    assert served.card.is_context_known == ("max_model_len" in models[0])
    assert served.card.beam_search == (name in ("vllm", "omnilmm"))


def test_models_of_the_catalog_are_known_and_others_are_not(server: Scripted) -> None:
    server.models = {"data": [{"id": "openbmb/MiniCPM-V-2_6"}, {"id": "x", "input_modalities": ["text"]}]}
    servers = Servers([server.url])
    known, other = servers.choose("openbmb/MiniCPM-V-2_6").card, servers.choose("x").card
    engine = servers.choose("openbmb/MiniCPM-V-2_6").load()
    views = engine.slices(Picture(Image.new("RGB", (1000, 400))))
    assert views and [(view.width, view.height, view.tokens) for view in views[1:]] == [(406, 490, 64)] * 3
    assert known.are_slices_assumed and servers.choose("x").load().slices(PICTURE) is None
    assert known.title == "MiniCPM-V 2.6" and known.boxes and not known.beam_search and not known.video
    assert other.title == "x" and not other.pictures and other.licence == ""


def test_several_servers_one_of_which_is_off(server: Scripted) -> None:
    with scripted() as second:
        server.models, second.models = ({"data": [{"id": "m"}, {"id": own}]} for own in "ab")
        off = "http://127.0.0.1:1/v1"
        servers = Servers([server.url, second.url, off], ["1", "2", "3"])
        hosts = [url.split("/")[2] for url in (server.url, second.url)]
        assert set(servers.refresh()) == {"a", "b", *(f"m ({host})" for host in hosts)}
        assert (server.headers["authorization"], second.headers["authorization"]) == ("Bearer 1", "Bearer 2")
        with pytest.raises(OmniLMMError, match="several models"):
            servers.choose(None)
        second.replies = [[HEAD, delta("Second."), DONE]]
        assert ask(servers.choose(f"m ({hosts[1]})").load()).text == "Second."
        assert second.bodies[0]["model"] == "m"
    with pytest.raises(OptionsError, match=r"2 times.*1"):
        Servers([server.url], ["1", "2"])
    server.models = {"data": []}
    with pytest.raises(ServerError, match="lists no model"):
        Servers([server.url]).choose(None)


def test_servers_are_asked_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an older list could come last, without a model that a page has shown by now."""
    servers = Servers(["http://a.example", "http://b.example"])
    monkeypatch.setattr(remote_servers, "list_models", lambda _: ())
    alone = guarded_calls(monkeypatch, remote_servers, "list_models", servers._lock.locked)
    assert servers.refresh() == {} and alone == [True, True]


def test_only_what_the_dialect_knows_is_sent(server: Scripted) -> None:
    server.replies = [[HEAD, delta("Yes."), DONE]]
    ask(engine_of(server, PLAIN), seed=4, stop=("x", "y"))
    ask(engine_of(server, LLAMA_CPP), repetition_penalty=1.5)
    ask(engine_of(server, OMNILMM), mode="greedy")
    plain, llama, own = server.bodies
    common = {"model", "messages", "stream", "stream_options", "max_tokens"}
    assert set(plain) == common | {"temperature", "top_p", "seed", "stop"} and plain["stop"] == ["x", "y"]
    assert llama["repeat_penalty"] == 1.5 and llama["min_p"] == 0 and "repetition_penalty" not in llama
    assert set(own) == common | {"temperature", "repetition_penalty", "user"} and own["temperature"] == 0
    assert "somebody" not in own["user"]
    drawn, greedy = (TRANSFORMERS.fields(options_for(find(BUILT_IN), mode)) for mode in ("sampling", "greedy"))
    assert "do_sample" in drawn["generation_config"] and "generation_config" not in greedy


def test_a_chunk_of_llama_cpp_may_name_the_model_differently(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router before several models may; only a model that is gone is an error, and other servers use aliases."""
    monkeypatch.setattr("omnilmm.engine.remote.engine.CHECK_S", 60.0)
    named = event({"model": "m-q4", "choices": [{"delta": {"content": "Yes."}}]})
    server.replies = [[HEAD, named, DONE]]
    assert ask(engine_of(server, LLAMA_CPP)).text == ask(engine_of(server)).text == "Yes."
    server.models = {"data": [{"id": "m-q4"}]}
    assert ask(engine_of(server)).text == "Yes."
    with pytest.raises(ServerError, match=r"no longer has the model m\. It lists: m-q4"):
        ask(engine_of(server, LLAMA_CPP))
