"""The API through the client that most programs use, `openai`, and byte by byte where that hides something."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from omnilmm.api.app import application
from omnilmm.catalog import ROOT
from omnilmm.conversation import Conversation
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import options_for
from omnilmm.images.pixels import open_picture
from omnilmm.ui.samples import samples
from tests.api.serving import served
from tests.pages.visitor import Pace, wait_until_free
from tests.waiting import wait_until

KEY = "a key"
SAMPLE = samples()[0]
ASKED = "What colour is the heart?"


@pytest.fixture(scope="module")
def address(engine: LocalEngine) -> Iterator[str]:
    with served(application(engine, key=KEY, most_answers=20)) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def data_uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def shown(address: str, text: str = ASKED) -> dict[str, object]:
    parts = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": text}]
    return {"role": "user", "content": parts}


PICTURE = data_uri(Image.open(SAMPLE.picture).convert("RGB"))


def expected(engine: LocalEngine, mode: str = "sampling", **options: object) -> str:
    conversation = Conversation().with_message("user", open_picture(SAMPLE.picture), ASKED)
    *_, last = engine.stream(conversation, options_for(engine.card, mode, **options))  # type: ignore[arg-type]
    return last.text  # type: ignore[union-attr]


def all_of(chunks: Iterable[Any], pace: Pace) -> list[Any]:
    """All chunks of an answer that may take two passes: it takes the rest once the first of its words are here."""
    found = []
    for chunk in chunks:
        found.append(chunk)
        if chunk.choices and chunk.choices[0].delta.content:
            pace.allow()
    return found


def test_a_picture_is_answered_as_by_the_engine(client: openai.OpenAI, engine: LocalEngine, pace: Pace) -> None:
    pace.allow()
    assert [model.id for model in client.models.list()] == [engine.card.name]
    whole = client.chat.completions.create(
        model=engine.card.name, messages=[shown(PICTURE)], temperature=0, max_completion_tokens=64
    )
    answer = expected(engine, temperature=0, max_new_tokens=64)
    assert whole.choices[0].message.content == answer
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.usage.picture_tokens > 0  # type: ignore[attr-defined]

    pace.hold()
    stream = client.chat.completions.create(
        model=engine.card.name,
        messages=[shown(PICTURE), {"role": "assistant", "content": answer}, {"role": "user", "content": ASKED}],
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    pace.allow(2)
    *chunks, usage = all_of(stream, pace)
    assert len(chunks) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage.prompt_tokens_details.cached_tokens > 0  # of the question before


def test_beams_and_ends(client: openai.OpenAI, engine: LocalEngine) -> None:
    def ask(**how: object) -> str:
        extra = {name: how.pop(name) for name in ("num_beams", "length_penalty", "top_k") if name in how}
        chunks = client.chat.completions.create(
            model=engine.card.name, messages=[shown(PICTURE)], stream=True, extra_body=extra, **how
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    assert ask(num_beams=3, length_penalty=0.5) == expected(engine, "beam", beams=3, length_penalty=0.5)
    greedy = ask(temperature=0)
    assert ask(temperature=0, seed=-1, top_k=1) == greedy == expected(engine, "greedy")
    stop = greedy[4:7]
    assert ask(temperature=0, stop=[stop]) == greedy[: greedy.index(stop)]
    cut = client.chat.completions.create(model=engine.card.name, messages=[shown(PICTURE)], max_tokens=2)
    assert cut.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ({"model": "gpt-4o"}, openai.NotFoundError, "built-in"),
        ({"n": 2}, openai.BadRequestError, r"here: n\."),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, r"here: tools\."),
        ({"logprobs": True}, openai.BadRequestError, r"here: logprobs\."),
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
        ({"max_tokens": 10**9}, openai.BadRequestError, "max_new_tokens"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, openai.BadRequestError, "empty"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, openai.BadRequestError, "role"),
        ({"messages": [shown("https://example.org/a.png")]}, openai.BadRequestError, "--api-fetch-urls"),
        ({"messages": [shown("file:///etc/passwd")]}, openai.BadRequestError, "data URI"),
        ({"messages": [shown(str(SAMPLE.picture))]}, openai.BadRequestError, "data URI"),
        ({"messages": [shown("data:image/png;base64,AAAA")]}, openai.BadRequestError, "picture"),
        ({"messages": [{"role": "user", "content": "word " * 40_000}]}, openai.BadRequestError, "context"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_answered_is_said(
    client: openai.OpenAI, how: dict[str, object], kind: type[Exception], said: str, stream: bool
) -> None:
    request: dict[str, object] = {"model": "built-in", "messages": [shown(PICTURE)], "stream": stream, **how}
    with pytest.raises(kind, match=said):
        client.chat.completions.create(**request)  # type: ignore[call-overload]


def test_fields_without_effect_are_named(client: openai.OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(
        model="built-in",
        messages=[{"role": "user", "content": "Hello"}],
        presence_penalty=0.5,
        frequency_penalty=0,
        extra_body={"mirostat": 2, "é\r\n值": 1},
    )
    assert answer.headers["x-ignored-fields"] == "presence_penalty, mirostat, " + ascii("é\r\n值")


def test_nobody_gets_in_without_the_key(address: str) -> None:
    for path in ("/v1/models", "/v1/openapi.json", "/nowhere"):
        assert httpx.get(f"{address}{path}", timeout=60).status_code == 401
    body = {"model": "built-in", "messages": []}
    wrong = httpx.post(f"{address}/v1/chat/completions", json=body, headers={"authorization": "Bearer b"}, timeout=60)
    assert wrong.status_code == 401
    assert wrong.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(f"{address}/health", timeout=60).json() == {"status": "ok"}


def test_the_form_of_odd_requests(address: str) -> None:
    how = {"headers": {"authorization": f"Bearer {KEY}"}, "timeout": 60}
    for body in (b"", b"[]", b"{", b"[" * 100_000, b'{"model": 1}', b"\xff\xfe"):
        answer = httpx.post(f"{address}/v1/chat/completions", content=body, **how)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]
    assert httpx.get(f"{address}/v1/nothing", **how).json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_model(address: str, engine: LocalEngine, pace: Pace, stream: bool) -> None:
    body = {"model": "built-in", "messages": [shown(PICTURE)], "stream": stream}
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    with closing(HTTPConnection(address.removeprefix("http://"), timeout=60)) as client:
        client.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        wait_until(lambda: engine.scheduler.count)
        assert any(thread.name == "api answer" for thread in threading.enumerate())
        if stream:
            with client.getresponse() as answer:
                pace.allow(2)
                assert answer.readline()
    assert pace.was_closed()
    passes = pace.passes
    pace.allow()
    wait_until_free(engine)
    assert pace.passes <= passes + 1
    wait_until(lambda: not any(thread.name == "api answer" for thread in threading.enumerate()))


def test_many_clients_at_once(client: openai.OpenAI, address: str, engine: LocalEngine) -> None:
    words = [f"word{number}" for number in range(16)]
    answers: dict[str, str | None] = {}

    def ask(word: str) -> None:
        whole = client.chat.completions.create(
            model="built-in", messages=[shown(PICTURE)], temperature=0, user=word, max_tokens=8
        )
        answers[word] = whole.choices[0].message.content

    threads = [threading.Thread(target=ask, args=(word,)) for word in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == set(words)
    assert len(set(answers.values())) == 1
    wait_until_free(engine)


def test_a_full_queue_is_said(engine: LocalEngine, pace: Pace) -> None:
    body = {"model": "built-in", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with served(application(engine, most_answers=1)) as address:
        url = f"{address}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as first:
            lines = first.iter_lines()
            pace.allow(1)
            next(lines)
            refused = httpx.post(url, json=body, timeout=60)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "queue_full"
            pace.allow()
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert httpx.post(url, json=body | {"stream": False}, timeout=60).status_code == 200


def test_its_own_description_says_what_is_accepted(address: str) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    described = httpx.get(f"{address}/v1/openapi.json", headers=headers, timeout=60).json()
    assert set(described["paths"]) == {"/v1/models", "/v1/chat/completions", "/health"}
    assert json.dumps(described).count("image_url") > 1


def test_the_example_of_the_guide(address: str) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.M | re.S)
    typed = example.replace("http://127.0.0.1:8000", address).replace('api_key="none"', f"api_key={KEY!r}")
    done = subprocess.run([sys.executable, "-c", typed], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "pink" in done.stdout, done.stderr
