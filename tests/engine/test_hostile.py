"""Checkpoints that somebody made to do harm: each is refused in one line, in time, and nothing of theirs runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from omnilmm.checkpoint_json import check_numbers
from omnilmm.engine.loading import load_engine, prepare
from omnilmm.errors import CheckpointError, OmniLMMError
from omnilmm.models.config import MiniCPMVConfig, OmniLMMConfig
from tests.models.tiny import save_tiny
from tests.models.tiny_library import save_library_model

pytestmark = pytest.mark.timeout(120)  # a billion layers take for ever

KINDS = ("2.6", "2.0", "omnilmm", "qwen2-vl")
SIZES = ("num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "max_position_embeddings")
ABSURD = (10**9 * 8, 10**400, -1, 0.5, 1e308, float("nan"), float("inf"), "5", True)
NESTED = {
    "lists": "[" * 100_000,
    "objects": '{"a":' * 100_000,
    "closed": "[" * 500 + "]" * 500,
    "deep in a value": '{"model_type": "minicpmv", "version": ' + '{"a":' * 300 + "1" + "}" * 301,
}
BROKEN = {
    "model_type": ["x" * 5000, 7, None, [], "minicpmv" * 900],
    "version": ["x" * 5000, 10**30, {"a": 1}, []],
    "vision_config": [7, "x" * 5000, [[1]], {"num_hidden_layers": 10**9}, {"image_size": -14}, {"patch_size": 0}],
    "text_config": [7, {"num_hidden_layers": 10**9}],
    "slice_config": [{"max_slice_nums": 10**9, "patch_size": 14}, {"scale_resolution": 10**9, "patch_size": 14}],
    "quantization_config": [{"quant_method": "x" * 5000}, {"load_in_4bit": "x" * 5000, "bits": 10**30}],
    "torch_dtype": ["x" * 5000, "nn", "Tensor"],
    "query_num": [10**9, -1, "96"],
    "hidden_act": ["x" * 5000, "os.system"],
    "rope_scaling": [{"rope_type": "x" * 5000}],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("whole")
    saved = {kind: save_tiny(base / kind, kind) for kind in KINDS if kind != "qwen2-vl"}
    return saved | {"qwen2-vl": save_library_model(base / "qwen2-vl", "qwen2-vl")}


@pytest.fixture
def copies(folders: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    return {kind: Path(shutil.copytree(folder, tmp_path / kind)) for kind, folder in folders.items()}


def refused(folder: Path) -> str:
    return str(refusal(folder))


def refusal(folder: Path) -> OmniLMMError:
    with pytest.raises(OmniLMMError) as error:
        prepare(str(folder), device="cpu")
    line = str(error.value)
    assert "\n" not in line and len(line) < 1200
    return error.value


def write(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", SIZES)
def test_numbers_that_no_model_has_are_refused_by_the_config_alone(
    copies: dict[str, Path], kind: str, key: str
) -> None:
    file = copies[kind] / "config.json"
    (copies[kind] / "model.safetensors").unlink()  # so far it does not come
    config = json.loads(file.read_text())
    place = config["text_config"] if key not in config else config
    for absurd in ABSURD:
        place[key] = absurd
        write(file, config)
        error = refusal(copies[kind])
        line, chinese = str(error), error.sentence.worded("zh", "page")
        assert f"config.json says {key} " in line and "; expected a whole number from " in line
        assert chinese.startswith(f"{file} 中 {key} 为 ")


@pytest.mark.parametrize("how", NESTED)
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors.index.json"])
def test_what_is_nested_for_ever_is_no_json(copies: dict[str, Path], how: str, name: str) -> None:
    folder = copies["qwen2-vl"]
    if "index" in name:
        (folder / "model.safetensors").unlink()
    (folder / name).write_text(NESTED[how])
    line = refused(folder)
    assert name in line and ("nested" in line or (how == "objects" and "cannot be read as JSON" in line))


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_other_files_that_are_nested_for_ever_are_one_line(copies: dict[str, Path], name: str) -> None:
    (copies["qwen2-vl"] / name).write_text(NESTED["lists"])
    if name != "generation_config.json":  # which is read with the weights
        refused(copies["qwen2-vl"])
        return
    with pytest.raises(OmniLMMError) as error:
        load_engine(str(copies["qwen2-vl"]), device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", BROKEN)
@pytest.mark.parametrize("kind", ["2.6", "omnilmm"])
def test_values_of_every_wrong_kind_are_one_line(copies: dict[str, Path], kind: str, key: str) -> None:
    file = copies[kind] / "config.json"
    config = json.loads(file.read_text())
    for value in BROKEN[key]:
        write(file, config | {key: value})
        with suppress(OmniLMMError):
            prepare(str(copies[kind]), device="cpu")
            continue  # some mean nothing, so they do no harm
        refused(copies[kind])


def test_a_config_of_many_megabytes_is_not_read(copies: dict[str, Path]) -> None:
    (copies["2.6"] / "config.json").write_text('{"a": "' + "x" * 33 * 2**20 + '"}')
    assert "it has more than 32 MiB" in refused(copies["2.6"])


def test_sizes_of_pictures_are_checked_too(copies: dict[str, Path]) -> None:
    write(copies["qwen2-vl"] / "preprocessor_config.json", {"patch_size": 10**9})
    assert "preprocessor_config.json says patch_size 1000000000; expected" in refused(copies["qwen2-vl"])


@pytest.mark.parametrize("kind", [MiniCPMVConfig, OmniLMMConfig])
def test_the_classes_refuse_them_by_themselves(kind: Any) -> None:
    for key in ("num_hidden_layers", "hidden_size"):
        for given in ({key: 10**9}, {"vision_config": {key: 10**9}}):
            with pytest.raises(CheckpointError, match=f"{key} 1000000000; expected a whole number"):
                kind(**given)


def test_no_architecture_of_the_library_is_taken_for_absurd() -> None:
    checked = 0
    for kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        try:
            given = kind().to_dict()
        except Exception:  # noqa: S112, some have no defaults
            continue
        check_numbers(kind.__name__, given)
        checked += 1
    assert checked > 40


class Harm:
    """What a pickle would do."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.proof}",)


