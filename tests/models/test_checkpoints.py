"""Folders of the hub's form load strictly, without code of their own, and what we save loads again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, pipeline

from omnilmm.catalog import ROOT
from omnilmm.conversation import Conversation, Picture
from omnilmm.errors import CheckpointError
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.processor import MiniCPMVProcessor
from tests.models.tiny import VERSIONS, save_tiny, tiny_model, tiny_processor

REMOTE = "raise SystemError('code of the checkpoint was run')\n"
BUILT_IN = ROOT / "assets" / "built-in"


@pytest.fixture(params=VERSIONS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save_tiny(tmp_path / request.param, request.param)


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_saved_folder_loads_again_unchanged(folder: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    original = tiny_model(folder.name)
    assert isinstance(model, MiniCPMV) and isinstance(processor, MiniCPMVProcessor)
    ours = original.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in model.state_dict().items())
    conversation = Conversation().with_message("user", Picture(Image.new("RGB", (90, 60), "red")), "What?")
    inputs, inputs_before = processor.inputs(conversation), tiny_processor(folder.name).inputs(conversation)
    assert all(torch.equal(inputs[key], inputs_before[key]) for key in inputs_before)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, original(**inputs).logits)


def test_import_omnilmm_is_all_it_takes(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    script = (
        "import omnilmm\n"
        "from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor\n"
        f"model = AutoModelForImageTextToText.from_pretrained({str(folder)!r})\n"
        f"processor = AutoProcessor.from_pretrained({str(folder)!r})\n"
        "print(type(model).__name__, type(processor).__name__)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.split() == ["MiniCPMV", "MiniCPMVProcessor"]


def test_saved_tensors_have_the_hubs_names(folder: Path) -> None:
    names = set(load_file(folder / "model.safetensors"))
    assert {"llm.model.embed_tokens.weight", "resampler.query", "resampler.proj"} <= names
    assert {name.split(".")[0] for name in names} == {"llm", "vpm", "resampler"}
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["MiniCPMV"] and config["model_type"] == "minicpmv"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda w: w.pop("resampler.query"), "1 missing: resampler.query"),
        (
            lambda w: [w.pop("vpm.post_layernorm.bias"), w.pop("llm.model.norm.weight")],
            "2 missing: llm.model.norm.weight, vpm.post_layernorm.bias",
        ),
        (lambda w: w.update({"resampler.pos_embed": torch.zeros(4)}), "1 unexpected: resampler.pos_embed"),
        (lambda w: w.update({"resampler.query": torch.zeros(3, 128)}), "1 of another shape: .*resampler.query"),
        (
            lambda w: [w.update({"a.b": torch.zeros(1), "resampler.query": torch.zeros(1)}), w.pop("resampler.proj")],
            "1 missing: resampler.proj; 1 unexpected: a.b; 1 of another shape: .*resampler.query",
        ),
    ],
    ids=["missing", "several", "unexpected", "shape", "all"],
)
def test_weights_that_do_not_fit_are_listed_by_name(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], expected: str
) -> None:
    folder = change_weights(save_tiny(tmp_path), change)
    with pytest.raises(CheckpointError, match=expected):
        AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False)


def test_a_configuration_that_was_given_stays_as_it_was(tmp_path: Path) -> None:
    """Of 1.0 and 2.0 the tower is measured by its tensors, which are other sizes than those that the given one has."""
    folder = save_tiny(tmp_path, "1.0")
    config = MiniCPMVConfig.from_pretrained(folder)
    config.vision_config.num_hidden_layers = 27
    before = config.to_dict()
    model = MiniCPMV.from_pretrained(folder, config=config)
    assert config.to_dict() == before
    assert model.config is not config and model.config.vision_config.num_hidden_layers == 2


def test_loading_info_is_given_when_asked_for(tmp_path: Path) -> None:
    model, info = MiniCPMV.from_pretrained(save_tiny(tmp_path), output_loading_info=True)
    assert isinstance(model, MiniCPMV) and not info["missing_keys"]


def test_code_of_a_checkpoint_is_never_run(folder: Path) -> None:
    """As the hub has it: auto_map everywhere, and the files that it points to."""
    for name in ("configuration_minicpm", "modeling_minicpmv", "processing_minicpmv", "tokenization_minicpmv_fast"):
        (folder / f"{name}.py").write_text(REMOTE)
    classes = ("AutoModel", "AutoModelForCausalLM", "AutoModelForImageTextToText")
    auto_map = dict.fromkeys(classes, "modeling_minicpmv.MiniCPMV")
    _update(folder / "config.json", auto_map=auto_map | {"AutoConfig": "configuration_minicpm.MiniCPMVConfig"})
    _update(
        folder / "tokenizer_config.json",
        tokenizer_class="MiniCPMVTokenizerFast",
        auto_map={"AutoTokenizer": [None, "tokenization_minicpmv_fast.MiniCPMVTokenizerFast"]},
    )
    _update(
        folder / "preprocessor_config.json",
        image_processor_type="MiniCPMVImageProcessor",
        processor_class="MiniCPMVProcessor",
        auto_map={"AutoProcessor": "processing_minicpmv.MiniCPMVProcessor"},
    )
    AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    assert type(model) is MiniCPMV and type(processor) is MiniCPMVProcessor
    assert processor.tokenizer.encode("Hi", add_special_tokens=False) == tiny_processor("2.6").tokenizer.encode("Hi")


def test_older_tokenizer_files_name_their_special_tokens_apart(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    names = config.pop("extra_special_tokens")
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    assert processor.stop_ids == tiny_processor().stop_ids


def test_the_folders_generation_config_counts(tmp_path: Path) -> None:
    """Where generation ends is part of a checkpoint."""
    folder = save_tiny(tmp_path)
    inputs = tiny_processor().inputs(Conversation().with_message("user", "Hi"))
    free = tiny_model().generate(**inputs, max_new_tokens=6, do_sample=False)[0].tolist()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [free[2]], "pad_token_id": free[2]}))
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False)
    ended = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0].tolist()
    assert ended == free[: free.index(free[2]) + 1]


def test_transformers_pipeline_answers_with_the_built_in_model() -> None:
    pipe = pipeline("image-text-to-text", model=str(BUILT_IN), trust_remote_code=False)
    picture = Image.new("RGB", (112, 112), "white")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "What colour is the background?"}]
    messages = [{"role": "user", "content": content}]
    (answer,) = pipe(messages, max_new_tokens=40, do_sample=False, return_full_text=False)
    processor = AutoProcessor.from_pretrained(BUILT_IN, trust_remote_code=False)
    inputs = processor.apply_chat_template(messages, tokenize=True)
    ids = pipe.model.generate(**inputs, max_new_tokens=40, do_sample=False, eos_token_id=processor.stop_ids)[0].tolist()
    spoken = [token for token in ids if token not in processor.stop_ids]
    assert answer["generated_text"].strip() == processor.tokenizer.decode(spoken).strip() != ""


def _update(path: Path, **changed: object) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | changed))
