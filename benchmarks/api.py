"""What our own API, and the remote engine before it, add to the engine: `python -m benchmarks.api`.

The built-in model answers the same question greedily: directly, through `/v1/chat/completions` as a bare client reads
it, and through the remote engine. Rows are the best of several runs in turn: what other programs take from this machine
does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date

import httpx

from benchmarks.__main__ import ROOT, machine
from omnilmm.api.app import application
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Engine, Finished
from omnilmm.engine.loading import load_engine
from omnilmm.engine.options import options_for
from omnilmm.engine.remote.messages import Encoder
from omnilmm.engine.remote.servers import Servers
from omnilmm.images.pixels import open_picture
from tests.api.serving import served

RUNS = 15
TOKENS = 200
QUESTION = "Describe this picture in every detail, and then once more."


def main() -> None:
    """Measure and print."""
    engine = load_engine()
    engine.backend.stop_ids = ()  # the answer goes on to its length limit
    asked = Conversation().with_message("user", open_picture(ROOT / "assets/samples/picture.png"), QUESTION)
    with served(application(engine)) as address:
        url = f"{address}/v1"
        remote = Servers([url]).choose(None).load()
        ways: dict[str, Callable[[], tuple[float, int]]] = {
            "engine": lambda: through(engine, asked),
            "API": lambda: through_http(url, asked),
            "API and remote engine": lambda: through(remote, asked),
        }
        runs = [{name: way() for name, way in ways.items()} for _ in range(RUNS + 1)][1:]
    print(f"Command: `python -m benchmarks.api` · {date.today()} · {machine()}\n")
    print(f"| {RUNS} runs | whole answer | per token | added per token |\n|---|---|---|---|")
    base = 0.0
    for name in ways:
        seconds, tokens = min(run[name][0] for run in runs), runs[0][name][1]
        each = seconds / tokens * 1000
        base = base or each
        print(f"| {name}, {tokens} tokens | {seconds * 1000:.0f} ms | {each:.2f} ms | {each / base - 1:+.1%} |")


def through(engine: Engine, asked: Conversation) -> tuple[float, int]:
    """Return the seconds of an answer, and its tokens."""
    began = time.perf_counter()
    *_, last = engine.stream(asked, options_for(engine.card, "greedy", max_new_tokens=TOKENS))
    assert isinstance(last, Finished)
    return time.perf_counter() - began, last.usage.new_tokens


def through_http(url: str, asked: Conversation) -> tuple[float, int]:
    """Return the same for a client that reads the lines and nothing more."""
    body = {"model": "built-in", "messages": Encoder().messages(asked), "temperature": 0, "max_tokens": TOKENS}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    began, last = time.perf_counter(), ""
    with httpx.stream("POST", f"{url}/chat/completions", json=body, timeout=600) as response:
        for line in response.iter_lines():
            last = line if '"completion_tokens"' in line else last
    return time.perf_counter() - began, int(last.partition('"completion_tokens": ')[2].partition(",")[0])


if __name__ == "__main__":
    main()
