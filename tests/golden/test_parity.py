"""The models compute what the published code computes: from the picture files to the generated ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from omnilmm.conversation import Conversation
from omnilmm.engine.backends.decoder import Decoder
from omnilmm.engine.backends.sampler import Sampler
from omnilmm.engine.local import generate_arguments
from omnilmm.engine.options import BeamSearch, Sampling
from omnilmm.images.pixels import patch_strip
from omnilmm.models.processor import template_of
from omnilmm.models.resampler import Positions, Resampler
from omnilmm.prompts.pieces import PieceEncoder
from tests.golden.goldens import Case, kind_of, read_json

KINDS: dict[str, Positions] = {"v1": "stretched", "v2": "stored", "v25": "computed"}
FEATURES = 1e-3
LOGITS = 3e-3


def test_this_kind_of_folder_is_checked(folder: Path) -> None:
    kind = kind_of(folder)
    if kind.startswith("unknown"):
        pytest.fail(f"{folder.name}: no architecture here and no check answers for it yet ({kind}).", pytrace=False)


def test_pictures_are_cut_as_published(picture_case: Case) -> None:
    plans = picture_case.plans
    assert [plan.grid and list(plan.grid) for plan in plans] == picture_case.expected["grids"]
    assert [[list(size) for size in plan.sizes] for plan in plans] == picture_case.expected["slice_sizes"]
    if "tgt_sizes" in picture_case.tensors:  # 1.0 always has the same
        assert picture_case.target_sizes.tolist() == picture_case.tensors["tgt_sizes"].tolist()


def test_pixels_are_equal_from_the_picture_file(picture_case: Case) -> None:
    side, expected = picture_case.patch_size, picture_case.numbered("pixels_u8")
    assert len(picture_case.views) == len(expected)
    for number, view in enumerate(picture_case.views):
        assert torch.equal(torch.from_numpy(np.array(view)).permute(2, 0, 1), expected[number])
        strip = torch.from_numpy(patch_strip(view, side))
        assert torch.equal(strip, _strip((expected[number] / 255 - 0.5) / 0.5, side))
        if f"pixel_strips.{number}" in picture_case.tensors:
            assert torch.allclose(strip, picture_case.tensors[f"pixel_strips.{number}"], rtol=0, atol=1e-6)


def test_positions_are_equal(positions_case: Case) -> None:
    strips = positions_case.strips
    positions = positions_case.model.vpm.positions(positions_case.target_sizes, strips.shape[-1] // strips.shape[-2])
    assert positions.tolist() == positions_case.tensors["vision_position_ids"].tolist()


@torch.no_grad()
def test_tower_agrees(picture_case: Case) -> None:
    output = picture_case.model.vpm(picture_case.strips, picture_case.target_sizes)
    expected = picture_case.numbered("vision_features")
    assert len(output) == len(expected)
    for number, (rows, columns) in enumerate(picture_case.target_sizes.tolist()):
        own = rows * columns  # what comes after is padding
        _assert_close(output[number, :own], expected[number][:own], FEATURES)


@torch.no_grad()
def test_resampled_features_agree(picture_case: Case) -> None:
    _assert_close(picture_case.features(), picture_case.tensors["resampler_output"], FEATURES)


def test_picture_places_are_written_as_published(picture_case: Case) -> None:
    """The ids from the first picture to the line break after the last, which are the template's own."""
    config = picture_case.model.config
    template = template_of(config)
    encoder = PieceEncoder(_TinyTokenizer(picture_case.special_ids, template.STOP_TOKENS), config.query_num)
    shown, plans = _first_of_each_group(picture_case), picture_case.plans
    conversation = Conversation().with_message("user", *(picture_case.pictures[number] for number in shown), "?")
    has_ids = picture_case.expected.get("use_image_id", config.use_image_id)
    ours = encoder.encode(template.render(conversation, [plans[n].grid for n in shown], image_ids=has_ids))
    theirs = picture_case.tensors["input_ids"].tolist()
    # Beside a film the published code numbers all frames; here a film's conversation has no numbers.
    drop = set(range(ord("0") - ord("!"), ord("9") - ord("!") + 1)) if picture_case.temporal_ids else set()
    places = [_places(ids, picture_case.special_ids) for ids in (ours.input_ids, theirs)]
    assert [token for token in places[0] if token not in drop] == [token for token in places[1] if token not in drop]
    assert sum(ours.image_slots) == int(picture_case.image_slots.sum())


def test_merged_embeddings_agree(case: Case) -> None:
    _assert_close(case.embeds()[0], case.tensors["inputs_embeds"], FEATURES)


@torch.no_grad()
def test_logits_agree(case: Case) -> None:
    _assert_close(case.model(inputs_embeds=case.embeds()).logits[0], case.tensors["logits"], LOGITS)


def test_sampling_probabilities_agree(case: Case) -> None:
    """After the prefix that the reference had drawn, with the engine's own arguments."""
    step = dict(case.expected["generation"]["sampling_step"])
    prefix = step.pop("prefix_ids")
    options = Sampling(**step, max_new_tokens=len(prefix) + 1)
    output = case.model.generate(
        inputs_embeds=case.embeds(),
        logits_processor=LogitsProcessorList([_Dictate(prefix)]),
        return_dict_in_generate=True,
        output_scores=True,
        **generate_arguments(options, [0]) | {"eos_token_id": None},
    )
    assert output.sequences[0, :-1].tolist() == prefix
    _assert_close(output.scores[-1][0].softmax(-1), case.tensors["sampling_probs"], FEATURES)


