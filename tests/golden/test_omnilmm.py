"""OmniLMM-12B computes what the published code computes, and loads what the hub has."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from omnilmm.engine.local import generate_arguments
from omnilmm.engine.options import Sampling
from omnilmm.images.pixels import cut, open_picture
from omnilmm.models.batches import Sample, collate
from tests.golden.goldens import OWN, Named, load_omnilmm, read_json, talk

FEATURES, LOGITS = 1e-4, 5e-4
ENDS = {"eos_token_id": 2, "pad_token_id": 2}

loaded = cache(load_omnilmm)


@cache
def expected(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "expected.safetensors")


def of_case(prompt: Named) -> dict[str, Any]:
    return dict(read_json(prompt.folder / "cases.json")["prompts"][prompt.name])


def length_limit(prompt: Named) -> int:
    """As the set says; of one that does not say it, the longest answer, which ran into the limit."""
    cases = read_json(prompt.folder / "cases.json")
    said = of_case(prompt).get("max_new_tokens") or cases.get("max_new_tokens")
    recorded = expected(prompt.folder).items()
    return int(said or max(ids.shape[-1] for key, ids in recorded if re.search(r"\.(greedy|beam)\w+_ids$", key)))


def recorded_logits(prompt: Named) -> Tensor:
    """[1, n, V] of the last n tokens of a prompt, or of all: `NAME.logits` or `NAME.logits_tail<n>`."""
    (key,) = (key for key in expected(prompt.folder) if re.fullmatch(rf"{prompt.name}\.logits(_tail\d+)?", key))
    return expected(prompt.folder)[key]


@torch.no_grad()
def merged(prompt: Named) -> Tensor:
    """[1, S, D], all the way from the picture file."""
    model, processor = loaded(prompt.folder)
    picture = open_picture(prompt.folder / "image.png")
    inputs = processor.inputs(talk(of_case(prompt)["messages"], picture))
    features = model.get_image_features(inputs["pixel_values"], inputs["target_sizes"])
    return model.merge(inputs["input_ids"], inputs["image_slots"], features)


def close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    assert ours.shape == theirs.shape
    difference = float((ours - theirs).abs().max())
    assert difference <= tolerance, f"largest difference {difference:.2e}"


def strips_of(pixels: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """[N, 3, H, W] of any size -> strips and target sizes, padded with zeros at the right and the bottom."""
    height, width = (-(-length // side) * side for length in pixels.shape[2:])
    padded = torch.nn.functional.pad(pixels, (0, width - pixels.shape[3], 0, height - pixels.shape[2]))
    patches = padded.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 1, 3, 2, 4, 5)
    return patches.flatten(3), torch.tensor([[height // side, width // side]] * len(pixels))


def test_pixels_are_equal_from_the_picture_file(omnilmm_folder: Path) -> None:
    _, processor = loaded(omnilmm_folder)
    picture = open_picture(omnilmm_folder / "image.png")
    (view,) = cut(picture.image, processor.plan(picture))
    assert np.array_equal(np.array(view), expected(omnilmm_folder)["resized_uint8"].numpy())
    strips, _ = processor.pixel_values([picture])
    theirs, _ = strips_of(expected(omnilmm_folder)["pixel_values"], processor.config.vision_config.patch_size)
    close(strips, theirs, 1e-6)


@torch.no_grad()
def test_tower_and_resampler_agree(omnilmm_folder: Path) -> None:
    model, processor = loaded(omnilmm_folder)
    tensors, side = expected(omnilmm_folder), processor.config.vision_config.patch_size
    tower = model.model.vision_tower
    strips, sizes = strips_of(tensors["pixel_values"], side)
    (grid,) = sizes.tolist()
    embedded = tower.embed(strips, tuple(grid))
    close(embedded, tensors["tower_embed"], FEATURES)
    close(tower.encode(embedded), tensors["tower_prenorm"], FEATURES)
    close(tower.norm(tower.encode(embedded)), tensors["tower_forward_features"], FEATURES)
    close(tower(strips, sizes), tensors["vision_features"], FEATURES)
    close(model.get_image_features(strips, sizes), tensors["resampler_output"], FEATURES)
    for name in ("odd", "native"):
        strips, sizes = strips_of(tensors[f"{name}_pixel_values"], side)
        close(tower(strips, sizes), tensors[f"{name}_forward_features"][:, 1:], FEATURES)


def test_prompt_is_written_as_published(omnilmm_prompt: Named) -> None:
    _, processor = loaded(omnilmm_prompt.folder)
    case = of_case(omnilmm_prompt)
    conversation = talk(case["messages"], open_picture(omnilmm_prompt.folder / "image.png"))
    assert processor.apply_chat_template(conversation) == "<s>" + case["rendered"]
    assert processor.prompt(conversation).input_ids == case["input_ids"]


@torch.no_grad()
def test_embeddings_and_logits_agree(omnilmm_prompt: Named) -> None:
    model, _ = loaded(omnilmm_prompt.folder)
    tensors, name = expected(omnilmm_prompt.folder), omnilmm_prompt.name
    embeds = merged(omnilmm_prompt)
    logits = model(inputs_embeds=embeds).logits
    if f"{name}.inputs_embeds" in tensors:
        close(embeds, tensors[f"{name}.inputs_embeds"], FEATURES)
    else:
        start, end = tensors[f"{name}.inputs_embeds_span_range"].tolist()
        close(embeds[:, start:end], tensors[f"{name}.inputs_embeds_span"], FEATURES)
    theirs = recorded_logits(omnilmm_prompt)
    close(logits[:, -theirs.shape[1] :], theirs, LOGITS)


@pytest.mark.parametrize(
    ("entry", "arguments"),
    [
        ("greedy_ids", {"repetition_penalty": 1.0}),
        ("greedy_rp11_ids", {"repetition_penalty": 1.1}),
        ("beam3_ids", {"num_beams": 3}),
        ("beam3_rp12_ids", {"num_beams": 3, "repetition_penalty": 1.2}),
    ],
)
def test_generated_ids_are_equal(omnilmm_prompt: Named, entry: str, arguments: dict[str, Any]) -> None:
    model, _ = loaded(omnilmm_prompt.folder)
    limit = length_limit(omnilmm_prompt)
    embeds = merged(omnilmm_prompt)
    ids = model.generate(inputs_embeds=embeds, do_sample=False, max_new_tokens=limit, **ENDS, **arguments)
    assert ids.tolist() == expected(omnilmm_prompt.folder)[f"{omnilmm_prompt.name}.{entry}"].tolist()


def test_beam_scores_agree(omnilmm_prompt: Named) -> None:
    model, _ = loaded(omnilmm_prompt.folder)
    tensors, name = expected(omnilmm_prompt.folder), omnilmm_prompt.name
    output = model.generate(
        inputs_embeds=merged(omnilmm_prompt),
        num_beams=3,
        num_return_sequences=3,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        max_new_tokens=length_limit(omnilmm_prompt),
        **ENDS,
    )
    assert output.sequences.tolist() == tensors[f"{name}.beam3_all_ids"].tolist()
    close(output.sequences_scores, tensors[f"{name}.beam3_all_scores"], 1e-4)


def test_first_step_of_sampling_agrees(omnilmm_prompt: Named) -> None:
    model, _ = loaded(omnilmm_prompt.folder)
    theirs = expected(omnilmm_prompt.folder)[f"{omnilmm_prompt.name}.sample_step0_scores"]
    options = Sampling(temperature=0.6, top_p=0.9, top_k=30, repetition_penalty=1.1, max_new_tokens=1)
    output = model.generate(
        inputs_embeds=merged(omnilmm_prompt),
        return_dict_in_generate=True,
        output_scores=True,
        **generate_arguments(options, [2]),
    )
    close(output.scores[0].softmax(-1), theirs.softmax(-1), FEATURES)


@torch.no_grad()
def test_training_sees_the_published_labels_and_loss(omnilmm_folder: Path) -> None:
    model, processor = loaded(omnilmm_folder)
    tensors = expected(omnilmm_folder)
    picture = open_picture(omnilmm_folder / "image.png")
    conversation = talk(read_json(omnilmm_folder / "cases.json")["train"]["conversations"], picture)
    prompt = processor.prompt(conversation)
    batch = collate([Sample(prompt, *processor.pixel_values(conversation.pictures))])
    assert batch["input_ids"].tolist() == tensors["train.input_ids"].tolist()
    assert batch["labels"].tolist() == tensors["train.labels"].tolist()
    loss = float(model(**batch).loss)
    assert loss == pytest.approx(float(tensors["train.loss"]), abs=2e-6)
    if omnilmm_folder.parent == OWN:
        assert loss == pytest.approx(8.866933822631836, abs=2e-6)


def test_a_pickle_with_the_hubs_five_imports_loads_without_running_code() -> None:
    tensors = torch.load(OWN / "omnilmm-12b" / "pickle_probe.bin", weights_only=True)
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()} == {
        "a": ((3, 4), torch.bfloat16),
        "b": ((2,), torch.bfloat16),
    }


def test_a_checkpoint_of_one_pickle_loads_like_one_of_safetensors(tmp_path: Path) -> None:
    """As the hub has OmniLMM-12B: no safetensors, no index, no tokenizer.json."""
    source = OWN / "omnilmm-12b"
    for name in ("config.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "image.png"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / "added_tokens.json").write_bytes((source / "added_tokens.json").read_bytes())
    torch.save(load_file(source / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (model, processor), (original, _) = load_omnilmm(tmp_path), loaded(source)
    assert all(torch.equal(tensor, original.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert processor.prompt(talk([{"role": "user", "content": "?"}], open_picture(Image.new("RGB", (9, 9)))))
