"""The rows of the table of `speed.py`, each measured in the same run as its baseline."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from benchmarks import limits, published
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.backends.decoder import Decoder
from omnilmm.engine.events import Finished
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import BeamSearch, Sampling

USERS = 8
TURNS = 8
ANSWER_TOKENS = 16  # length of an answer before a follow-up question
OWNER = "benchmark"
QUESTIONS = ("What is in this picture?", "Which colours do you see?", "Where is it?", "Is there a circle?")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: quantity that was measured.
        figure: its value.
        unit: its unit; "×" for a ratio.
        goal: goal as text; empty if none was set.
        detail: the figures behind a ratio.
    """

    what: str
    figure: float
    unit: str = "×"
    goal: str = ""
    detail: str = ""

    def __str__(self) -> str:
        return f"| {self.what} | {self.figure:.3g} {self.unit} | {self.goal} | {self.detail} |"


HEAD = "| what | figure | goal | behind it |\n|---|---|---|---|"


class Bench:
    """All measurements of one model.

    Args:
        engine: engine with the model.
        repeats: repetitions of every measurement, of which the median is reported.
        new_tokens: length of the answers for measuring decoding speed.
    """

    def __init__(self, engine: LocalEngine, repeats: int, new_tokens: int) -> None:
        self.engine, self.repeats, self.new_tokens = engine, repeats, new_tokens
        self.device = engine.model.device
        self.picture = Picture(Image.radial_gradient("L").resize((1344, 1344)).convert("RGB"))
        self.question = Conversation().with_message("user", self.picture, QUESTIONS[0])

    def rows(self) -> Iterator[Row]:
        """Yield all rows but that of `memory`."""
        yield from self.turns()
        yield from self.looking()
        yield from self.decoding()
        yield from self.crowd()

    # --- time to the first token --------------------------------------------------------------------------------------

    def turns(self) -> Iterator[Row]:
        """Measure the time to first token of a second question, a regeneration and an edit, against A and C."""
        said = self._ours(self.question, ANSWER_TOKENS).text
        second, edited = (_further(self.question, said, question) for question in QUESTIONS[1:3])
        for what, before, after in (
            ("second question, same picture", self.question, second),
            ("regenerate", second, second),
            ("edit of the last question", second, edited),
        ):
            ours = self._median(lambda before=before, after=after: self._first_token_s(before, after))
            theirs = self._median(lambda after=after: self._theirs(after, as_published=True).first_token_s)
            plain = self._median(lambda after=after: self._theirs(after, as_published=False).first_token_s)
            detail = f"{_ms(ours)}; A {_ms(theirs)}; C {_ms(plain)}"
            yield Row(f"{what}: time to first token against A", ours / theirs, "×", "≤ 0.10", detail)

    def over_turns(self) -> dict[str, list[float]]:
        """Return the seconds to the first token for each turn of one conversation, ours and A's."""
        ours, theirs = [], []
        conversation = self.question
        self.engine.forget(OWNER)
        self._free()
        for turn in range(TURNS):
            last = self._ours(conversation, ANSWER_TOKENS, OWNER)
            ours.append(_waited_s(last))
            theirs.append(self._theirs(conversation, as_published=True).first_token_s)
            conversation = _further(conversation, last.text, QUESTIONS[(turn + 1) % len(QUESTIONS)])
        return {"ours": ours, "as published": theirs}

    def _first_token_s(self, before: Conversation, after: Conversation) -> float:
        self.engine.forget(OWNER)
        self._ours(before, ANSWER_TOKENS, OWNER)
        return _waited_s(self._ours(after, 2, OWNER))

    # --- looking ------------------------------------------------------------------------------------------------------

    def looking(self) -> Iterator[Row]:
        """Measure vision tower and resampler on ten slices of one shape: batched, one by one, and against the limit."""
        model, processor = self.engine.model, self.engine.processor
        pixels, sizes = processor.pixel_values([self.picture])
        pixels = pixels[:1].repeat(10, 1, 1, 1)[..., : int(sizes[0].prod()) * pixels.shape[-2]]
        pixels, sizes = pixels.to(self.device, model.dtype), sizes[:1].repeat(10, 1).to(self.device)

        def one_by_one() -> None:
            for slice_, size in zip(pixels, sizes, strict=True):
                model.get_image_features(slice_[None], size[None])

        with torch.inference_mode():
            batched = self._median(lambda: self._timed(lambda: model.get_image_features(pixels, sizes)))
            single = self._median(lambda: self._timed(one_by_one))
            with published.attention(model, "eager"):
                eager = self._median(lambda: self._timed(one_by_one))
            weights = sum(p.numel() for part in (model.tower, model.resampler) for p in part.parameters())
            rate = limits.operations_per_s(self.device, model.dtype)
        goal = "≥ 4" if self.device.type == "cuda" else "≥ 2"
        detail = f"{_ms(batched)}; one by one {_ms(single)}, eager {_ms(eager)}"
        yield Row("tower and resampler, ten slices: one by one (A) over batched", eager / batched, "×", goal, detail)
        least = 2 * weights * int(sizes[0].prod()) * 10 / rate
        detail = f"at least {_ms(least)} at {rate / 1e12:.3g} TFLOP/s, attention not counted"
        yield Row("tower and resampler, ten slices: share of the matrix rate", least / batched, "×", "", detail)

    # --- decoding -----------------------------------------------------------------------------------------------------

    def decoding(self) -> Iterator[Row]:
        """Measure tokens per second against A, C and the bandwidth limit, and the overhead over bare forward passes."""
        speeds: dict[str, list[float]] = {"ours": [], "A": [], "C": [], "bare": []}
        for _ in range(self.repeats):  # interleaved, so that all run under the same conditions
            last = self._ours(self.question, self.new_tokens)
            speeds["ours"].append(last.timings.tokens_per_s(last.usage.new_tokens))
            for name, as_published in (("A", True), ("C", False)):
                found = self._theirs(self.question, as_published=as_published, new_tokens=self.new_tokens)
                speeds[name].append(found.tokens_per_s)
            speeds["bare"].append(self._bare_tokens_per_s())
        ours, theirs, plain, bare = (statistics.median(speeds[name]) for name in ("ours", "A", "C", "bare"))
        limit = limits.bytes_per_s(self.device) / self._bytes_per_token()
        detail = f"{ours:.1f} tokens/s; A {theirs:.1f}; C {plain:.1f}"
        yield Row("decoding, one alone: tokens/s against A", ours / theirs, "×", self._goal("≥ 8"), detail)
        detail = f"limit {limit:.1f} tokens/s; {self._bytes_per_token() / 2**20:.0f} MiB of weights per token"
        goal = self._goal("≥ 0.60 (2.0), ≥ 0.70 (2.5)")
        yield Row("decoding, one alone: share of the bandwidth limit", ours / limit, "×", goal, detail)
        detail = (
            f"{1e3 / ours:.2f} ms per token; the pass alone {1e3 / bare:.2f} ms; generate adds {bare / plain - 1:.0%}"
        )
        yield Row("our loop over the bare forward pass, per token", bare / ours - 1, "", "≤ 0.15 on the CPU", detail)

    @torch.inference_mode()
    def _bare_tokens_per_s(self) -> float:
        """Measure forward passes with a KV cache and nothing else, always with the same token."""
        decoder = Decoder(self.engine.model)
        prompt = self.engine.processor.inputs(self.question)["input_ids"].to(self.device)
        embed = self.engine.model.get_input_embeddings()
        decoder.forward(embed(prompt))
        token = embed(prompt[:, :1])

        def passes() -> None:
            for _ in range(self.new_tokens):
                decoder.forward(token)

        return self.new_tokens / self._timed(passes)

    def _bytes_per_token(self) -> int:
        """Return the bytes of weights read per decoded token: the language model without its token embedding."""
        model = self.engine.model
        parts = [model.get_decoder(), model.get_output_embeddings()]
        left_out = {
            id(p) for part in (model.tower, model.resampler, model.get_input_embeddings()) for p in part.parameters()
        }
        left_out -= {id(p) for p in model.get_output_embeddings().parameters()}  # if the embeddings are tied
        weights = {id(p): p.nbytes for part in parts for p in part.parameters() if id(p) not in left_out}
        return sum(weights.values())

    # --- many ---------------------------------------------------------------------------------------------------------

    def crowd(self) -> Iterator[Row]:
        """Measure eight concurrent conversations: total throughput against one alone, and first tokens."""
        speed, slowest, alone_s, together_s = [], [], 0.0, 0.0
        for _ in range(self.repeats):
            pictures = [self._fresh(number) for number in range(USERS + 1)]
            alone, alone_s = self._together(pictures[:1])
            ends, together_s = self._together(pictures[1:])
            tokens = [sum(end.usage.new_tokens for end in each) for each in (ends, alone)]
            speed.append(tokens[0] / together_s / (tokens[1] / alone_s))
            slowest.append(max(map(_waited_s, ends)) / (USERS * _waited_s(alone[0])))
        detail = f"last run: {together_s:.2f} s for eight, {alone_s:.2f} s for one"
        yield Row("eight at once: all tokens/s against one alone", statistics.median(speed), "×", "≥ 0.95", detail)
        detail = "fair: eight times what one alone waits"
        yield Row("eight at once: slowest first token against fair", statistics.median(slowest), "×", "≤ 1.5", detail)

    def _fresh(self, number: int) -> Picture:
        """Return a distinct picture, as equal ones would be encoded only once."""
        return Picture(self.picture.image.rotate(90 * (number % 4)).point(lambda grey: min(grey + number, 255)))

    def _together(self, pictures: Sequence[Picture]) -> tuple[list[Finished], float]:
        """Ask about each picture concurrently; return the results and the seconds until all are finished."""
        ends: list[Finished] = []

        def ask(picture: Picture) -> None:
            ends.append(self._ours(Conversation().with_message("user", picture, QUESTIONS[0]), self.new_tokens))

        threads = [threading.Thread(target=ask, args=(picture,)) for picture in pictures]
        self._free()
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return ends, time.perf_counter() - began

    def memory(self, turns: int) -> Row:
        """Measure the memory growth over turns of mixed use: sampling, beam search, stops, new pictures and owners."""
        self._mixed_turns(turns)  # fills the caches, which are bounded and not to be counted as growth
        before = _resident_bytes()
        self._mixed_turns(turns)
        grown = (_resident_bytes() - before) / 2**20
        return Row(
            f"memory after {turns} more turns of mixed use: growth",
            grown,
            "MiB",
            "0",
            f"{before / 2**20:.0f} MiB before",
        )

    def _mixed_turns(self, turns: int) -> None:
        for turn in range(turns):
            owner = f"{OWNER} {turn % 7}"
            picture = Picture(Image.new("RGB", (200 + turn % 50, 200), (turn % 256, 0, 0)))
            asked = Conversation().with_message("user", picture, QUESTIONS[turn % len(QUESTIONS)])
            options = BeamSearch(max_new_tokens=4) if turn % 5 == 0 else Sampling(seed=turn, max_new_tokens=8)
            events = self.engine.stream(asked, options, owner)
            for number, _ in enumerate(events):
                if turn % 3 == 0 and number == 2:
                    break
            events.close()
            if turn % 11 == 0:
                self.engine.forget(owner)

    # --- what they share ----------------------------------------------------------------------------------------------

    def _ours(self, conversation: Conversation, new_tokens: int, owner: str | None = None) -> Finished:
        *_, last = self.engine.stream(conversation, Sampling(seed=0, max_new_tokens=new_tokens), owner)
        assert isinstance(last, Finished)
        return last

    def _theirs(self, conversation: Conversation, *, as_published: bool, new_tokens: int = 2) -> published.Answer:
        options = Sampling(seed=0, max_new_tokens=new_tokens)
        return published.answer(self.engine, conversation, options, as_published=as_published)

    def _free(self) -> None:
        self.engine.backend.free()

    def _median(self, measure: Callable[[], float]) -> float:
        return statistics.median(measure() for _ in range(self.repeats))

    def _timed(self, what: Callable[[], object]) -> float:
        limits.finish(self.device)
        began = time.perf_counter()
        what()
        limits.finish(self.device)
        return time.perf_counter() - began

    def _goal(self, goal: str) -> str:
        return f"{goal} on an H200" if self.device.type == "cuda" else ""


def _further(conversation: Conversation, said: str, question: str) -> Conversation:
    return conversation.with_message("assistant", said or "?").with_message("user", question)


def _waited_s(end: Finished) -> float:
    """Return the seconds from the question to its first token, queueing included."""
    return end.timings.waited_s + end.timings.first_token_s


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
