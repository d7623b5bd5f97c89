"""The API through LangChain, through `curl` as the guide has it, as Open WebUI asks, and by its own description."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from omnilmm.api.app import application
from omnilmm.catalog import ROOT
from omnilmm.engine.local import LocalEngine
from tests.api.serving import served
from tests.api.test_clients import ASKED, KEY, PICTURE, expected
from tests.pages.visitor import Pace

BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def address(engine: LocalEngine) -> Iterator[str]:
    with served(application(engine, key=KEY)) as address:
        yield address


def test_langchain(address: str, engine: LocalEngine, pace: Pace) -> None:
    pace.allow()

    def chat(model: str, **how: Any) -> ChatOpenAI:
        return ChatOpenAI(base_url=f"{address}/v1", api_key=KEY, model=model, max_retries=0, temperature=0, **how)

    asked = HumanMessage([{"type": "image_url", "image_url": {"url": PICTURE}}, {"type": "text", "text": ASKED}])
    model = chat("built-in")
    whole = model.invoke([asked])
    assert whole.content == expected(engine, temperature=0)
    assert whole.usage_metadata and whole.usage_metadata["output_tokens"] > 0
    assert whole.response_metadata["finish_reason"] == "stop"
    pace.hold()
    pace.allow(2)
    pieces = []
    for piece in chat("built-in", stream_usage=True).stream([asked, AIMessage(whole.content), HumanMessage(ASKED)]):
        pieces.append(piece)
        if piece.content:
            pace.allow()  # the rest, once its first words are here
    assert sum(bool(piece.content) for piece in pieces) > 1
    (usage,) = [piece.usage_metadata for piece in pieces if piece.usage_metadata]
    assert usage["input_token_details"]["cache_read"] > 0
    with pytest.raises(openai.BadRequestError, match="system"):  # this model has no system prompt
        model.invoke([SystemMessage("Answer briefly."), ("user", "Hello")])
    with pytest.raises(openai.NotFoundError, match="built-in"):
        chat("gpt-4o").invoke("Hello")
    with pytest.raises(openai.BadRequestError, match="tools"):
        model.bind_tools([{"name": "f", "description": "f", "parameters": {"type": "object"}}]).invoke("Hello")


def test_requests_of_open_webui(address: str, engine: LocalEngine) -> None:
    """Their form was read in copies of Open WebUI's source; the program itself did not send them."""
    user = {"X-OpenWebUI-User-Name": "Anna%20B", "X-OpenWebUI-User-Id": "1", "X-OpenWebUI-User-Role": "user"}
    with httpx.Client(base_url=f"{address}/v1", headers=BEARER | user, timeout=60) as client:
        assert [model["id"] for model in client.get("/models").json()["data"]] == ["built-in"]
        parts = [{"type": "text", "text": ASKED}, {"type": "image_url", "image_url": {"url": PICTURE}}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": parts}]
        set_by_user = {"temperature": 0.0, "top_p": 0.9, "max_tokens": 64, "frequency_penalty": 0.1, "seed": 0}
        body = {"stream": True, "model": "built-in", "messages": messages, "stream_options": {"include_usage": True}}
        with client.stream("POST", "/chat/completions", json=body | set_by_user | {"stop": ["###"]}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-ignored-fields"] == "frequency_penalty"
            data = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
        assert data[-1] == "[DONE]"
        *chunks, usage = map(json.loads, data[:-1])
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert text and usage["usage"]["total_tokens"] > 0
        # A title for the conversation, in the background.
        task = "### Task:\nGenerate a concise title.\n### Chat History:\n<chat_history>\nUSER: Hello\n</chat_history>"
        title = {"model": "built-in", "messages": [{"role": "user", "content": task}], "stream": False}
        assert client.post("/chat/completions", json=title | {"max_completion_tokens": 8}).json()["choices"]
        turns = [*messages, {"role": "assistant", "content": text}]
        last = {"role": "user", "content": [{"type": "text", "text": ASKED, "cache_control": {"type": "ephemeral"}}]}
        follow_up = client.post("/chat/completions", json=title | {"messages": [*turns, last], "max_tokens": 8})
        assert follow_up.json()["choices"][0]["message"]["content"]


def test_curl_as_the_guide_has_it(engine: LocalEngine) -> None:
    guide = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    commands = [block for block in re.findall(r"^```bash\n(.*?)^```", guide, re.M | re.S) if block.startswith("curl")]
    with served(application(engine)) as address:
        said = [_typed(block.replace("http://127.0.0.1:8000", address)) for block in commands]
    listed, stream = said
    assert '"object":"list"' in listed and '"object":"chat.completion"' in listed
    assert stream.rstrip().endswith("data: [DONE]")
    lines = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    assert "pink" in "".join(line["choices"][0]["delta"].get("content", "") for line in lines)


def _typed(commands: str) -> str:
    environment = os.environ | {"no_proxy": "*", "OMNILMM_API_KEY": "none"}
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("path", "is_valid"),
    [("/v1/models", True), ("/health", True), ("/v1/chat/completions", True), ("/v1/chat/completions", False)],
)
def test_it_does_what_its_description_says(address: str, path: str, is_valid: bool) -> None:
    """Status, form and content type of each answer are described; what is not of the form is refused."""
    schema = schemathesis.openapi.from_url(f"{address}/v1/openapi.json", headers=BEARER)
    operation = schema[path]["POST" if path.endswith("completions") else "GET"]
    mode = schemathesis.GenerationMode.POSITIVE if is_valid else schemathesis.GenerationMode.NEGATIVE

    @settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        if is_valid and path.endswith("completions"):
            case.body |= {"model": "built-in", "max_tokens": 1}  # so that some of them are answered
            case.body.pop("max_completion_tokens", None)
        # A request of the right form may still ask for what this model lacks; the key given here is sent in each.
        case.call_and_validate(headers=BEARER, timeout=60, excluded_checks=[positive_data_acceptance, ignored_auth])

    ask()
