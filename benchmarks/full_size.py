"""Benchmark each architecture at full size on a GPU with random weights: `make bench-gpu`.

The models are built from the published config.json (in `tests/models/data`) with random weights, directly on the
device, in bf16 and in int4, and answer one question about a picture of 1344×1344 pixels, with the tokenizers of the
tests. This measures time and memory, not the quality of answers. The section replaces an earlier one in RESULTS.md.

int4 weights are packed layer by layer from bf16 on the device, so building needs the memory of bf16, unlike loading a
checkpoint; peak memory is therefore measured while answering.

`--tiny --device cpu` runs the same code on scaled-down models as a smoke test and writes nothing without `--write`.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText

import omnilmm  # registers the architectures
from benchmarks.__main__ import ROOT, machine
from omnilmm.catalog import cards
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import Finished
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import Sampling
from omnilmm.engine.placement.bitsandbytes import prepare_bitsandbytes
from omnilmm.engine.placement.layers import quantised_modules
from omnilmm.errors import HardwareError
from omnilmm.hardware import AS_ASKED, Choice
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.models.processor import MiniCPMVProcessor, OmniLMMProcessor
from tests.prompts.byte_tokenizer import CHATML, LLAMA3, MINICPM, byte_tokenizer

TITLE = "## Full size on a GPU, random weights"
# 1.0 has the tensors of 2.0, RLAIF-V-12B those of OmniLMM-12B.
MODELS = ("minicpm-v-2", "minicpm-llama3-v-2.5", "minicpm-v-2.6", "omnilmm-12b")
DTYPES = ("bf16", "int4")
NEW_TOKENS = 64
SIDE = 1344
TOKENS = {"2.0": MINICPM, "2.5": LLAMA3, "2.6": CHATML}
SMALL: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,  # of the tests' tokenizers, which know 256 bytes and a few marks
}
SMALL_TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


@dataclass(frozen=True)
class Row:
    """Results for one model in one dtype."""

    model: str
    dtype: str
    build_s: float
    weights_gib: float
    peak_gib: float | None
    prompt_tokens: int
    first_token_s: float
    tokens_per_s: float

    def __str__(self) -> str:
        figures = (
            self.build_s,
            self.weights_gib,
            self.peak_gib,
            self.prompt_tokens,
            self.first_token_s,
            self.tokens_per_s,
        )
        return f"| {self.model} | {self.dtype} | {' | '.join(map(_figure, figures))} |"


def _figure(number: float | None) -> str:
    """Format a number with three significant digits; a missing one is a dash."""
    if number is None:
        return "–"
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


HEAD = (
    "| model | dtype | build s | weights GiB | peak GiB | prompt tokens | first token s | tokens/s |\n"
    "|---|---|---|---|---|---|---|---|"
)


def published_config(name: str, tiny: bool) -> Any:
    """Return the published configuration, scaled down with `tiny`."""
    keys = json.loads((ROOT / "tests" / "models" / "data" / f"{name}.json").read_text(encoding="utf-8"))
    if tiny:
        keys |= SMALL | {"image_size": 112, "num_query": 16}
        keys["vision_config"] = keys.get("vision_config", {}) | SMALL_TOWER
        keys["slice_config"] = {"max_slice_nums": 9, "patch_size": 14, "scale_resolution": 112}
        keys |= {"scale_resolution": 112} if "scale_resolution" in keys else {}
        keys |= {"query_num": 16} if "query_num" in keys else {}
    assert omnilmm.__version__
    return AutoConfig.for_model(keys.pop("model_type"), **keys)


def build(config: Any, dtype: str, device: str) -> nn.Module:
    """Build a model with random weights; int4 quantises the same modules as for a real checkpoint."""
    with torch.device(device):
        # No `.to()` afterwards: it would also convert the rotary tables, which stay in fp32 in a loaded checkpoint.
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16, trust_remote_code=False).eval()
    if dtype == "int4":
        _quantise(model, device)
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return model


def _quantise(model: Any, device: str) -> None:
    """Quantise in place as loading does (`placement.bitsandbytes`): NF4, double quantisation, computing in bf16."""
    prepare_bitsandbytes()
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name in quantised_modules(model, "int4", device):
        old = model.get_submodule(name)
        new = Linear4bit(
            old.in_features, old.out_features, old.bias is not None, torch.bfloat16, quant_type="nf4", device="meta"
        )
        new.weight = Params4bit(old.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True)
        new.bias = old.bias
        model.set_submodule(name, new.to(device))


def processor_of(config: Any) -> MiniCPMVProcessor:
    """Return a processor with the real prompt format and a byte-level tokenizer."""
    if isinstance(config, MiniCPMVConfig):
        return MiniCPMVProcessor(byte_tokenizer(TOKENS[str(config.version)]), config)
    processor = OmniLMMProcessor.from_pretrained(ROOT / "tests" / "golden" / "omnilmm-12b")
    processor.config, processor.encoder.query_num = config, config.query_num
    return processor


def measure(name: str, dtype: str, device: str, tiny: bool) -> Row:
    """Build one model and answer one question with it.

    Raises:
        torch.OutOfMemoryError: There is not enough memory to build the model.
        HardwareError: The model was built, but there is not enough memory to answer.
    """
    config, began = published_config(name, tiny), time.perf_counter()
    model = build(config, dtype, device)
    build_s = time.perf_counter() - began
    processor = processor_of(config)
    model.get_output_embeddings().register_forward_hook(never_ending(processor.stop_ids, device))
    choices = Choice(device, AS_ASKED), Choice(dtype, AS_ASKED)
    engine = LocalEngine(model, processor, cards()[name], *choices, feature_bytes=0)  # no cache: every answer encodes
    last, peak = _answer(engine, device)
    return Row(
        name,
        dtype,
        build_s,
        engine.memory_bytes / 2**30,
        peak,
        last.usage.text_tokens + last.usage.picture_tokens,
        last.timings.first_token_s,
        last.timings.tokens_per_s(last.usage.new_tokens),
    )


def _answer(engine: LocalEngine, device: str) -> tuple[Finished, float | None]:
    """Return the second answer of a model and its peak GPU memory in GiB, weights included."""
    on_gpu = device.startswith("cuda")
    picture = Picture(Image.radial_gradient("L").resize((SIDE, SIDE)).convert("RGB"))
    question = Conversation().with_message("user", picture, "What is in this picture?")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    for count in (2, NEW_TOKENS):  # the first run selects kernels and allocates memory
        *_, last = engine.stream(question, Sampling(seed=0, max_new_tokens=count))
    assert isinstance(last, Finished)
    assert last.usage.new_tokens == NEW_TOKENS
    return last, torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else None


def never_ending(ids: list[int], device: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """Return a forward hook that suppresses the stop tokens, so that random weights do not end the answer early."""
    forbidden = torch.tensor(ids, device=device)
    return lambda _, __, logits: logits.index_fill(-1, forbidden, -1e4)


def lines(names: Iterable[str], device: str, tiny: bool) -> Iterator[str]:
    """Yield the rows of the table; a model that runs out of memory gets a row that says so."""
    for name in names:
        for dtype in DTYPES:
            try:
                yield str(measure(name, dtype, device, tiny))
            except torch.OutOfMemoryError:
                yield f"| {name} | {dtype} | out of memory while building{' | –' * 5} |"
            except HardwareError:
                yield f"| {name} | {dtype} | out of memory while answering{' | –' * 5} |"
            gc.collect()
            torch.cuda.empty_cache()


def section(rows: list[str], device: str, tiny: bool) -> str:
    """Return the section with the table and the machine it was measured on."""
    command = f"python -m benchmarks.full_size --device {device}{' --tiny' * tiny}"
    versions = f"bitsandbytes {version('bitsandbytes')}"
    gpu = ""
    if device.startswith("cuda"):
        card = torch.cuda.get_device_properties(device)
        gpu = f"{card.name}, {card.total_memory / 2**30:.0f} GiB · "
        versions += f", CUDA {torch.version.cuda}"
    scaled = "Scaled down with --tiny: not even the sizes are the models'. " * tiny
    text = [
        TITLE,
        "",
        f"Command: `{command}` · {date.today()} · {gpu}{machine()}, {versions}",
        "",
        f"{scaled}A picture of {SIDE}×{SIDE}, {NEW_TOKENS} new tokens, the second answer of each model. Random "
        "weights: speed and memory are those of the architecture, and say nothing about answers. Building is making "
        "the weights (int4: and packing them), not reading files; the peak is that of answering.",
        "",
        HEAD,
        *rows,
    ]
    return "\n".join(text) + "\n"


def write(text: str, file: Path) -> None:
    """Write the section to a file, replacing an earlier one."""
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    kept = re.sub(rf"\n*{re.escape(TITLE)}\n.*?(?=\s*\n## |\Z)", "", before, flags=re.DOTALL).rstrip()
    file.write_text(f"{kept}\n\n{text}".lstrip(), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Measure all models, print the table, write the section."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.full_size", description=__doc__.splitlines()[0])
    flags.add_argument("--device", default="cuda", help="(default: %(default)s)")
    flags.add_argument("--tiny", action="store_true", help="scaled down, to see that it works")
    flags.add_argument(
        "--write", type=Path, metavar="FILE", help="(default: benchmarks/RESULTS.md, nothing with --tiny)"
    )
    args = flags.parse_args(arguments)
    on_gpu = args.device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        sys.stderr.write("Error: there is no CUDA GPU on this machine; --tiny --device cpu shows that it works.\n")
        return 2
    if not on_gpu and not args.tiny:
        sys.stderr.write(f"Error: full size is for CUDA GPUs; --tiny --device {args.device} shows that it works.\n")
        return 2
    print(HEAD)
    rows = []
    for line in lines(MODELS, args.device, args.tiny):
        print(line, flush=True)
        rows.append(line)
    file = args.write or (None if args.tiny else ROOT / "benchmarks" / "RESULTS.md")
    if file:
        write(section(rows, args.device, args.tiny), file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
