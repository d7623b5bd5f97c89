"""The training loop: it learns, and a run that was stopped and resumed is the run that was not stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset

from built_in.auxiliary import CLASSES, AuxiliaryHeads
from built_in.cells import CELL_PATCHES, CELLS, WORDS
from built_in.data import Lessons, Sample, collate
from built_in.initialise import initialise
from built_in.labels import IGNORED
from built_in.loop import HEADS_RATE, Both, PictureTrainer, Recipe, Student
from omnilmm.catalog import ROOT
from omnilmm.errors import InputError
from omnilmm.models.processor import MiniCPMVProcessor
from omnilmm.models.resampler import sincos_positions
from tests.built_in.small import LANGUAGE, TOWER, small_model

RECIPE = Recipe(
    steps=4, batch_size=2, learning_rate=3e-3, warmup=1, decay=1, seed=5, save_every=2, workers=0, half=False
)

HEADS = {"cells", "words", "print", "rows", "columns", "boxes", "patch_position", *(f"patch_{n}" for n in CLASSES)}


def student(processor: MiniCPMVProcessor, lessons: Dataset[Sample]) -> Student:
    torch.manual_seed(7)
    model = small_model()
    some = [lessons[-index] for index in range(1, 40)]
    initialise(model, collate([sample for sample in some if sample.views])["pixel_values"])
    words = [processor.encoder.word_id(word) for word in WORDS]
    return Student(model, AuxiliaryHeads(TOWER["hidden_size"], LANGUAGE["hidden_size"], words))


def trainer(folder: Path, processor: MiniCPMVProcessor, recipe: Recipe = RECIPE) -> PictureTrainer:
    lessons = Lessons(
        recipe.seed, processor.encoder, processor.config.slicing_rules, recipe.steps * recipe.batch_size, group=2
    )
    return PictureTrainer(student(processor, lessons), lessons, collate, recipe, folder, "cpu")


def weights(run: PictureTrainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def test_a_resumed_run_equals_one_that_was_not_stopped(tmp_path: Path, processor: MiniCPMVProcessor) -> None:
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    trainer(straight, processor).go()
    # All that is left of a run that was switched off after its first saved state.
    shutil.copytree(straight / "checkpoint-2", resumed / "checkpoint-2")
    run = trainer(resumed, processor)
    run.go()
    assert run.state.global_step == 4
    half, end, other_end = (
        load_file(folder / "model.safetensors")
        for folder in (straight / "checkpoint-2", straight / "checkpoint-4", resumed / "checkpoint-4")
    )
    assert set(end) == set(other_end)
    for name, tensor in end.items():
        assert torch.equal(tensor, other_end[name]), name
    assert any(not torch.equal(tensor, half[name]) for name, tensor in end.items())


def test_a_finished_run_is_not_trained_further(tmp_path: Path, processor: MiniCPMVProcessor) -> None:
    short = replace(RECIPE, steps=2, decay=0)
    trainer(tmp_path, processor, short).go()
    again = trainer(tmp_path, processor, short)
    again.go()
    finished = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert again.state.global_step == 2
    assert all(torch.equal(tensor, again.model.state_dict()[name]) for name, tensor in finished.items())


def test_the_log_tells_every_loss_and_the_schedule(tmp_path: Path, processor: MiniCPMVProcessor) -> None:
    recipe = replace(RECIPE, steps=8, batch_size=1, warmup=2, decay=4, save_every=1)
    run = trainer(tmp_path, processor, recipe)
    run.args.logging_steps = run.state.logging_steps = 1
    run.go()
    state = json.loads((tmp_path / "checkpoint-8" / "trainer_state.json").read_text())
    lines = [line for line in state["log_history"] if "learning_rate" in line]
    rates = [line["learning_rate"] / recipe.learning_rate for line in lines]
    assert rates == pytest.approx([0, 0.5, 1, 1, 1, 0.75, 0.5, 0.25])
    names = {"answers", "tokens_per_s", *HEADS}
    assert names <= {name for line in lines for name in line}


def pictured(processor: MiniCPMVProcessor, count: int) -> list[Sample]:
    """Lessons with pictures that are not cut."""
    lessons = Lessons(1, processor.encoder, processor.config.slicing_rules, group=1)
    samples = (lessons[number] for number in range(1000))
    return [sample for sample, _ in zip((s for s in samples if len(s.views) == 1), range(count), strict=False)]


def test_a_few_steps_lower_every_loss(tmp_path: Path, processor: MiniCPMVProcessor) -> None:
    run = trainer(tmp_path, processor, replace(RECIPE, learning_rate=5e-3))
    batch, optimizer = collate(pictured(processor, 4)), run.create_optimizer()
    told: list[dict[str, float]] = []
    for _ in range(25):
        result = run.model(batch)
        told.append({name: float(loss.detach()) for name, loss in result["losses"].items()})
        result["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    first, last = told[0], told[-1]
    assert set(first) == {"answers", *HEADS}
    assert all(last[name] < first[name] for name in first), (first, last)
    assert last["answers"] < 0.6 * first["answers"]


def test_looking_first_leaves_the_language_model_alone(tmp_path: Path, processor: MiniCPMVProcessor) -> None:
    run = trainer(tmp_path, processor, replace(RECIPE, steps=2, auxiliary_first=2, warmup=0, decay=0))
    before = weights(run)
    run.go()
    after = weights(run)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert {name.split(".")[1] for name in changed if name.startswith("model.")} >= {"vpm", "resampler"}
    assert not [name for name in changed if name.startswith(("model.llm.model.layers", "model.llm.lm_head"))]


def test_while_the_heads_are_trained_first_the_model_stays_as_it_is(
    tmp_path: Path, processor: MiniCPMVProcessor
) -> None:
    run = trainer(tmp_path, processor, replace(RECIPE, steps=2, heads_first=2, warmup=0, decay=0))
    before = weights(run)
    run.go()
    after = weights(run)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert {"heads.cells.weight", "heads.classes.kind.weight"} <= changed
    assert not [name for name in changed if name.startswith("model.")]


def test_without_training_the_heads_first_everything_is_trained(tmp_path: Path, processor: MiniCPMVProcessor) -> None:
    run = trainer(tmp_path, processor, replace(RECIPE, steps=2, warmup=0, decay=0))
    before = weights(run)
    run.go()
    after = weights(run)
    still = {name for name in after if torch.equal(before[name], after[name])}
    assert not [name for name in still if "layers" in name and name.endswith("weight")]


def test_only_the_answers_count_in_the_loss_of_answers(processor: MiniCPMVProcessor) -> None:
    """It is the weighted mean over their tokens, with the logits that the model gives in a chat."""
    batch = collate(pictured(processor, 2))
    model = student(processor, Lessons(1, processor.encoder, processor.config.slicing_rules)).eval()
    logits = _logits(model, batch)
    wanted = batch["labels"][:, 1:]
    batch["weights"][0] *= 0.25
    loss, weights = model(batch)["losses"]["answers"], batch["weights"][:, 1:] * (wanted != IGNORED)
    each = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), wanted, reduction="none")
    assert torch.allclose(loss, (each * weights).sum() / weights.sum(), atol=1e-5)


def _logits(model: Student, batch: dict[str, Tensor]) -> Tensor:
    """Of all tokens, by the way that chat goes."""
    inner = model.model
    features = inner.get_image_features(batch["pixel_values"], batch["target_sizes"])
    embeds = inner.merge(batch["input_ids"], batch["image_slots"], features)
    logits: Tensor = inner.llm(inputs_embeds=embeds, attention_mask=batch["attention_mask"]).logits
    return logits


def test_the_weight_of_the_auxiliary_losses_counts(processor: MiniCPMVProcessor) -> None:
    batch = collate(pictured(processor, 2))
    model = student(processor, Lessons(1, processor.encoder, processor.config.slicing_rules)).eval()
    for weight in (0.0, 0.5, 2.0):
        model.auxiliary = weight
        result = model(batch)
        helpers = sum(loss for name, loss in result["losses"].items() if name != "answers")
        assert torch.allclose(result["loss"], weight * helpers + result["losses"]["answers"])
        assert torch.allclose(model(batch, only_auxiliary=True)["loss"], weight * helpers)


def test_a_batch_without_pictures_has_a_loss_of_answers_alone(processor: MiniCPMVProcessor) -> None:
    batch = collate(pictured(processor, 2))
    words = {name: batch[name] for name in ("input_ids", "attention_mask", "labels", "weights")}
    words["image_slots"] = torch.zeros_like(batch["image_slots"])
    model = student(processor, Lessons(1, processor.encoder, processor.config.slicing_rules))
    result = model(words)
    assert set(result["losses"]) == {"answers"} and torch.equal(result["loss"], result["losses"]["answers"])


def test_inner_matrices_go_to_muon_and_the_rest_to_adamw(tmp_path: Path, processor: MiniCPMVProcessor) -> None:
    run = trainer(tmp_path, processor)
    optimizer: Any = run.create_optimizer()
    assert isinstance(optimizer, Both)
    muon, adamw = optimizer.parts
    assert isinstance(muon, torch.optim.Muon) and isinstance(adamw, torch.optim.AdamW)
    names = {id(parameter): name for name, parameter in run.model.named_parameters()}
    inner = {names[id(parameter)] for group in muon.param_groups for parameter in group["params"]}
    decaying, plain, heads = ({names[id(p)] for p in group["params"]} for group in adamw.param_groups)
    assert len(inner) + len(decaying) + len(plain) + len(heads) == len(names)
    assert inner | decaying | plain | heads == set(names.values())
    assert heads == {name for name in names.values() if name.startswith("heads.")}
    assert all(dict(run.model.named_parameters())[name].ndim == 2 for name in inner)
    for part in ("q_proj.weight", "o_proj.weight", "gate_proj.weight", "down_proj.weight"):
        assert f"model.llm.model.layers.0.{'self_attn' if part[1] == '_' else 'mlp'}.{part}" in inner
    assert any(name.startswith("model.vpm.encoder") for name in inner)
    assert any(name.startswith("model.resampler") for name in inner)
    assert not [name for name in inner if "embed" in name or "head" in name.split(".")[0] or "lm_head" in name]
    assert "model.llm.lm_head.weight" in decaying
    assert {"model.llm.model.embed_tokens.weight", "model.resampler.query", "model.llm.model.norm.weight"} <= plain
    assert adamw.param_groups[0]["weight_decay"] > 0 == adamw.param_groups[1]["weight_decay"]
    assert [group["lr"] / RECIPE.learning_rate for group in adamw.param_groups] == [1, 1, HEADS_RATE]


def test_the_two_optimizers_share_one_learning_rate_and_are_saved_as_one() -> None:
    matrix, vector = torch.nn.Parameter(torch.ones(3, 3)), torch.nn.Parameter(torch.ones(3))

    def both() -> Both:
        return Both(torch.optim.Muon([matrix], lr=0.1), torch.optim.AdamW([vector], lr=0.1))

    optimizer = both()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    matrix.grad, vector.grad = torch.randn(3, 3), torch.randn(3)
    optimizer.step()
    assert torch.equal(matrix, torch.ones(3, 3)) and torch.equal(vector, torch.ones(3))
    again = both()
    again.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in again.param_groups] == [0.0, 0.0]
    for group in again.param_groups:
        group["lr"] = 0.1
    again.step()
    assert not torch.equal(matrix, torch.ones(3, 3)) and not torch.equal(vector, torch.ones(3))
    again.zero_grad()
    assert matrix.grad is None and vector.grad is None


def test_a_recipe_is_read_and_what_it_leaves_out_is_as_usual(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("steps: 7\nlearning_rate: 0.5\n")
    assert Recipe.read(file) == replace(Recipe(), steps=7, learning_rate=0.5)
    file.write_text("")
    assert Recipe.read(file) == Recipe()


def test_a_recipe_with_unknown_numbers_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("steps: 7\nturns: 3\nbatchsize: 2\n")
    with pytest.raises(InputError, match=r"batchsize, turns.*batch_size"):
        Recipe.read(file)


def test_the_recipe_of_the_repository_can_be_read() -> None:
    recipe = Recipe.read(ROOT / "built_in" / "recipe.yaml")
    assert recipe.warmup + recipe.decay < recipe.steps


def test_each_query_attends_to_its_own_patches_from_the_start(processor: MiniCPMVProcessor) -> None:
    """Of the patches of its cell, the right ones weigh most in what a query gathers."""
    model = small_model()
    strips = collate(pictured(processor, 8))["pixel_values"]
    initialise(model, strips)
    span = CELLS * CELL_PATCHES
    table = model.resampler.query.detach()
    assert table.shape[0] == CELLS**2
    positions = sincos_positions(span, span, table.shape[1])
    likeness = (table @ positions.t()).view(CELLS**2, CELLS, CELL_PATCHES, CELLS, CELL_PATCHES).mean(dim=(2, 4))
    best = likeness.flatten(1).argmax(dim=1)
    assert (best == torch.arange(CELLS**2)).all()


def test_patches_start_at_one_scale(processor: MiniCPMVProcessor) -> None:
    """Whitened: the first layer's outputs are about equally large and hardly depend on each other."""
    model = small_model()
    strips = collate(pictured(processor, 12))["pixel_values"]
    initialise(model, strips)
    patches = model.vpm.embeddings.patch_embedding(strips).squeeze(2).transpose(1, 2).flatten(0, 1)
    seen = patches[strips.unflatten(-1, (-1, 12)).permute(0, 3, 1, 2, 4).flatten(0, 1).flatten(1).abs().sum(1) > 0]
    spread = seen.std(dim=0)
    assert spread.max() < 3 * spread.median()
    correlation = torch.corrcoef(seen[:, spread > 0.05].t())
    assert (correlation - torch.diag(torch.diag(correlation))).abs().max() < 0.1
