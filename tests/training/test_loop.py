"""The training loop: it learns, and a run that was stopped and resumed is the run that was not stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from omnilmm.catalog import ROOT
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.processor import MiniCPMVProcessor
from omnilmm.training.data import IGNORED, Scenes, collate
from omnilmm.training.initialise import initialise
from omnilmm.training.labels import WORDS
from omnilmm.training.loop import Recipe, Trainer

BUILT_IN = ROOT / "assets" / "built-in"
RECIPE = Recipe(steps=6, batch_size=2, turns=2, warmup=2, save_every=3, workers=0, half=False)


@pytest.fixture(scope="module")
def processor() -> MiniCPMVProcessor:
    return MiniCPMVProcessor.from_pretrained(BUILT_IN)


def trainer(folder: Path, processor: MiniCPMVProcessor, recipe: Recipe = RECIPE) -> Trainer:
    folder.mkdir(exist_ok=True)
    published = json.loads((BUILT_IN / "config.json").read_text())
    published |= {"hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    published |= {"num_key_value_heads": 2, "layer_types": None}
    published["vision_config"] |= {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    published["vision_config"]["num_hidden_layers"] = 1
    torch.manual_seed(recipe.seed)
    model = MiniCPMV(MiniCPMVConfig.from_dict(published))
    scenes = Scenes(recipe.seed, processor.encoder, processor.config.slicing_rules, recipe.turns)
    initialise(model, collate([scenes[-1], scenes[-2]])["pixel_values"])
    return Trainer(model, scenes, recipe, folder)


def weights(run: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def test_a_resumed_run_equals_one_that_was_not_stopped(tmp_path: Path, processor: MiniCPMVProcessor) -> None:
    stopped = trainer(tmp_path / "stopped", processor)
    stopped.recipe = replace(RECIPE, steps=3, decay=0.0)
    stopped.run()
    resumed = trainer(tmp_path / "stopped", processor, replace(RECIPE, decay=0.0))
    resumed.resume()
    assert resumed.step == 3
    straight = trainer(tmp_path / "straight", processor, replace(RECIPE, decay=0.0))
    straight.run()
    resumed.run()
    for name, tensor in weights(straight).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


def test_the_schedule_warms_up_stays_and_falls() -> None:
    recipe = Recipe(steps=100, warmup=10, decay=0.2, learning_rate=1.0)
    assert recipe.rate_at(0) == pytest.approx(0.1)
    assert recipe.rate_at(10) == recipe.rate_at(79) == 1.0
    assert recipe.rate_at(90) == pytest.approx(0.5)
    assert recipe.rate_at(100) == 0.0


def test_looking_first_leaves_the_language_model_alone(tmp_path: Path, processor: MiniCPMVProcessor) -> None:
    run = trainer(tmp_path / "look", processor, replace(RECIPE, steps=2, look_first=2, warmup=1, decay=0.0))
    before = weights(run)
    run.run()
    after = weights(run)
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    layers = [
        name for name in after if name.startswith("llm.model.layers") and not torch.equal(before[name], after[name])
    ]
    assert {"vpm", "resampler"} <= changed
    assert not layers


def test_training_lowers_every_loss(tmp_path: Path, processor: MiniCPMVProcessor) -> None:
    run = trainer(tmp_path / "learn", processor, replace(RECIPE, steps=40, save_every=20, decay=0.0, warmup=1))
    batch = collate([run.scenes[index] for index in range(2)])
    first = run._train_on(batch)
    for _ in range(30):
        last = run._train_on(batch)
    assert all(last[name] < first[name] for name in first)


def test_labels_are_the_answers_and_nothing_else(processor: MiniCPMVProcessor) -> None:
    scenes = Scenes(3, processor.encoder, processor.config.slicing_rules, turns=3)
    batch = collate([scenes[0]])
    learnt = batch["input_ids"][batch["labels"] != IGNORED]
    text = processor.tokenizer.decode(learnt.tolist())
    assert text.count("<|im_end|>") == 3
    assert "?" not in text
    assert not batch["image_slots"][batch["labels"] != IGNORED].any()
    assert int(batch["image_slots"].sum()) == processor.config.query_num


def test_every_sample_depends_on_its_number_alone(processor: MiniCPMVProcessor) -> None:
    scenes = Scenes(3, processor.encoder, processor.config.slicing_rules, turns=3)
    again = Scenes(3, processor.encoder, processor.config.slicing_rules, turns=3)
    _ = again[5]
    assert torch.equal(collate([scenes[7]])["pixel_values"], collate([again[7]])["pixel_values"])
    assert scenes[7].prompt == again[7].prompt
    assert scenes[7].prompt != scenes[8].prompt


def test_every_word_of_an_answer_about_a_cell_is_one_token(processor: MiniCPMVProcessor) -> None:
    assert len({processor.encoder.word_id(word) for word in WORDS}) == len(WORDS)
