"""What our own API, and the remote engine before it, add to the engine: `python -m benchmarks.api`.

The built-in model answers the same question greedily: directly, through `/v1/chat/completions` as a bare client reads
it, and through the remote engine. Both clients have a process of their own, as clients have. In all rows the earlier
prompt is reused. Rows are the best of several runs in turn: what other programs take from this machine does not count.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import cache, partial
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.__main__ import ROOT, machine
from omnilmm.api.app import application
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Engine, Finished, TextDelta
from omnilmm.engine.loading import load_engine
from omnilmm.engine.options import options_for
from omnilmm.engine.remote.messages import Encoder
from omnilmm.engine.servers import Servers
from omnilmm.images.pixels import open_picture
from tests.api.serving import served

RUNS = 15
TOKENS = 200
QUESTION = "Describe this picture in every detail, and then once more."
WORDS = re.compile(rb'"content": ?"[^"]')


class Timed(NamedTuple):
    """Seconds until the first word, seconds until the end, and the tokens of an answer."""

    first_s: float
    whole_s: float
    tokens: int

    @property
    def each_s(self) -> float:
        """Seconds per token after the first word."""
        return (self.whole_s - self.first_s) / (self.tokens - 1)


def main() -> None:
    """Measure and print."""
    engine = load_engine()
    engine.backend.stop_ids = ()  # the answer goes on to its length limit
    with (
        served(application(engine)) as address,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as client,
    ):
        url = f"{address}/v1"
        ways: dict[str, Callable[[], Timed]] = {
            "engine": partial(through, engine),
            "API, a bare client": lambda: client.submit(through_http, url).result(),
            "API, the remote engine": lambda: client.submit(through_remote, url).result(),
        }
        runs = [{name: with_cpu(way) for name, way in ways.items()} for _ in range(RUNS + 1)][1:]
    print(f"Command: `python -m benchmarks.api` · {date.today()} · {machine()} · best of {RUNS}, {TOKENS} tokens\n")
    print("| through | first word | each token after it | added | CPU time per token | added |")
    print("|---|---|---|---|---|---|")
    rows = {name: best([run[name] for run in runs]) for name in ways}
    for name, (first_s, *figures) in rows.items():
        added = [
            f"{figure_s * 1000:.2f} ms | {figure_s / base_s - 1:+.1%}"
            for figure_s, base_s in zip(figures, rows["engine"][1:], strict=True)
        ]
        print(f"| {name} | {first_s * 1000:.1f} ms | {' | '.join(added)} |")


def best(runs: list[tuple[Timed, float]]) -> tuple[float, float, float]:
    """Return the fewest seconds until the first word, per token after it, and of CPU time per token."""
    return (
        min(timed.first_s for timed, _ in runs),
        min(timed.each_s for timed, _ in runs),
        min(cpu_s / timed.tokens for timed, cpu_s in runs),
    )


def with_cpu(way: Callable[[], Timed]) -> tuple[Timed, float]:
    """Time an answer, and the CPU time that it takes in this process, which is the server's."""
    began_s = time.process_time()
    timed = way()
    return timed, time.process_time() - began_s


@cache
def asked() -> Conversation:
    """Return the question and its picture."""
    return Conversation().with_message("user", open_picture(ROOT / "assets/samples/picture.png"), QUESTION)


def through(engine: Engine) -> Timed:
    """Time an answer of an engine."""
    conversation, began_s = asked(), time.perf_counter()
    first_s = 0.0
    for event in engine.stream(conversation, options_for(engine.card, "greedy", max_new_tokens=TOKENS), "benchmark"):
        if isinstance(event, TextDelta):
            first_s = first_s or time.perf_counter() - began_s
    assert isinstance(event, Finished)
    return Timed(first_s, time.perf_counter() - began_s, event.usage.new_tokens)


def through_remote(url: str) -> Timed:
    """Time an answer of the remote engine."""
    return through(remote(url))


@cache
def remote(url: str) -> Engine:
    """Return the remote engine of a server."""
    return Servers([url]).choose(None).load()


def through_http(url: str) -> Timed:
    """Time an answer as a client gets it that looks at nothing but the first word."""
    options = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0, "max_tokens": TOKENS}
    body = json.dumps({"model": "built-in", "messages": Encoder().messages(asked()), **options})
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    began_s, first_s, came = time.perf_counter(), 0.0, b""
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    while piece := answer.read1(65536):
        came += piece
        if not first_s and WORDS.search(came):
            first_s = time.perf_counter() - began_s
    whole_s = time.perf_counter() - began_s
    connection.close()
    found = re.search(rb'"completion_tokens": ?(\d+)', came)
    assert found
    return Timed(first_s, whole_s, int(found[1]))


if __name__ == "__main__":
    main()
