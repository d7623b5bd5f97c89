"""Models are found by name, hub id or folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omnilmm.catalog import cards
from omnilmm.errors import CheckpointError, ModelNotFoundError
from omnilmm.model_lookup import find


def folder_with(tmp_path: Path, **config: Any) -> Path:
    folder = tmp_path / "some model"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("wish", ["minicpm-v-2.6", "MiniCPM-V-2.6", "openbmb/MiniCPM-V-2_6", "OPENBMB/minicpm-v-2_6"])
def test_names_and_hub_ids_are_found_whatever_their_case(wish: str) -> None:
    assert find(wish).name == "minicpm-v-2.6" and find(wish).location == "openbmb/MiniCPM-V-2_6"


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ("MiniCPM-V-4_5", "minicpm-v-4.5"),
        ("minicpm-v-4.0", "minicpm-v-4"),
        ("MiniCPM-Llama3-V-2_5-int4", "minicpm-llama3-v-2.5-int4"),
    ],
)
def test_other_names_of_a_model_are_found_unless_a_folder_has_them(
    wish: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(wish).name == name
    folder = folder_with(tmp_path, model_type="smolvlm")
    monkeypatch.chdir(tmp_path)
    folder.rename(wish)
    assert (find(wish).family, find(wish).name) == ("library", wish)


@pytest.mark.parametrize(
    ("wish", "suggestion"),
    [
        ("minicpm-v", "minicpm-v-"),
        ("minicpm-v2.6", "minicpm-v-2.6"),
        ("builtin", "built-in"),
        ("MiniCPM-Llama3", "minicpm-llama3-v-2.5"),
    ],
)
def test_unknown_names_come_with_the_nearest_ones(wish: str, suggestion: str) -> None:
    with pytest.raises(
        ModelNotFoundError, match=f"no model '{wish}'. Did you mean .*{suggestion}.*Known models: .*folder"
    ):
        find(wish)


@pytest.mark.parametrize("wish", ["xyzzy", "~nobody-of-that-name/model", "a" * 5000, "a\0b", "", "../x", "http://a/b"])
def test_names_like_nothing_list_what_there_is(wish: str) -> None:
    with pytest.raises(ModelNotFoundError, match=f"Known models: {', '.join(cards())}"):
        find(wish)


@pytest.mark.parametrize(
    ("config", "version"),
    [
        ({"version": 2.6}, "2.6"),
        ({"version": "2.5"}, "2.5"),
        ({"query_num": 96}, "2.5"),
        ({"vision_config": {"model_type": "idefics2"}}, "2.5"),
        ({}, "2.6"),
        ({"vision_encoder": "vit"}, "1.0"),
        ({"vision_encoder": "vit", "slice_mode": True}, "2.0"),
    ],
)
def test_a_folder_is_recognised_by_its_config(tmp_path: Path, config: dict[str, Any], version: str) -> None:
    folder = folder_with(tmp_path, model_type="minicpmv", max_position_embeddings=1000, **config)
    card = find(str(folder))
    assert card.family == f"minicpm-v-{version}" and card.context == 1000 > card.max_new_tokens
    assert card.location == str(folder) and "some model" in card.title


def test_a_folder_of_another_architecture_is_left_to_the_library(tmp_path: Path) -> None:
    assert find(str(folder_with(tmp_path, model_type="smolvlm"))).family == "library"
    assert find(str(folder_with(tmp_path, model_type="omnilmm"))).family == "omnilmm"


def test_a_quantised_folder_says_so(tmp_path: Path) -> None:
    quantised = {"load_in_4bit": True, "quant_method": "bitsandbytes"}
    card = find(str(folder_with(tmp_path, model_type="minicpmv", version="2.5", quantization_config=quantised)))
    assert card.stored == "int4" and cards()["minicpm-llama3-v-2.5-int4"].stored == "int4"


def test_nothing_is_said_of_an_unknown_folder_that_is_true_of_its_family_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = cards()["minicpm-v-2.6"].model_copy(update={"revision": "a-commit-of-its-own"})
    monkeypatch.setitem(cards(), "minicpm-v-2.6", published)
    folder = folder_with(
        tmp_path,
        model_type="minicpmv",
        version=2.6,
        max_position_embeddings=100,
        quantization_config={"load_in_8bit": True},
    )
    card, like = find(str(folder)), cards()["minicpm-v-2.6"]
    assert card.stored == "int8" and like.stored == "bf16"
    assert (card.context, card.max_new_tokens) == (100, 50)
    assert (card.download_gib, card.memory_gib, str(card.statement), card.licence_url) == (0.0, {}, "", "")
    named = ("parameters", "decoder", "quality", "succeeds", "released", "revision")
    assert [getattr(card, name) for name in named] == [None] * len(named)
    assert (str(card.note), card.licence) == ("Not in the catalog.", "see where you have it from")
    assert card.languages == like.languages and card.several_pictures is like.several_pictures


def test_a_hub_id_outside_the_catalog_is_taken_at_its_word() -> None:
    card = find("someone/some-model")
    assert (card.location, card.family, card.parameters) == ("someone/some-model", "library", None)


def test_a_folders_context_is_never_larger_than_its_familys(tmp_path: Path) -> None:
    card = find(str(folder_with(tmp_path, model_type="minicpmv", version=2.6, max_position_embeddings=32768)))
    assert card.context == cards()["minicpm-v-2.6"].context == 8192


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_with(tmp_path, model_type="minicpmv")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Path(find("~/some model").location).expanduser() == tmp_path / "some model"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no config.json"),
        ("{", "cannot be read as JSON"),
        ("[]", "model_type None; expected the name of an architecture"),
        ('{"model_type": 7}', "model_type 7; expected the name of an architecture"),
        (
            '{"model_type": "minicpmv", "version": "9"}',
            r"is MiniCPM-V 9, which is not supported here \(of this architecture 1.0, 2.0, 2.5, 2.6, 4.0, 4.5 are\)",
        ),
    ],
    ids=["none", "broken", "list", "number", "unknown version"],
)
def test_a_folder_that_is_no_checkpoint_says_why(tmp_path: Path, content: str | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=expected):
        find(str(tmp_path))
