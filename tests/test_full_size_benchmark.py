"""The benchmark for GPUs works: tried on the CPU with models scaled down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from benchmarks import full_size, full_size_training
from omnilmm.catalog import cards
from omnilmm.engine.placement.layers import quantised_modules, skeleton
from omnilmm.errors import HardwareError
from omnilmm.training import memory
from omnilmm.training.targets import METHODS, Tuning


def test_every_architecture_is_measured_in_both_dtypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_size, "NEW_TOKENS", 8)
    file = tmp_path / "RESULTS.md"
    file.write_text(f"# Measured\n\nkept\n\n{full_size.TITLE}\n\nan earlier table\n\n## Another\n\nkept too\n")
    assert full_size.main(["--tiny", "--device", "cpu", "--write", str(file)]) == 0
    text = file.read_text()
    assert text.startswith(f"# Measured\n\nkept\n\n## Another\n\nkept too\n\n{full_size.TITLE}\n")
    assert "an earlier table" not in text
    assert all(said in text for said in ("torch", "bitsandbytes", "python -m benchmarks.full_size", "Scaled down"))
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert [(row[0], row[1]) for row in rows] == [(name, d) for name in full_size.MODELS for d in full_size.DTYPES]
    for _, _, *figures in rows:
        assert all(figure == "–" or float(figure) > 0 for figure in figures)
    weights = {(row[0], row[1]): float(row[3]) for row in rows}
    assert all(weights[name, "int4"] < weights[name, "bf16"] for name in full_size.MODELS)


@pytest.mark.parametrize(
    ("raised", "stage"), [(torch.OutOfMemoryError(), "building"), (HardwareError("no room"), "answering")]
)
def test_what_does_not_fit_says_so_and_the_rest_goes_on(
    raised: Exception, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(name: str, dtype: str, device: str, tiny: bool) -> full_size.Row:
        if dtype == "bf16":
            raise raised
        return full_size.Row(name, dtype, 0.012, 1234.5, None, 683, 0.0045, 99.96)

    monkeypatch.setattr(full_size, "measure", measure)
    assert list(full_size.lines(["a"], "cpu", tiny=True)) == [
        f"| a | bf16 | out of memory while {stage} | – | – | – | – | – |",
        "| a | int4 | 0.012 | 1234 | – | 683 | 0.0045 | 100 |",
    ]


def test_int4_keeps_what_loading_keeps() -> None:
    config = full_size.published_config("minicpm-v-2.6", tiny=True)
    model = full_size.build(config, "int4", "cpu")
    packed = {name for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}
    assert packed == quantised_modules(skeleton(config), "int4", "cpu")
    assert packed and all(name.startswith("llm.model.layers.") for name in packed)
    assert all(model.get_submodule(name).weight.dtype == torch.uint8 for name in packed)
    assert {table.dtype for name, table in model.named_buffers() if name.endswith("inv_freq")} == {torch.float32}


def test_full_size_is_not_built_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert full_size.main(["--device", "cpu", "--write", str(tmp_path / "never.md")]) == 2
    assert re.fullmatch(r"Error: full size is for CUDA GPUs; .*\n", capsys.readouterr().err)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert full_size.main([]) == 2
    assert re.fullmatch(r"Error: there is no CUDA GPU on this machine; .*\n", capsys.readouterr().err)


def test_training_is_measured_with_both_methods(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full_size_training, "STEPS", 1)
    monkeypatch.setattr(full_size_training, "MODELS", ("omnilmm-12b",))  # of the smaller vocabulary
    with torch.random.fork_rng():
        assert full_size_training.main(["--tiny", "--device", "cpu"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()][2:]
    expected = [(name, method) for name in full_size_training.MODELS for method in full_size_training.METHODS]
    assert [(row[0], row[1]) for row in rows] == expected
    assert all(float(row[4]) >= 0 and float(row[5]) > 0 for row in rows)


def test_the_memory_in_the_guide_is_what_check_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    guide = (Path(__file__).parents[1] / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
    titles = {card.title: card.name for card in cards().values()}
    rows = re.findall(r"^\| ((?:MiniCPM|OmniLMM)[^|]*) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", guide, re.MULTILINE)
    assert len(rows) == 6
    for named, *written in rows:
        config = full_size.published_config(titles[named.replace("1.0, ", "")], tiny=False)
        for method, said in zip(METHODS, written, strict=True):
            found = memory.memory_of(skeleton(config), Tuning(method), 1024, "cuda").total / 2**30
            assert float(said) == pytest.approx(found, abs=0.5 if found > 40 else 0.05), (named, method)
