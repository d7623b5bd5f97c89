"""What cannot run here is refused by its config.json, or the names of its files, before anything large is fetched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from omnilmm.engine.loading import load_engine
from omnilmm.errors import CheckpointError, OmniLMMError
from omnilmm.model_lookup import find
from omnilmm.ui import texts
from tests.engine.local_hub import LocalHub, serving

SOURCE = "owner/model"
WEIGHTS = {"model.safetensors": bytes(10_000), "tokenizer.json": b"{}"}
MINICPM = {"model_type": "minicpmv", "architectures": ["MiniCPMV"], "query_num": 64}
LLAVA = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}


def quantised(**how: Any) -> dict[str, Any]:
    return LLAVA | {"quantization_config": how}


REFUSED = {
    "5.0": (MINICPM | {"version": 5.0}, "is MiniCPM-V 5.0, .*vLLM, SGLang and llama.cpp .*minicpm-v-4.6"),
    "speech": ({"model_type": "minicpmo", "version": "3.0"}, "is a MiniCPM-o, .*speech.*vLLM.*minicpm-v-2.6"),
    "text alone": (
        {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
        r"of text alone \(Qwen2ForCausalLM\).*llama\.cpp, Ollama.*image-text-to-text",
    ),
    "no answers": ({"model_type": "clip"}, r"\(clip\) cannot be asked about pictures.*image-text-to-text"),
    "a later transformers": (
        {"model_type": "minicpmv9", "transformers_version": "99.1"},
        r"transformers ≥ 99\.1; .*pip install -U transformers",
    ),
    "nobody's": ({"model_type": "brand_new"}, "architecture 'brand_new' is not known here"),
    "no architecture": ({}, "model_type None; expected the name of an architecture"),
    "mlx": (LLAVA | {"quantization": {"group_size": 64, "bits": 4}}, "converted for MLX, which mlx-vlm runs on Macs"),
    "mlx under the other key": (quantised(group_size=64, bits=4, mode="affine"), "converted for MLX"),
    "awq": (quantised(quant_method="awq", bits=4), "quantised by awq, .*missing here: pip install gptqmodel.*vLLM"),
    "gptq": (quantised(quant_method="gptq", bits=4), "pip install optimum gptqmodel"),
    "torchao": (quantised(quant_method="torchao", quant_type="int8_weight_only"), "pip install torchao"),
    "unknown method": (quantised(quant_method="exl3"), "'exl3', which transformers does not load"),
}
FOREIGN = {
    "gguf": ({"Model-Q4_K_M.gguf": bytes(10), "config.json": b"{}"}, "GGUF, which llama.cpp, Ollama and LM Studio run"),
    "onnx": ({"onnx/model.onnx": bytes(10), "config.json": b"{}"}, "ONNX, which ONNX Runtime runs"),
    "adapter": (
        {"adapter_config.json": b"{}", "adapter_model.safetensors": bytes(10)},
        r"an adapter \(LoRA\) without the model .*--adapter",
    ),
    "diffusers": ({"model_index.json": b"{}", "unet/model.safetensors": bytes(10)}, "diffusers, which makes pictures"),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with serving(LocalHub({})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def refusal(model: str) -> str:
    with pytest.raises(OmniLMMError) as refused:
        load_engine(model, device="cpu")
    line = str(refused.value)
    assert "\n" not in line
    assert re.search("[\u4e00-\u9fff]", texts.texts_in("zh").translate(refused.value))
    return line


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_run_is_refused_after_its_config_alone(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    config, says = REFUSED[kind]
    hub.files = WEIGHTS | {"config.json": json.dumps(config).encode()}
    with pytest.raises(OmniLMMError, match=says):
        load_engine(SOURCE, device="cpu")
    assert hub.asked == {"config.json"}
    assert SOURCE in refusal(SOURCE) or kind in ("a later transformers", "nobody's")


def test_what_was_converted_for_mlx_unquantised_is_known_by_its_owner(hub: LocalHub) -> None:
    hub.source = "mlx-community/model-bf16"
    hub.files = WEIGHTS | {"config.json": json.dumps(LLAVA).encode()}
    assert "converted for MLX" in refusal(hub.source)
    assert hub.asked == {"config.json"}


@pytest.mark.parametrize("kind", FOREIGN)
def test_files_of_other_programs_are_named_before_anything_is_fetched(hub: LocalHub, tmp_path: Path, kind: str) -> None:
    hub.files, says = FOREIGN[kind]
    with pytest.raises(CheckpointError, match=f"^{SOURCE} is .*{says}"):
        load_engine(SOURCE, device="cpu")
    assert not hub.requests
    assert SOURCE in refusal(SOURCE)


def test_a_config_that_is_none_is_said_before_the_weights(hub: LocalHub) -> None:
    hub.files = WEIGHTS | {"config.json": b"[1]"}
    assert "is not a JSON object" in refusal(SOURCE)
    assert hub.asked == {"config.json"}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_is_refused_in_the_same_words(tmp_path: Path, kind: str) -> None:
    config, says = REFUSED[kind]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"not looked at")
    with pytest.raises(CheckpointError, match=says):
        load_engine(str(tmp_path), device="cpu")


def test_gguf_is_named_as_a_file_as_a_folder_and_beside_a_config(tmp_path: Path) -> None:
    file = tmp_path / "some model" / "Model-Q4_K_M.GGUF"
    file.parent.mkdir()
    file.write_bytes(b"GGUF")
    for model in (file, file.parent):
        with pytest.raises(CheckpointError, match=r"Model-Q4_K_M\.GGUF is cut off or damaged"):
            find(str(model))
    (file.parent / "config.json").write_text(json.dumps(LLAVA))
    with pytest.raises(CheckpointError, match=r"Model-Q4_K_M\.GGUF is cut off or damaged"):
        load_engine(str(file.parent), device="cpu")
    other = tmp_path / "weights.safetensors"
    other.touch()
    with pytest.raises(CheckpointError, match="is a file; expected the folder"):
        find(str(other))