def test_generated_ids_are_equal(generation: tuple[Case, str]) -> None:
    case, name = generation
    entry = case.expected["generation"][name]
    ends = entry["eos_token_id"] if isinstance(entry["eos_token_id"], list) else [entry["eos_token_id"]]
    if entry["num_beams"] > 1:
        beams = BeamSearch(entry["num_beams"], entry["repetition_penalty"], max_new_tokens=entry["max_new_tokens"])
        arguments = generate_arguments(beams, ends)
    else:
        arguments = generate_arguments(_greedy(entry), ends)
    ids = case.model.generate(inputs_embeds=case.embeds(), **arguments)[0].tolist()
    if entry["num_beams"] > 1 and ids[-1] in ends:
        ids[-1] = ends[0]  # the reference names the first end token, whichever a beam met
    assert ids == entry["ids"]


@torch.inference_mode()
def test_tokens_at_temperature_0_are_the_greedy_ones(greedy: tuple[Case, str]) -> None:
    """By the engine's own loop, whatever the options of drawing and the seed say."""
    case, name = greedy
    entry = case.expected["generation"][name]
    ends = entry["eos_token_id"] if isinstance(entry["eos_token_id"], list) else [entry["eos_token_id"]]
    sampler, decoder = Sampler(_greedy(entry), 5, torch.device("cpu")), Decoder(case.model)
    ids: list[int] = []
    logits = decoder.forward(case.embeds())
    while len(ids) < entry["max_new_tokens"] and not set(ids) & set(ends):
        token = sampler.draw(logits)
        ids.append(int(token))
        logits = decoder.forward(case.model.get_input_embeddings()(token))
    assert ids == entry["ids"]


def _greedy(entry: dict[str, Any]) -> Sampling:
    return Sampling(0, 0.3, 5, entry["repetition_penalty"], max_new_tokens=entry["max_new_tokens"])


@torch.no_grad()
def test_resampler_alone_agrees(resampler_folder: Path) -> None:
    expected = read_json(resampler_folder / "expected.json")
    positions = KINDS[expected["kind"]]
    resampler = Resampler(expected["query_num"], expected["embed_dim"], expected["kv_dim"], positions)
    assert resampler.attn.num_heads == expected["num_heads"]
    weights = load_file(resampler_folder / "model.safetensors")
    resampler.load_state_dict({name.removeprefix("resampler."): tensor for name, tensor in weights.items()})
    for path in sorted(resampler_folder.glob("case_*.safetensors")):
        case = load_file(path)
        if "output" in case:  # 2.5: one padded batch
            _assert_close(resampler(case["vision_features"], case["tgt_sizes"]), case["output"], FEATURES)
            continue
        sizes = case["tgt_sizes"]
        alone = [case[f"vision_features.{number}"] for number in range(len(sizes))]
        together = resampler(torch.nn.utils.rnn.pad_sequence(alone, batch_first=True), sizes)
        for number, features in enumerate(alone):
            _assert_close(resampler(features[None], sizes[number, None])[0], case[f"output.{number}"], FEATURES)
            _assert_close(together[number], case[f"output.{number}"], FEATURES)


class _Dictate(LogitsProcessor):
    """Allows only the next id of a prefix; free once it is through."""

    def __init__(self, prefix: list[int]) -> None:
        self.prefix = prefix

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[-1]
        if step >= len(self.prefix):
            return scores
        only = torch.full_like(scores, -torch.inf)
        only[:, self.prefix[step]] = 0
        return only


class _TinyTokenizer:
    """The ids of a golden's small vocabulary: printable characters in the order of byte-level tokenizers."""

    NAMES = {
        "unk": "<unk>",
        "im_start": "<image>",
        "im_end": "</image>",
        "slice_start": "<slice>",
        "slice_end": "</slice>",
        "im_id_start": "<image_id>",
        "im_id_end": "</image_id>",
    }

    def __init__(self, special_ids: dict[str, int], ends: tuple[str, ...]) -> None:
        self.line_break = special_ids["nl"]
        self.added = {name: special_ids[key] for key, name in self.NAMES.items() if key in special_ids}
        headers = ("<s>", "<|im_start|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>")
        headers += ("<think>", "</think>")
        self.added |= {name: 10_000 + number for number, name in enumerate((*headers, *ends))}

    def get_added_vocab(self) -> dict[str, int]:
        return self.added

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [self.line_break if char == "\n" else ord(char) - ord("!") for char in text]}


def _first_of_each_group(case: Case) -> list[int]:
    """Which pictures have a place in the prompt: all, or of a film's groups the first."""
    groups = case.temporal_ids or [[-1]] * len(case.pictures)
    return [sum(map(len, groups[:number])) for number in range(len(groups))]


def _places(ids: list[int], special_ids: dict[str, int]) -> list[int]:
    structure = {special_ids[key] for key in _TinyTokenizer.NAMES if key in special_ids}
    marked = [position for position, token in enumerate(ids) if token in structure]
    return ids[marked[0] : marked[-1] + 2]


def _strip(pixels: Tensor, side: int) -> Tensor:
    channels, height, width = pixels.shape
    patches = pixels.reshape(channels, height // side, side, width // side, side)
    return patches.permute(0, 2, 1, 3, 4).reshape(channels, side, -1)


def _assert_close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    assert ours.shape == theirs.shape
    difference = float((ours - theirs).abs().max())
    assert difference <= tolerance, f"largest difference {difference:.2e}"
