"""Which files of a folder or repository are a model, and which of its quantisations fits."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from omnilmm.engine.llamacpp.files import candidates, choose, mmproj_of, parts_of, quant_of
from omnilmm.errors import CheckpointError, HardwareError
from omnilmm.export.to_gguf import Exported
from omnilmm.gguf_header import read_header
from omnilmm.model_lookup import find

GIB = 2**30
MAKERS = {
    "ggml-model-f16.gguf": 15 * GIB,
    "ggml-model-Q8_0.gguf": 8 * GIB,
    "ggml-model-Q6_K.gguf": 6 * GIB,
    "ggml-model-Q4_K_M.gguf": 4 * GIB,
    "ggml-model-Q2_K.gguf": 3 * GIB,
    "mmproj-model-f16.gguf": 1 * GIB,
    "README.md": 1000,
}


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("ggml-model-Q4_K_M.gguf", "Q4_K_M"),
        ("MiniCPM-V-4_5-Q8_0.gguf", "Q8_0"),
        ("model.iq4_xs.gguf", "IQ4_XS"),
        ("Model-7.6B-fp16.gguf", "F16"),
        ("MiniCPM-V-4.6-BF16.gguf", "BF16"),
        ("Model-Q5_K.gguf", "Q5_K"),
        ("Q4-model.gguf", "Q4"),
        ("model.gguf", ""),
    ],
)
def test_a_name_says_the_quantisation(name: str, quant: str) -> None:
    assert quant_of(name) == quant


@pytest.mark.parametrize(
    ("free", "asked", "chosen"),
    [(100, None, "Q8_0"), (9, None, "Q8_0"), (8.9, None, "Q6_K"), (6, None, "Q4_K_M"), (4, None, "Q2_K"),
     (100, "f16", "F16"), (None, None, "Q8_0"), (100, "q4_k_m", "Q4_K_M")],
)  # fmt: skip
def test_the_best_that_fits_is_chosen(free: float | None, asked: str | None, chosen: str) -> None:
    bound = None if free is None else int(free * GIB)
    assert choose("M", candidates("M", MAKERS), asked, GIB, bound).quant == chosen


def test_what_does_not_fit_is_refused_with_what_does() -> None:
    found = candidates("M", MAKERS)
    with pytest.raises(HardwareError, match=r"F16 needs about 16\.0 GiB, and 9\.0 GiB are free.*--quant Q8_0"):
        choose("M", found, "F16", GIB, 9 * GIB)
    with pytest.raises(HardwareError, match=r"Q2_K needs about 4\.0 GiB.*a smaller model"):
        choose("M", found, None, GIB, 2 * GIB)
    with pytest.raises(CheckpointError, match=r"not there in Q3_K_M. There are: F16, Q2_K, Q4_K_M, Q6_K, Q8_0"):
        choose("M", found, "Q3_K_M", 0, None)


def test_the_part_that_sees() -> None:
    assert mmproj_of("M", MAKERS) == "mmproj-model-f16.gguf"
    several = ["mmproj-a-BF16.gguf", "mmproj-a-F32.gguf", "mmproj-a-F16.gguf"]
    assert mmproj_of("M", several) == "mmproj-a-F16.gguf"
    assert mmproj_of("M", ["text-Q8_0.gguf"]) is None
    assert mmproj_of("M", [*several, "eyes.gguf"], "eyes.gguf") == "eyes.gguf"
    with pytest.raises(CheckpointError, match=r"has no other\.gguf. It has: mmproj-a-BF16"):
        mmproj_of("M", several, "other.gguf")


def test_split_models_need_all_parts() -> None:
    parts = parts_of("big-Q8_0-00002-of-00003.gguf")
    assert parts == tuple(f"big-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3))
    (found,) = candidates("M", dict.fromkeys(parts, 5))
    assert (found.quant, found.size, found.names) == ("Q8_0", 15, parts)
    with pytest.raises(CheckpointError, match="Missing: big-Q8_0-00003-of-00003"):
        candidates("M", dict.fromkeys(parts[:2], 5))
    with pytest.raises(CheckpointError, match="needs all of its parts"):
        candidates("M", dict.fromkeys(parts[1:], 5))
    with pytest.raises(CheckpointError, match="no GGUF of a language model"):
        candidates("M", {"mmproj-a.gguf": 1, "model.safetensors": 1})


def test_the_header_says_what_a_card_needs(exported: Exported) -> None:
    header = read_header(exported.model)
    assert (header.architecture, header.width, header.of_architecture("context_length")) == ("qwen2", 256, 2048)
    assert header.kv_bytes_per_token() == 2 * 4 * 4 * (64 + 64)
    assert header.parameters == 2_626_560 + 2 * 393_216 + 256  # layers, embedding, head, last norm
    assert header.needed_bytes <= exported.model.stat().st_size < header.needed_bytes + 32
    assert header.has_boxes and read_header(exported.mmproj).is_mmproj
    card = find(str(exported.model))
    assert (card.family, card.context, card.boxes) == ("gguf", 2048, True)
    assert card.title == "built-in (GGUF)"


@pytest.mark.parametrize("kept", [0, 3, 4, 20, 500, 60_000, -40])
def test_a_file_that_is_cut_off_is_named(exported: Exported, kept: int, tmp_path: Path) -> None:
    path = tmp_path / "cut-Q8_0.gguf"
    path.write_bytes(exported.model.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"is no GGUF file|is cut off or damaged"):
        read_header(path)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<4sIQQ", b"GGUF", 3, 2**60, 0),
        struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + struct.pack("<Q", 2**62) + b"x",
        struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"a", 9, 8, 2**50),
        struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + struct.pack("<Q1sI", 1, b"a", 99),
        struct.pack("<4sIQQ", b"GGUF", 1, 0, 0),
    ],
)
def test_a_hostile_header_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cut off or damaged"):
        read_header(path)
