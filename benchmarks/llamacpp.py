"""Benchmark llama.cpp beside transformers, in one run: `make bench-llamacpp`.

Each model answers a question about a picture of 1344×1344 pixels, a second question, and one about a text of 400 words,
three ways: our engine through transformers, our engine through llama.cpp, and llama.cpp's bare server, asked directly.
The goals are those of the page: through our engine at least 0.95 of the bare server's tokens per second, and at most
1.05 of its time to the first word. Run nothing else meanwhile.

The larger model has the shape of a Qwen2 of 1.5 B with a vision tower of SigLIP-400M's, and random weights, by which it
says only what its tokenizer can write. Answers do not end before their limit. Preparing the picture counts everywhere.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import torch
from PIL import Image

from benchmarks.__main__ import machine
from omnilmm.catalog import BUILT_IN
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Engine, Finished
from omnilmm.engine.llamacpp.engine import LlamaCppEngine
from omnilmm.engine.loading import load_engine
from omnilmm.engine.options import Greedy
from omnilmm.export.to_gguf import export_gguf
from omnilmm.images.pixels import open_picture
from omnilmm.model_lookup import find
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.tokenizer import load_tokenizer

SIDE = 1344
NEW_TOKENS = {"built-in": 256, "random 1.5 B": 32}
WORDS = 400
QUESTIONS = ("What is in this picture?", "And what is on the left?")
ENDLESS = {"ignore_eos": True}  # llama.cpp's field
QWEN2 = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 8192,
    "query_num": 64,
    "version": 2.6,
}


@dataclass(frozen=True)
class Figures:
    """Seconds to the first word of the three questions, and tokens per second of the second one."""

    first_s: float
    second_s: float
    text_s: float
    tokens_per_s: float


def main() -> None:
    """Measure and print a table."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--small", action="store_true", help="the built-in model only")
    flags.add_argument("--type", choices=("f16", "q8_0"), default="q8_0")
    given = flags.parse_args()
    print(f"Command: `python -m benchmarks.llamacpp` · {date.today()} · {machine()}\n")
    print("| model | through | first word, picture of 1344×1344 | second question | text of 400 words | tokens/s |")
    print("|---|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        for name, checkpoint in models(Path(folder), only_small=given.small):
            exported = export_gguf(checkpoint, Path(folder) / "gguf", name, given.type)
            for way, measure in ways(checkpoint, exported.model, NEW_TOKENS[name]):
                found = [measure() for _ in range(given.repeats)]
                *seconds, speed = (statistics.median(column) for column in zip(*map(astuple, found), strict=True))
                shown = " | ".join(f"{one:.2f} s" for one in seconds)
                print(f"| {name} | {way} | {shown} | {speed:.1f} |", flush=True)


def models(folder: Path, *, only_small: bool) -> Iterator[tuple[str, Path]]:
    """Yield the built-in model, then the random one."""
    built_in = Path(find(BUILT_IN).location)
    yield "built-in", built_in
    if only_small:
        return
    config = MiniCPMVConfig(**QWEN2, eos_token_id=[], dtype="bfloat16")
    torch.set_default_dtype(torch.bfloat16)
    model = MiniCPMV(config)
    torch.set_default_dtype(torch.float32)
    tokenizer = load_tokenizer(built_in, MiniCPMVConfig.from_pretrained(built_in), local_files_only=True)
    with torch.no_grad():
        model.get_output_embeddings().weight[min(tokenizer.all_special_ids) :] = 0  # never the largest logit
    model.save_pretrained(folder / "random")
    del model
    tokenizer.save_pretrained(folder / "random")
    yield "random 1.5 B", folder / "random"


def ways(checkpoint: Path, gguf: Path, new_tokens: int) -> Iterator[tuple[str, Callable[[], Figures]]]:
    """Yield the three ways, each while its model is loaded."""
    engine = load_engine(str(checkpoint), dtype="bf16")
    engine.backend.stop_ids = ()
    yield "transformers, bf16", partial(through, engine, new_tokens)
    del engine
    llama = load_engine(str(gguf), quant=None)
    assert isinstance(llama, LlamaCppEngine)
    inner = llama._inner
    assert inner is not None
    inner.dialect = replace(inner.dialect, always={**inner.dialect.always, **ENDLESS})
    with closing(llama):
        yield "llama.cpp inside", partial(through, llama, new_tokens)
        yield "llama.cpp, asked directly", partial(directly, llama, new_tokens)


def picture() -> Image.Image:
    """Return another picture each time, which nobody has in a cache."""
    noise = torch.randint(0, 255, (8, 8, 3), dtype=torch.uint8).numpy()
    return Image.fromarray(noise).resize((SIDE, SIDE))


def long_text() -> str:
    """Return another text each time."""
    return " ".join(random.choice(("red", "green", "circle", "square", "left", "above")) for _ in range(WORDS))


def through(engine: Engine, new_tokens: int) -> Figures:
    """Ask all questions through an engine."""

    def ask(conversation: Conversation) -> Finished:
        *_, last = engine.stream(conversation, Greedy(max_new_tokens=new_tokens), owner="me")
        assert isinstance(last, Finished)
        return last

    asked = Conversation().with_message("user", open_picture(picture()), QUESTIONS[0])
    first = ask(asked)
    second = ask(asked.with_message("assistant", first.text).with_message("user", QUESTIONS[1]))
    third = ask(Conversation().with_message("user", long_text()))
    seconds = (answer.timings.first_token_s for answer in (first, second, third))
    return Figures(*seconds, second.timings.tokens_per_s(second.usage.new_tokens))


def directly(llama: LlamaCppEngine, new_tokens: int) -> Figures:
    """Ask all questions as any client of the server would."""
    server = llama._server
    assert server is not None

    def ask(*messages: tuple[str, Any]) -> tuple[float, float, str]:
        """Return the seconds to the first word, tokens per second, and the answer."""
        listed = [{"role": role, "content": content} for role, content in messages]
        body = {"messages": listed, "stream": True, "temperature": 0, "max_tokens": new_tokens, **ENDLESS}
        times, pieces = [time.monotonic()], []
        with httpx.stream(
            "POST", f"{server.url}/v1/chat/completions", json=body, timeout=3600,
            headers={"Authorization": f"Bearer {server.key}"},
        ) as response:  # fmt: skip
            for line in response.iter_lines():
                choices = json.loads(line[6:])["choices"] if line.startswith("data: {") else []
                if choices and (piece := choices[0]["delta"].get("content")):
                    times.append(time.monotonic())
                    pieces.append(piece)
        began_s, first_s, *_, last_s = times
        return first_s - began_s, (len(pieces) - 1) / max(last_s - first_s, 1e-9), "".join(pieces)

    began_s = time.monotonic()
    shown = {"type": "image_url", "image_url": {"url": address(picture())}}
    encoding_s = time.monotonic() - began_s
    question = ("user", [shown, {"type": "text", "text": QUESTIONS[0]}])
    first_s, _, answer = ask(question)
    second_s, speed, _ = ask(question, ("assistant", answer), ("user", QUESTIONS[1]))
    return Figures(encoding_s + first_s, second_s, ask(("user", long_text()))[0], speed)


def address(image: Image.Image) -> str:
    """Return a picture as a data URI."""
    file = io.BytesIO()
    image.save(file, "png", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


if __name__ == "__main__":
    main()
