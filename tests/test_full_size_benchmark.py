"""The benchmark for GPUs works: tried on the CPU with models scaled down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from benchmarks import full_size


def test_every_architecture_is_measured_in_both_number_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_size, "NEW_TOKENS", 8)
    file = tmp_path / "RESULTS.md"
    file.write_text(f"# Measured\n\nkept\n\n{full_size.TITLE}\n\nan earlier table\n\n## Another\n\nkept too\n")
    assert full_size.main(["--tiny", "--device", "cpu", "--write", str(file)]) == 0
    text = file.read_text()
    assert "kept\n" in text and "kept too" in text and "an earlier table" not in text
    assert "torch" in text and "python -m benchmarks.full_size" in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert [(row[0], row[1]) for row in rows] == [(name, d) for name in full_size.MODELS for d in full_size.DTYPES]
    for _, _, *figures in rows:
        assert all(figure == "–" or float(figure) > 0 for figure in figures)
    weights = {(row[0], row[1]): float(row[3]) for row in rows}
    assert all(weights[name, "int4"] < weights[name, "bf16"] for name in full_size.MODELS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert full_size.main([]) == 2
    assert re.fullmatch(r"Error: there is no CUDA GPU on this machine; .*\n", capsys.readouterr().err)
