"""Try a server as our remote engine uses it, for `docs/servers.md`: `python -m benchmarks.servers URL [--model ID]`.

For a person to run, e.g. against vLLM: `vllm serve MODEL`, then `python -m benchmarks.servers http://127.0.0.1:8000/v1`.
Prints one row for each thing tried, with what was found; nothing stops the others.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date

from benchmarks.__main__ import ROOT, machine
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Finished, TextDelta
from omnilmm.engine.options import options_for
from omnilmm.engine.remote.engine import RemoteEngine
from omnilmm.engine.servers import Servers
from omnilmm.errors import OmniLMMError
from omnilmm.images.pixels import open_picture

HELLO = Conversation().with_message("user", "Count from one to a hundred in words.")
AT_ONCE = 16


def main() -> int:
    """Try everything, and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--model")
    args = parser.parse_args()
    key = os.environ.get("OPENAI_API_KEY")
    try:
        served = Servers([args.url], [key] if key else []).choose(args.model)
    except OmniLMMError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    engine, there = served.load(), served.model
    print(f"Command: `python -m benchmarks.servers` · {date.today()} · client: {machine()}\n")
    print(
        f"| {served.name} on {there.endpoint.host}, {there.dialect.title}, context {there.context} | found |\n|---|---|"
    )
    for name, attempt in attempts(engine):
        try:
            found = attempt()
        except OmniLMMError as error:
            found = f"{type(error).__name__}: {error}"
        print(f"| {name} | {found} |", flush=True)
    return 0


def attempts(engine: RemoteEngine) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield what is tried, and how; each returns what was found."""
    picture = open_picture(ROOT / "assets/samples/picture.png")
    shown = Conversation().with_message("user", picture, "What is in this picture?")
    yield "sampling", lambda: _figures(_ask(engine, HELLO))
    yield (
        "greedy, twice the same",
        lambda: str(_ask(engine, HELLO, "greedy").text == _ask(engine, HELLO, "greedy").text),
    )
    yield "seed, twice the same", lambda: str(_ask(engine, HELLO, seed=1).text == _ask(engine, HELLO, seed=1).text)
    yield "picture", lambda: _figures(_ask(engine, shown))
    yield "follow-up", lambda: _figures(_ask(engine, _follow_up(engine, shown)))
    yield "beam search", lambda: _figures(_ask(engine, HELLO, "beam"))
    yield "stop text", lambda: repr(_ask(engine, HELLO, "greedy", stop=("five",)).text)
    yield "far too long", lambda: _figures(_ask(engine, Conversation().with_message("user", "word " * 400_000)))
    yield "Stop, then the next answer's first word", lambda: _stopped(engine)
    yield f"{AT_ONCE} at once", lambda: _together(engine)


def _ask(engine: RemoteEngine, asked: Conversation, mode: str = "sampling", **options: object) -> Finished:
    chosen = options_for(engine.card, mode, **{"max_new_tokens": 64, **options})  # type: ignore[arg-type]
    *_, last = engine.stream(asked, chosen, "benchmark")
    assert isinstance(last, Finished)
    return last


def _figures(answer: Finished) -> str:
    usage, timings = answer.usage, answer.timings
    parts = [f"{timings.first_token_s:.2f} s to first word", f"{timings.tokens_per_s(usage.new_tokens):.1f} tokens/s"]
    parts += [f"prompt {usage.text_tokens + usage.picture_tokens}, reused {usage.reused}, new {usage.new_tokens}"]
    parts += [f"without effect: {', '.join(answer.without_effect)}"] if answer.without_effect else []
    return "; ".join([*parts, repr(answer.text[:60])])


def _follow_up(engine: RemoteEngine, asked: Conversation) -> Conversation:
    return asked.with_message("assistant", _ask(engine, asked).text).with_message("user", "And what else?")


def _stopped(engine: RemoteEngine) -> str:
    events = engine.stream(HELLO, options_for(engine.card, max_new_tokens=1024))
    next(event for event in events if isinstance(event, TextDelta))
    began = time.perf_counter()
    events.close()
    closed_s = time.perf_counter() - began
    return f"closed in {closed_s * 1000:.0f} ms; then {_ask(engine, HELLO).timings.first_token_s:.2f} s"


def _together(engine: RemoteEngine) -> str:
    new: list[int] = []
    began = time.perf_counter()
    threads = [
        threading.Thread(target=lambda: new.append(_ask(engine, HELLO).usage.new_tokens)) for _ in range(AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    return f"{len(new)} answered, {sum(new) / seconds:.0f} tokens/s together, {threading.active_count()} threads left"


if __name__ == "__main__":
    sys.exit(main())
