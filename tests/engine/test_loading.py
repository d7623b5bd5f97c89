"""Loading: folders of any name, and one clear line for everything that can be wrong with them."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig

from omnilmm import hardware
from omnilmm.catalog import ROOT
from omnilmm.conversation import Conversation
from omnilmm.engine import preflight
from omnilmm.engine.checking import check
from omnilmm.engine.events import Finished
from omnilmm.engine.loading import load_engine, prepare
from omnilmm.engine.options import options_for
from omnilmm.engine.placement import device_memory
from omnilmm.errors import CheckpointError, HardwareError, ModelNotFoundError, OptionsError
from omnilmm.hardware import Choice
from omnilmm.images.pixels import open_picture
from omnilmm.model_lookup import find
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.ui.samples import samples
from tests.engine.remote_model import on_the_hub
from tests.models.tiny import save_tiny
from tests.models.tiny_library import MODELS, save_library_model

BUILT_IN = ROOT / "assets" / "built-in"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the built-in checkpoint under an awkward name."""
    copy = tmp_path / "my model v1.2 (new)"
    shutil.copytree(BUILT_IN, copy)
    return copy


def test_a_folder_with_dots_and_spaces_loads(folder: Path) -> None:
    engine = load_engine(str(folder), device="cpu")
    assert engine.card.title == "my model v1.2 (new) (MiniCPM-V 2.6)"
    assert engine.card.context == 2048


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_weights_come_in_the_dtype_asked_for(dtype: str) -> None:
    engine = load_engine(dtype=dtype)
    assert str(engine.dtype) == f"{dtype} (as requested)"
    assert {str(parameter.dtype) for parameter in engine.model.parameters()} == {
        {"bf16": "torch.bfloat16", "fp16": "torch.float16"}[dtype]
    }


def broken(folder: Path, damage: str) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "weights missing":
        weights.unlink()
    elif damage == "weights cut off":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif damage == "weights empty":
        weights.write_bytes(b"")
    elif damage == "config missing":
        config.unlink()
    elif damage == "config no json":
        config.write_text("{")
    elif damage == "config of another size":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 128}))
    elif damage == "config of another model":
        config.write_text(json.dumps({"model_type": "llama"}))
    elif damage == "tokenizer missing":
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("weights missing", "model.safetensors"),
        ("weights cut off", "damaged or cut off"),
        ("weights empty", "damaged or cut off"),
        ("config missing", "no config.json"),
        ("config no json", "cannot be read as JSON"),
        ("config of another size", "of another shape"),
        ("config of another model", r"text alone \(llama\)"),
        ("tokenizer missing", "tokenizer"),
    ],
)
def test_damaged_folders_are_one_clear_line(folder: Path, damage: str, says: str) -> None:
    broken(folder, damage)
    with pytest.raises(CheckpointError, match=says) as error:
        load_engine(str(folder))
    assert "\n" not in str(error.value)
    assert any(named in str(error.value).lower() for named in ("my model v1.2", "tensor"))


def test_unknown_models_come_with_suggestions() -> None:
    with pytest.raises(ModelNotFoundError, match="Did you mean built-in"):
        load_engine("build-in")


def test_a_device_that_is_not_here_is_said_before_anything_is_loaded() -> None:
    with pytest.raises(HardwareError, match="available are cpu"):
        load_engine(device="cuda:7")


def test_auto_falls_back_to_bf16_where_only_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "free_memory", lambda _: 15_000_000)  # 22 MB in fp32, 11 MB in bf16
    assert str(load_engine().dtype) == "bf16 (fp32 does not fit in memory)"
    with pytest.raises(HardwareError, match=r"in fp32 needs .* are free on cpu: try "):
        load_engine(dtype="fp32")