CODE = "from pathlib import Path\nPath({proof!r}).touch()\nclass {name}: ...\n"


@pytest.mark.parametrize("kind", KINDS)
def test_no_code_of_a_checkpoint_runs(copies: dict[str, Path], tmp_path: Path, kind: str) -> None:
    folder, proof = copies[kind], tmp_path / "ran"
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        file = folder / name
        values = json.loads(file.read_text()) if file.is_file() else {}
        classes = ("AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoTokenizer", "AutoProcessor")
        write(file, values | {"auto_map": dict.fromkeys((*classes, "AutoImageProcessor"), "harm.Harm")})
    (folder / "harm.py").write_text(CODE.format(proof=str(proof), name="Harm"))
    (folder / "training_args.bin").write_bytes(pickle.dumps(Harm(proof), protocol=2))
    load_engine(str(folder), device="cpu")
    assert not proof.exists()
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harm(proof), protocol=2))
    refused(folder)
    assert not proof.exists()


TEMPLATES = {
    "out": "{{ cycler.__init__.__globals__.os.system('touch PROOF') }}",
    "endless": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "full": "{{ 'a' * 10 ** 10 }}",
}


@pytest.mark.parametrize("how", TEMPLATES)  # the others stand in tests/prompts/test_template_pool.py
def test_a_template_neither_gets_out_nor_goes_on_for_ever_nor_fills_the_memory(
    copies: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("OMNILMM_TEMPLATE_SECONDS", "0.5")
    proof = tmp_path / "ran"
    (copies["qwen2-vl"] / "chat_template.jinja").write_text(TEMPLATES[how].replace("PROOF", str(proof)))
    with pytest.raises(CheckpointError, match="chat template of this checkpoint") as error:
        load_engine(str(copies["qwen2-vl"]), device="cpu")
    assert "\n" not in str(error.value) and not proof.exists()
