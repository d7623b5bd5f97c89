"""Measure speed as ratios to baselines in one run: `make bench-speed`; `benchmarks/README.md` explains every row.

    python -m benchmarks.speed [--model built-in] [--device cpu] [--dtype fp32] [--repeats 9] [--tiny]

`--model` is "built-in", or a published architecture ("minicpm-v-2", "minicpm-llama3-v-2.5", …) with random weights;
`--tiny` scales it down for a smoke test. The table is printed; `--json`, `--plot` and `--write` save the results.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.__main__ import machine, starting_s
from benchmarks.full_size import build, never_ending, processor_of, published_config
from benchmarks.measured import HEAD, Bench, Row
from omnilmm.catalog import BUILT_IN, cards
from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine
from omnilmm.hardware import AS_ASKED, Choice


def starting() -> Iterator[Row]:
    """Measure the time from `python web_demo.py` to a served page, against `import gradio` alone."""
    page_s, gradio_s = starting_s()
    detail = f"page {page_s:.1f} s, import gradio {gradio_s:.1f} s"
    yield Row("page served after start, over `import gradio`", page_s - gradio_s, "s", "≤ 1 s", detail)


def engine_for(name: str, device: str, dtype: str, tiny: bool) -> LocalEngine:
    """Load the built-in model, or build an architecture with random weights; answers never end by themselves."""
    if name == BUILT_IN:
        engine = load_engine(device=device, dtype=dtype)
        model: Any = engine.model
    else:
        config = published_config(name, tiny)
        model = build(config, dtype, device)
        model = model.float() if dtype == "fp32" else model
        choices = Choice(device, AS_ASKED), Choice(dtype, AS_ASKED)
        engine = LocalEngine(model, processor_of(config), cards()[name], *choices)
    model.get_output_embeddings().register_forward_hook(never_ending(engine.processor.stop_ids, device))
    return engine


def plot(turns: dict[str, list[float]], title: str, file: Path) -> None:
    """Plot the time to first token over the turns of one conversation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, seconds in turns.items():
        axes.plot(range(1, len(seconds) + 1), [s * 1e3 for s in seconds], marker="o", label=name)
    axes.set(xlabel="question about the same picture", ylabel="time to first token, ms", yscale="log", title=title)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save the results."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    flags.add_argument("--model", default=BUILT_IN, help="(default: %(default)s)")
    flags.add_argument("--device", default="cpu", help="(default: %(default)s)")
    flags.add_argument("--dtype", default="fp32", choices=("fp32", "bf16"), help="(default: %(default)s)")
    flags.add_argument("--repeats", type=int, default=9, help="median of so many (default: %(default)s)")
    flags.add_argument("--new-tokens", type=int, default=64, help="of an answer (default: %(default)s)")
    flags.add_argument(
        "--turns", type=int, default=500, help="of the memory row, 0 leaves it out (default: %(default)s)"
    )
    flags.add_argument("--no-start", action="store_true", help="leave out the row about starting")
    flags.add_argument("--tiny", action="store_true", help="scaled down, to see that it works")
    flags.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    flags.add_argument("--plot", type=Path, metavar="FILE", help="draw the time to the first token over turns")
    flags.add_argument("--write", type=Path, metavar="FILE", help="append the table, for instance to RESULTS.md")
    args = flags.parse_args(arguments)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.stderr.write("Error: there is no CUDA GPU on this machine; without --device it measures the CPU.\n")
        return 2
    bench = Bench(engine_for(args.model, args.device, args.dtype, args.tiny), args.repeats, args.new_tokens)
    command = "python -m benchmarks.speed " + " ".join(arguments if arguments is not None else sys.argv[1:])
    scaled = " Scaled down with --tiny: not even the sizes are the model's." * args.tiny
    title = f"{args.model}, {args.dtype} on {args.device}"
    head = f"Command: `{command.strip()}` · {date.today()} · {machine()}, {torch.get_num_threads()} threads.{scaled}"
    print(f"## Speed: {title}\n\n{head}\n\n{HEAD}", flush=True)
    rows = []
    for row in (*([] if args.no_start or args.model != BUILT_IN else starting()), *bench.rows()):
        print(row, flush=True)
        rows.append(row)
    if args.turns:
        rows.append(bench.memory(args.turns))
        print(rows[-1], flush=True)
    turns = bench.over_turns()
    if args.json:
        kept = {"head": head, "rows": [asdict(row) for row in rows], "first_token_s": turns}
        args.json.write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        plot(turns, title, args.plot)
    if args.write:
        table = "\n".join(["", f"## Speed: {title}", "", head, "", HEAD, *map(str, rows), ""])
        with args.write.open("a", encoding="utf-8") as file:
            file.write(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