@pytest.mark.parametrize(
    ("dtype", "free_bytes", "freed_bytes", "fits"),
    [
        ("auto", 3, 0, True),  # bf16 takes 2 per parameter, fp32 4
        ("auto", 1, 0, False),
        ("auto", 1, 2, True),
        ("fp32", 3, 0, False),
        ("int8", 1.5, 0, True),
    ],
)
def test_before_a_download_auto_counts_as_the_smallest_type_that_it_may_become(
    monkeypatch: pytest.MonkeyPatch, dtype: str, free_bytes: float, freed_bytes: int, fits: bool
) -> None:
    card = find("minicpm-v-2.6")
    parameters = card.parameters or 0
    monkeypatch.setattr(device_memory, "free_memory", lambda _: int(free_bytes * parameters))
    monkeypatch.setattr(hardware, "has_amx", lambda: False)
    with nullcontext() if fits else pytest.raises(HardwareError, match="are free on cpu"):
        preflight.check_before_download(card, Choice("cpu", "test"), dtype, freed_bytes * parameters)


def test_where_nothing_fits_the_numbers_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "free_memory", lambda _: 1_000_000)
    with pytest.raises(HardwareError, match=r"0\.0 GiB are free on cpu"):
        load_engine()


def test_a_tight_fit_is_a_warning_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device_memory, "free_memory", lambda _: 30_000_000)
    load_engine(dtype="fp32")
    assert "a long conversation or a large picture may not" in caplog.text


def test_parameters_of_a_folder_are_counted(folder: Path) -> None:
    assert load_engine(str(folder)).card.parameters == find("built-in").parameters


def test_max_memory_that_cannot_be_read_is_said() -> None:
    with pytest.raises(OptionsError, match="DEVICE=SIZE"):
        load_engine(max_memory="lots")


def test_weights_of_another_family_than_the_config_are_recognised(folder: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", "omnilmm")
    shutil.copyfile(other / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"They look like those of OmniLMM-12B\."):
        load_engine(str(folder))


def change_shape(folder: Path) -> tuple[str, torch.Tensor]:
    """One tensor gets a row more; its name in the file, and itself as it was."""
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "layers.1" in name and name.endswith(".weight") and weights[name].dim() > 1)
    before = weights[name]
    weights[name] = torch.zeros(len(before) + 1, *before.shape[1:])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return name, before


@pytest.mark.parametrize("kind", ["1.0", "2.0", "2.5", "2.6", "omnilmm", *MODELS])
def test_a_tensor_of_another_shape_is_named_before_any_weights_are_loaded(tmp_path: Path, kind: str) -> None:
    folder = save_library_model(tmp_path / "m", kind) if kind in MODELS else save_tiny(tmp_path / "m", kind)
    assert prepare(str(folder)).folder == folder
    name, before = change_shape(folder)
    rows, *rest = before.shape
    with pytest.raises(CheckpointError, match=r"config\.json beside them\. Tensors 1 of another shape: ") as error:
        prepare(str(folder))
    assert name.rpartition("layers.1")[2] in str(error.value)
    assert f"(expected {[rows, *rest]}, got {[rows + 1, *rest]})." in str(error.value)


def test_a_checkpoint_quantised_by_its_makers_is_loaded_as_it_is(tmp_path: Path) -> None:
    """With the settings of the published int4 checkpoint, which quantises the tower as well."""
    shutil.copytree(BUILT_IN, tmp_path / "int4")
    published = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float16,
        llm_int8_skip_modules=["out_proj", "kv_proj", "lm_head"],
    )
    MiniCPMV.from_pretrained(
        BUILT_IN, quantization_config=published, device_map={"": "cpu"}, dtype=torch.float16
    ).save_pretrained(tmp_path / "int4")
    engine = load_engine(str(tmp_path / "int4"))
    assert str(engine.dtype) == "int4 (the checkpoint is quantised)"
    found = dict(check(engine, open_picture(samples()[0].picture), "What colour is the circle?"))
    assert (found["answer"], found["parameters"]) == ("The circle is red.", f"{find('built-in').parameters:,}")
    with pytest.raises(HardwareError, match="quantised: its files are int4 and cannot be loaded in bf16"):
        load_engine(str(tmp_path / "int4"), dtype="bf16")


