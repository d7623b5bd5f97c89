"""A MiniCPM-o sees and answers as the MiniCPM-V of its version: its parts for sound are left out by name."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import Finished
from omnilmm.engine.loading import load_engine
from omnilmm.engine.options import BeamSearch, Options, Sampling
from omnilmm.errors import CheckpointError
from omnilmm.models.minicpmv import MiniCPMO
from tests.golden.goldens import OWN, load_model
from tests.models.tiny import save_tiny

WEIGHTS = "model.safetensors"
AUDIO = {
    "apm.conv1.weight": (8, 4, 3),
    "apm.layers.0.self_attn.q_proj.weight": (8, 8),
    "audio_projection_layer.linear1.weight": (8, 8),
    "tts.dvae.coef": (1, 4, 1),
    "tts.head_code.0.parametrizations.weight.original0": (8, 1),
}
KEYS = {"model_type": "minicpmo", "architectures": ["MiniCPMO"], "init_audio": True, "init_tts": True}
CONFIGS = {"audio_config": {"model_type": "whisper", "d_model": 8}, "tts_config": {"model_type": "conditional_chattts"}}


def with_sound(folder: Path, tensors: dict[str, tuple[int, ...]] = AUDIO) -> Path:
    """The same checkpoint as its makers publish it with ears and a mouth."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | KEYS | CONFIGS), encoding="utf-8")
    weights = load_file(folder / WEIGHTS) | {name: torch.randn(shape) for name, shape in tensors.items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("name", ["minicpm-v-2_6", "minicpm-v-4_5"])
def test_its_tensors_are_those_of_the_golden_and_so_is_what_it_says(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(OWN / name, folder, ignore=shutil.ignore_patterns("*.png", "case_*"))
    ours = AutoModelForImageTextToText.from_pretrained(with_sound(folder), dtype=torch.float32).eval()
    golden = load_model(OWN / name)
    assert type(ours) is MiniCPMO
    expected = golden.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in ours.state_dict().items())
    ids = torch.arange(5, 40)[None]
    assert torch.equal(ours(input_ids=ids).logits, golden(input_ids=ids).logits)


@pytest.mark.parametrize(("version", "title"), [("2.6", "MiniCPM-o 2.6"), ("4.5", "MiniCPM-o 4.5")])
def test_it_answers_as_the_model_without_sound(
    version: str, title: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = load_engine(str(save_tiny(tmp_path / "v", version)), dtype="fp32")
    with caplog.at_level(logging.WARNING):
        omni = load_engine(str(with_sound(save_tiny(tmp_path / "o", version))), dtype="fp32")
    assert f"5 tensors for sound and speech ({', '.join(('apm.', 'audio_projection_layer.'))}" in caplog.text
    assert title in omni.card.title and "sound and speech are left out" in str(omni.card.note.en)
    assert omni.card.parameters == plain.card.parameters
    question = Conversation().with_message("user", Picture(Image.radial_gradient("L").convert("RGB")), "What is it?")
    drawn = (Sampling(1.5, 1.0, seed=seed, max_new_tokens=12) for seed in range(3))
    ways: tuple[Options, ...] = (*drawn, BeamSearch(max_new_tokens=8))
    said = []
    for options in ways:
        *_, one = plain.stream(question, options)
        *_, other = omni.stream(question, options)
        assert isinstance(one, Finished) and isinstance(other, Finished) and one.text == other.text
        said.append(one.text)
    assert any(said)
    saved = tmp_path / "saved"
    omni.model.save_pretrained(saved)
    written = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    assert written["model_type"] == "minicpmo" and "tts_config" not in written
    assert not any(name.startswith(("apm.", "tts.")) for name in load_file(saved / WEIGHTS))


def test_a_tensor_that_is_neither_ours_nor_of_sound_is_still_an_error(tmp_path: Path) -> None:
    folder = with_sound(save_tiny(tmp_path / "o"), AUDIO | {"radar.weight": (2, 2)})
    with pytest.raises(CheckpointError, match=r"1 unexpected: radar\.weight"):
        load_engine(str(folder), dtype="fp32")


def test_a_version_that_is_not_known_is_refused_by_its_config_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(KEYS | {"version": "9.9"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"is a MiniCPM-o, .*not known here \(2\.6 and 4\.5 are\): vLLM"):
        load_engine(str(tmp_path))
