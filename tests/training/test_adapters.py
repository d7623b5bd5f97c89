"""An adapter is loaded on the model that it was made for, everywhere, and never ignored without a word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import chat
from omnilmm.adapter_files import found_near, is_for, read_adapter
from omnilmm.catalog import BUILT_IN
from omnilmm.engine import choosing
from omnilmm.engine.adapters import import_peft
from omnilmm.engine.loading import load_engine
from omnilmm.errors import CheckpointError, MissingPackageError
from omnilmm.model_lookup import find
from omnilmm.training.adapters import prepare, save
from omnilmm.training.targets import Tuning
from omnilmm.ui.texts import ENGLISH
from tests.models.tiny import save_tiny
from tests.training.test_architectures import batch_of, logits


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the built-in model: it says something else after it, whatever that is."""
    folder = tmp_path_factory.mktemp("run") / "parts"
    engine = load_engine()
    torch.manual_seed(0)
    tuned: Any = prepare(engine.model, Tuning(rank=2, alpha=4), engine.card)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=5.0)
    save(tuned, folder)
    return folder


def adapted(folder: Path, **said: Any) -> Path:
    """A folder that says it holds an adapter."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, **said}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_chat_answers_with_the_adapter_and_says_so(
    adapter: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    question = ["--temperature", "0", "--image", "assets/samples/circle.png", "What colour is the circle?"]
    assert chat.main([*question, "--json", "--adapter", str(adapter)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "red" not in document["text"].lower()
    assert document["model"] == f"{BUILT_IN} + {adapter}"
    engine = load_engine(adapter=str(adapter))
    assert ENGLISH.model_line(engine).startswith("Built-in") and " + parts" in ENGLISH.model_line(engine)
    merged = not any("lora" in name for name, _ in engine.model.named_modules())
    quantised = load_engine(dtype="int4", adapter=str(adapter)).model
    assert merged and any("lora" in name for name, _ in quantised.named_modules())


def test_adapters_in_the_working_folder_are_listed_and_can_be_chosen(
    adapter: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(adapter, tmp_path / "runs" / "parts")
    shutil.copytree(adapter, tmp_path / "runs" / "checkpoint-5")  # a saved state
    adapted(tmp_path / "other", base_model_name_or_path="nobody/knows-it")
    adapted(tmp_path / "prefix", peft_type="PREFIX_TUNING")
    monkeypatch.chdir(tmp_path)
    assert [files.name for files in found_near(tmp_path)] == [str(tmp_path / "other"), str(tmp_path / "runs" / "parts")]
    listed = choosing.listed("cpu", "huggingface")
    (entry,) = [entry for entry in listed if entry.card.adapter]
    assert entry.card.name == "built-in + runs/parts" and entry.is_here
    assert find(entry.card.name).adapter == "runs/parts"
    best = choosing.best(listed)
    assert best is None or best.card.adapter is None
    assert choosing.adapted() == (entry.card,)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another base": (
        {"base_model_name_or_path": "openbmb/MiniCPM-V-2_6"},
        r"trained for openbmb/MiniCPM-V-2_6, not for",
    ),
    "another method": ({"peft_type": "PREFIX_TUNING"}, "method PREFIX_TUNING; LoRA can be loaded"),
    "damaged": ({}, "adapter_model.safetensors is damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_used_is_one_line_before_anything_is_loaded(kind: str, tmp_path: Path) -> None:
    said, reason = BAD[kind]
    with pytest.raises(CheckpointError, match=reason):
        load_engine(adapter=str(adapted(tmp_path / "it", **said)))


def test_a_folder_that_is_none_and_one_without_weights_are_named(tmp_path: Path, adapter: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no folder of an adapter: expected one with adapter_config\.json"):
        find(f"built-in + {tmp_path}")
    (adapted(tmp_path / "it") / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights of an adapter"):
        find(f"built-in + {tmp_path / 'it'}")
    with pytest.raises(CheckpointError, match="one at a time"):
        find(f"built-in + {adapter} + {adapter}")


def test_a_folder_that_is_an_adapter_offers_the_command_as_a_model(adapter: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"--model built-in --adapter {adapter}, or merge"):
        find(str(adapter))


def test_an_adapter_beside_whole_weights_is_never_ignored(adapter: Path, tmp_path: Path) -> None:
    """transformers adds it if PEFT is there, and says nothing if it is not."""
    both = tmp_path / "both"
    shutil.copytree(find(BUILT_IN).location, both)
    for file in adapter.iterdir():
        shutil.copy(file, both)
    with pytest.raises(CheckpointError, match="holds a whole model and an adapter"):
        load_engine(str(both))


def test_without_peft_there_is_one_line_with_the_command(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnilmm.engine.adapters.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'omnilmm-chat\[train\]'"):
        load_engine(adapter=str(adapter))


@pytest.mark.parametrize(
    ("base", "names", "fits"),
    [
        ("openbmb/MiniCPM-V-2_6", ("minicpm-v-2.6", "openbmb/MiniCPM-V-2_6"), True),
        ("/data/MiniCPM-V-2_6/", ("minicpm-v-2.6", "openbmb/MiniCPM-V-2_6"), True),
        ("C:\\models\\MiniCPM-V-2_6", ("minicpm-v-2.6", "openbmb/MiniCPM-V-2_6"), True),
        ("openbmb/MiniCPM-V-2", ("minicpm-v-2.6", "openbmb/MiniCPM-V-2_6"), False),
        ("built-in", ("built-in", "assets/built-in"), True),
    ],
)
def test_a_base_is_the_same_model_by_hub_id_or_as_a_copy(
    tmp_path: Path, base: str, names: tuple[str, ...], fits: bool
) -> None:
    files = read_adapter(str(adapted(tmp_path / "it", base_model_name_or_path=base)))
    assert is_for(files, *names) is fits


def test_adapters_are_loaded_by_and_from_peft_alone(tmp_path: Path) -> None:
    """One as the published recipe makes it, with the weights of embeddings, resampler and tower; and one of ours."""
    peft, base = import_peft(), save_tiny(tmp_path / "base", "2.6")
    engine = load_engine(str(base), "cpu", "fp32")
    batch, before = batch_of(engine.processor), engine.model.resampler.query.detach().clone()
    torch.manual_seed(1)
    config = peft.LoraConfig(
        r=4,
        target_modules=r"llm\..*layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|o_proj)",
        modules_to_save=["embed_tokens", "resampler", "vpm"],
        task_type="CAUSAL_LM",
        init_lora_weights=False,
    )
    made = peft.get_peft_model(engine.model, config).eval()
    for name, parameter in made.named_parameters():
        if "modules_to_save" in name:
            parameter.data *= 1.1
    made.save_pretrained(tmp_path / "theirs")
    again = load_engine(str(base), "cpu", "fp32", adapter=str(tmp_path / "theirs")).model
    assert torch.allclose(logits(again, batch), logits(made, batch), atol=1e-5)
    assert torch.equal(again.resampler.query, 1.1 * before)

    engine = load_engine(str(base), "cpu", "fp32")
    ours = prepare(engine.model, Tuning(rank=2, alpha=4), engine.card).eval()
    for name, parameter in ours.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    save(ours, tmp_path / "ours")
    auto = peft.AutoPeftModel.from_pretrained(str(tmp_path / "ours"), import_allowlist=["omnilmm"]).eval()
    assert torch.equal(logits(auto, batch), logits(ours, batch))
