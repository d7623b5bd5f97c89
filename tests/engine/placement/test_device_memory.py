"""The free memory of every kind of device, and what a loaded model occupies."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from omnilmm.engine.placement import device_memory
from omnilmm.engine.placement.device_memory import footprint, free_memory

GIB = 2**30


def test_tied_weights_count_once_and_the_disk_not() -> None:
    first = torch.nn.Linear(8, 8, bias=False)
    tied = torch.nn.Linear(8, 8, bias=False)
    tied.weight = first.weight
    away = torch.nn.Linear(8, 8, device="meta")
    assert footprint(torch.nn.ModuleList([first, tied, away])) == 8 * 8 * 4


def test_free_memory_of_the_cpu_is_what_the_machine_or_the_container_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_memory, "CGROUPS", tmp_path / "none")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=7 * GIB))
    assert free_memory("cpu") == 7 * GIB
    monkeypatch.setattr(device_memory, "CGROUPS", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 150\n")
    assert free_memory("cpu") == 7 * GIB
    (tmp_path / "memory.max").write_text("1000\n")
    assert free_memory("cpu") == 1000 - 600 + 150
    # Version 1 of cgroups.
    monkeypatch.setattr(device_memory, "CGROUPS", tmp_path / "v1")
    folder = tmp_path / "v1" / "memory"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("2000\n")
    (folder / "memory.usage_in_bytes").write_text("500\n")
    (folder / "memory.stat").write_text("cache 7\ntotal_inactive_file 100\n")
    assert free_memory("cpu") == 1600


def test_free_memory_of_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    left = {"cuda:0": 5 * GIB, "cuda:1": 3 * GIB, "cuda": 5 * GIB}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (left[device], 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 7)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4)
    assert free_memory("cuda:1") == 3 * GIB + 3
    assert free_memory("cuda") == 5 * GIB + 3
    monkeypatch.setattr(device_memory, "_free_of_cpu", lambda: 100)
    assert free_memory("balanced") == 8 * GIB + 6 + 100
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10 * GIB)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 4 * GIB)
    assert free_memory("mps") == 6 * GIB
