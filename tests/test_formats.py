"""What a checkpoint is of, by the names of its files and the first bytes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnilmm.errors import CheckpointError
from omnilmm.formats import POINTER, check_files, check_pointers, indexed, shards

PARTS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], []),
        (["model.safetensors", "a-1-of-2.bin"], []),
        ([PARTS[1]], PARTS),
        (["pytorch_model-1-of-2.bin", "x"], ["pytorch_model-1-of-2.bin", "pytorch_model-2-of-2.bin"]),
        (["model-1-of-9.bin", PARTS[2]], PARTS),
    ],
    ids=["none", "whole", "one is enough", "pickles", "safetensors before pickles"],
)
def test_one_part_tells_the_names_of_all(names: list[str], found: list[str]) -> None:
    assert shards(names) == found


@pytest.mark.parametrize("beside", ["model.safetensors", "pytorch_model.bin.index.json", PARTS[0]])
def test_files_of_another_program_do_no_harm_beside_weights(beside: str) -> None:
    for name in ("adapter_config.json", "weights.gguf", "onnx/model.ONNX"):
        check_files("it", [name, beside])
        with pytest.raises(CheckpointError, match=r"^it is"):
            check_files("it", [name, "README.md"])


@pytest.mark.parametrize("text", ["{}", "[]", '{"weight_map": 7}', "{"])
def test_an_index_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "index.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        indexed(path)
    path.write_text('{"weight_map": {"a": "2", "b": "1", "c": "2"}}')
    assert indexed(path) == ["1", "2"]


def test_only_a_small_file_of_that_beginning_is_a_pointer(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name, content in {"a": POINTER[:-1], "b": b"x" + POINTER, "c": POINTER.ljust(1025)}.items():
        (tmp_path / name).write_bytes(content)
    check_pointers("it", tmp_path)
    for count, said in enumerate(("is a git-lfs pointer", "p0, p1 are git-lfs", "p0, p1, p2 are", "p2 and 1 more are")):
        (tmp_path / f"p{count}").write_bytes(POINTER.ljust(1024))
        with pytest.raises(CheckpointError, match=said):
            check_pointers("it", tmp_path)
