"""Train LoRA for 20 steps at full size on a GPU with random weights: `make bench-training`.

Prints the memory and tokens/s of each model, beside what `check` estimates. `--tiny --device cpu` runs the same code on
scaled-down models, to see that it works. Not run yet at full size, for lack of a CUDA machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from transformers import set_seed

from benchmarks.full_size import SIDE, build, processor_of, published_config
from omnilmm.catalog import cards
from omnilmm.conversation import Conversation, Picture
from omnilmm.models.batches import Sample
from omnilmm.training.adapters import prepare
from omnilmm.training.memory import memory_of
from omnilmm.training.schedule import Schedule
from omnilmm.training.targets import Method, Tuning
from omnilmm.training.trainer import FineTuner, arguments_of

MODELS = ("minicpm-v-2.6", "omnilmm-12b")
STEPS = 20
METHODS: tuple[Method, ...] = ("lora", "qlora")


def measure(name: str, method: Method, device: str, tiny: bool) -> str:
    """Train one model; return a row of the table."""
    config = published_config(name, tiny)
    model, processor = build(config, "int4" if method == "qlora" else "bf16", device), processor_of(config)
    picture = Picture(Image.radial_gradient("L").resize((SIDE, SIDE)).convert("RGB"))
    talk = Conversation().with_message("user", picture, "What?").with_message("assistant", "An answer. " * 8)
    strips, sizes = processor.pixel_values([picture])
    with torch.no_grad():
        features = model.get_image_features(strips.to(device, model.dtype), sizes.to(device)).cpu()
    sample = Sample(processor.prompt(talk), features=features)
    set_seed(0)
    tuning = Tuning(method)
    learning = prepare(model, tuning, cards()[name])
    schedule = Schedule(epochs=1, batch_size=1, accumulate=1, save_steps=STEPS + 1, checkpointing=not tiny)
    with tempfile.TemporaryDirectory() as out:
        arguments = arguments_of(schedule, Path(out), device, evaluates=False, deepspeed=None)
        trainer = FineTuner(learning, arguments, [sample] * STEPS)
        began_s = time.perf_counter()
        trainer.train()
        took_s = time.perf_counter() - began_s
    on_gpu = device.startswith("cuda")
    peak = f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f}" if on_gpu else "–"
    loaded = "int4" if method == "qlora" else "bf16"
    estimate = memory_of(model, tuning, len(sample.prompt), device, loaded).total / 2**30
    return f"| {name} | {method} | {len(sample.prompt)} | {peak} | {estimate:.1f} | {trainer.tokens / took_s:.0f} |"


def main(arguments: list[str] | None = None) -> int:
    """Measure all models and print the table."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.full_size_training", description=__doc__.splitlines()[0])
    flags.add_argument("--device", default="cuda", help="(default: %(default)s)")
    flags.add_argument("--tiny", action="store_true", help="scaled down, to see that it works")
    args = flags.parse_args(arguments)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.stderr.write("Error: there is no CUDA GPU on this machine; --tiny --device cpu shows that it works.\n")
        return 2
    print("| model | method | tokens | peak GiB | estimated GiB | tokens/s |\n|---|---|---|---|---|---|")
    for name in MODELS:
        for method in METHODS:
            print(measure(name, method, args.device, args.tiny), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
