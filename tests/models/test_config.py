"""The hub's config.json is read whatever its age, and written again in the hub's own flat form."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

import omnilmm
from omnilmm.errors import CheckpointError
from omnilmm.models.config import MULTIPLIERS, SLICING_KEYS, MiniCPMVConfig
from omnilmm.versions import VERSIONS
from tests.models.tiny import SIZES, save_tiny, tiny_config

GOLDENS = Path(__file__).parents[1] / "golden"
TIMM = "vit_so400m_patch14_siglip_384.webli"
FOLDERS = ["minicpm-v", "minicpm-v-2", "minicpm-llama3-v-2_5", "minicpm-v-2_6", "minicpm-v-4", "minicpm-v-4_5"]


@pytest.mark.parametrize(
    ("keys", "version"),
    [
        ({"version": "2.5"}, "2.5"),
        ({"version": 2.5}, "2.5"),
        ({"version": "2.6"}, "2.6"),
        ({"version": 2.6}, "2.6"),
        ({"query_num": 96}, "2.5"),  # before July 2024 there was no version key
        ({"vision_config": {"model_type": "idefics2"}}, "2.5"),
        ({"vision_config": {"model_type": "siglip"}}, "2.6"),
        ({}, "2.6"),
        ({"vision_encoder": TIMM}, "1.0"),  # 1.0 and 2.0 never had a version key, nor other tensors
        ({"vision_encoder": TIMM, "slice_mode": True}, "2.0"),
        ({"vision_encoder": TIMM, "max_slice_nums": 9}, "2.0"),
        ({"scale_emb": 12}, "1.0"),
        ({"version": "2.0"}, "2.0"),
        ({"version": 4}, "4.0"),  # as JSON may print it
        ({"version": 4.0}, "4.0"),
        ({"version": 4.5}, "4.5"),
    ],
)
def test_version_is_resolved(keys: dict[str, Any], version: str) -> None:
    config = MiniCPMVConfig(**keys)
    assert config.version == version
    assert type(config.text_config).__name__ == VERSIONS[version].text


@pytest.mark.parametrize("version", ["3.0", 5.5, 3, "two"])
def test_an_unknown_version_is_named(version: object) -> None:
    with pytest.raises(CheckpointError, match=f"{version}.*supported versions: 1.0, 2.0, 2.5, 2.6, 4.0, 4.5"):
        MiniCPMVConfig(version=version)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_language_model_gets_its_keys(folder: str) -> None:
    published = json.loads((GOLDENS / folder / "config.json").read_text())
    text = MiniCPMVConfig(**published).text_config
    for key in ("hidden_size", "num_key_value_heads", "rms_norm_eps", "vocab_size", "bos_token_id", "eos_token_id"):
        assert getattr(text, key) == published[key], key
    assert text.rope_parameters["rope_theta"] == published["rope_theta"]
    assert text.max_position_embeddings == published["max_position_embeddings"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_hubs_flat_form_is_written(folder: str, tmp_path: Path) -> None:
    published = json.loads((GOLDENS / folder / "config.json").read_text())
    MiniCPMVConfig(**copy.deepcopy(published)).save_pretrained(tmp_path)  # transformers writes into it
    written = json.loads((tmp_path / "config.json").read_text())
    ours_alone = {"torch_dtype", "use_cache", "vision_config", "architectures", "_name_or_path", "mm_use_im_start_end"}
    for key in set(published) - ours_alone:
        assert written.get(key) == published[key], key  # what is null is left out
    assert written["vision_config"].items() >= published.get("vision_config", {}).items()
    # A number in 2.6, a string in 2.5, nothing in 2.0; 1.0 would be 2.0 with any slicing key.
    assert type(written.get("version")) is type(published.get("version"))
    assert not set(written) & ({*SLICING_KEYS, "slice_mode"} - set(published))
    assert not set(written) & {"text_config", *MULTIPLIERS}


@pytest.mark.parametrize("folder", FOLDERS)
def test_written_and_read_again_nothing_changes(folder: str, tmp_path: Path) -> None:
    config = MiniCPMVConfig(**json.loads((GOLDENS / folder / "config.json").read_text()))
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path, trust_remote_code=False)
    assert type(again) is MiniCPMVConfig and omnilmm.__version__
    assert again.text_config.to_dict() == config.text_config.to_dict()
    assert again.vision_config.to_dict() == config.vision_config.to_dict()
    assert again.to_dict() | {"_name_or_path": "", "transformers_version": ""} == config.to_dict() | {
        "_name_or_path": "",
        "transformers_version": "",
    }
    assert again.slicing_rules == config.slicing_rules


def test_scaled_rope_survives(tmp_path: Path) -> None:
    scaling = {"rope_type": "linear", "factor": 2.0}
    tiny_config("2.5", rope_scaling=scaling, rope_theta=5000.0).save_pretrained(tmp_path)
    parameters = AutoConfig.from_pretrained(tmp_path, trust_remote_code=False).text_config.rope_parameters
    assert parameters.items() >= (scaling | {"rope_theta": 5000.0}).items()


def test_a_cache_is_used_although_the_hub_says_no() -> None:
    """MiniCPM-Llama3-V 2.5 publishes use_cache false, a leftover of training."""
    assert tiny_config("2.5", use_cache=False).text_config.use_cache is True


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_language_model_ties_its_embeddings_as_the_whole_says(is_tied: bool) -> None:
    config = tiny_config("2.6", tie_word_embeddings=is_tied)
    assert config.text_config.tie_word_embeddings is is_tied
    assert tiny_config("2.6").text_config.tie_word_embeddings is False


def test_what_a_config_leaves_out_is_the_published_tower() -> None:
    given = {key: value for key, value in SIZES.items() if key not in ("vision_config", "slice_config")}
    config = MiniCPMVConfig(version="2.6", **given)
    assert (config.vision_config.hidden_size, config.vision_config.num_hidden_layers) == (1152, 27)
    assert (config.slicing_rules.max_slices, config.slicing_rules.scale_resolution) == (9, 448)
    assert (config.vision_config.hidden_act, config.vision_config.layer_norm_eps) == ("gelu_pytorch_tanh", 1e-6)


@pytest.mark.parametrize("number_or_string", [2.6, "2.6"])
def test_a_published_key_that_we_do_not_know_is_kept(number_or_string: float | str, tmp_path: Path) -> None:
    tiny_config(version="2.6", mm_use_im_start_end=True, something_new=[1]).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["something_new"] == [1] and written["mm_use_im_start_end"] is True
    assert MiniCPMVConfig(**written | {"version": number_or_string}).version == "2.6"


@pytest.mark.parametrize("version", ["2.0", "2.6", "omnilmm"])
@pytest.mark.parametrize(
    ("leftover", "dtype"),
    [
        ({"torch_dtype": "auto"}, None),
        ({"dtype": "auto"}, None),
        ({"torch_dtype": "torch.bfloat16"}, torch.bfloat16),
        ({"torch_dtype": "float16"}, torch.float16),
        ({"_attn_implementation": "flash_attention_2"}, None),
        ({"attn_implementation": "flash_attention_2", "vision_config": {"dtype": "auto"}}, None),
    ],
)
def test_what_training_programs_leave_in_config_json_does_no_harm(
    tmp_path: Path, version: str, leftover: dict[str, Any], dtype: torch.dtype | None
) -> None:
    path = save_tiny(tmp_path, version) / "config.json"
    keys = json.loads(path.read_text())
    del keys["dtype"]
    vision = keys["vision_config"] | leftover.get("vision_config", {})
    path.write_text(json.dumps(keys | leftover | {"vision_config": vision}))
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.dtype == dtype and config._attn_implementation is None
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, trust_remote_code=False)
    assert model.dtype == (dtype or torch.float32)
    assert model.config._attn_implementation == "sdpa"


def test_an_unknown_dtype_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"torch_dtype 'half_baked'; expected bfloat16, float16 or float32"):
        MiniCPMVConfig(torch_dtype="half_baked")
    assert MiniCPMVConfig(attn_implementation="eager")._attn_implementation == "eager"