def test_what_cannot_fit_is_refused_before_it_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "free_memory", lambda _: 9 * 2**30)
    with pytest.raises(
        HardwareError,
        match=r"2\.5 in bf16 needs more than 15\.9 GiB, 9\.0 GiB are free .*int4 \(8\.0 GiB\).*was fetched",
    ):
        load_engine("minicpm-llama3-v-2.5", dtype="bf16")
    with pytest.raises(HardwareError, match="Nothing was fetched"):
        load_engine("omnilmm-12b")


def test_a_hub_id_outside_the_catalog_is_measured_by_its_config_before_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on_the_hub(tmp_path, monkeypatch) as hub:
        hub.source = "someone/drawings"
        monkeypatch.setattr(device_memory, "free_memory", lambda _: 9_000_000)  # 22 MB in fp32, 11 MB in bf16
        with pytest.raises(
            HardwareError, match=r"^someone/drawings in bf16 needs .* are free on cpu: try .*was fetched\."
        ):
            prepare(hub.source)
        with pytest.raises(HardwareError, match=r"in fp32 needs .*Nothing was fetched\."):
            prepare(hub.source, dtype="fp32")
        assert hub.asked == {"config.json"}
        monkeypatch.setattr(device_memory, "free_memory", lambda _: 15_000_000)
        assert str(prepare(hub.source).dtype) == "bf16 (fp32 does not fit in memory)"
        assert "model.safetensors" in hub.asked


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_transformers_loads_like_any_other(tmp_path: Path, name: str) -> None:
    engine = load_engine(str(save_library_model(tmp_path / name, name)))
    assert engine.card.family == "library" and engine.card.title == name
    question = Conversation().with_message("user", open_picture(samples()[0].picture), "What is it?")
    *_, last = engine.stream(question, options_for(engine.card, max_new_tokens=4))
    assert isinstance(last, Finished) and last.usage.picture_tokens > 0


def test_a_tensor_missing_in_a_model_of_transformers_is_named(tmp_path: Path) -> None:
    folder = save_library_model(tmp_path / "model", "llava")
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "layers.0" in name)
    save_file(
        {key: tensor for key, tensor in weights.items() if key != lost}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(CheckpointError, match=rf"Tensors 1 missing: .*{lost.rpartition('layers.0')[2]}"):
        load_engine(str(folder))


def test_a_checkpoint_of_a_later_transformers_says_which(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "minicpmv9", "transformers_version": "99.1.0"}))
    with pytest.raises(
        CheckpointError, match=r"needs transformers ≥ 99\.1\.0; .* is installed: pip install -U transformers"
    ):
        load_engine(str(folder))


def test_what_training_programs_leave_is_loaded_and_answers(tmp_path: Path) -> None:
    """From a cache of the hub, an older pickle, its weights in a wrapper, flash attention asked for."""
    folder = tmp_path / "models--me--mine" / "snapshots" / ("1" * 40)
    shutil.copytree(BUILT_IN, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    nested = {"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}, "epoch": 1}
    torch.save(nested, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    config = json.loads((folder / "config.json").read_text())
    leftovers = {"torch_dtype": "auto", "_attn_implementation": "flash_attention_2"}
    (folder / "config.json").write_text(json.dumps(config | leftovers))
    engine = load_engine(str(tmp_path / "models--me--mine"), dtype="fp32")
    found = dict(check(engine, open_picture(samples()[0].picture), "What colour is the circle?"))
    assert found["answer"] == "The circle is red."
    assert found["parameters"] == f"{find('built-in').parameters:,}"


def test_a_model_of_transformers_takes_the_same(tmp_path: Path) -> None:
    folder = save_library_model(tmp_path / "model", "llava")
    straight = load_engine(str(folder)).model.state_dict()
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": {f"module.{name}": weights[name] for name in weights}}, folder / "pytorch_model.bin")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_attn_implementation": "flash_attention_2"}))
    loaded = load_engine(str(folder)).model.state_dict()
    assert set(loaded) == set(straight) and all(torch.equal(loaded[name], straight[name]) for name in straight)
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": "auto", "dtype": None}))
    with pytest.raises(CheckpointError, match=r"config\.json says torch_dtype 'auto'; expected bfloat16"):
        load_engine(str(folder))
