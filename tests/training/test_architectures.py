"""Every method learns on every architecture, and what was saved is what answers, merged or beside quantised weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.adapters import attach
from omnilmm.engine.loading import load_engine
from omnilmm.engine.placement.bitsandbytes import keep_differentiable
from omnilmm.errors import CheckpointError
from omnilmm.models.batches import Batch, Sample, collate
from omnilmm.training.adapters import prepare, save
from omnilmm.training.targets import METHODS, Method, Tuning, target_pattern, trained_parameters
from tests.images.corpus import drawing
from tests.models.tiny import VERSIONS, save_tiny

ARCHITECTURES = (*VERSIONS, "omnilmm")
DTYPES: dict[Method, str] = {"lora": "fp32", "qlora": "int4", "full": "fp32"}
MOST_STEPS = 80


def save_base(folder: Path, architecture: str) -> Path:
    """A tiny checkpoint whose LM head is large enough for a certain answer: LoRA leaves the head as it is."""
    file = save_tiny(folder, architecture) / "model.safetensors"
    tensors = load_file(file)
    (head,) = (name for name in tensors if name.endswith("lm_head.weight"))
    tensors[head] *= 1 if architecture == "omnilmm" else 16
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def batch_of(processor: Any) -> Batch:
    """Two conversations, one of them about a picture."""
    picture = Picture(drawing(size=(60, 50)))
    one = Conversation().with_message("user", picture, "a?").with_message("assistant", "bc")
    two = Conversation().with_message("user", "d?").with_message("assistant", "ef")
    return collate([Sample(processor.prompt(one), *processor.pixel_values([picture])), Sample(processor.prompt(two))])


def train(model: Any, batch: Batch, most_steps: int = MOST_STEPS) -> tuple[float, float]:
    """Train until the loss is below a tenth; the first and the last loss."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-3, weight_decay=0.0)
    first = last = 0.0
    for step in range(most_steps):
        loss = model(**batch).loss
        last = float(loss.detach())
        first = first or last
        if last < 0.08 * first and step:
            break
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    return first, last


@torch.no_grad()
def logits(model: Any, batch: Batch) -> Tensor:
    found: Tensor = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
    return found[batch["attention_mask"] == 1].float()


def close(one: Tensor, other: Tensor, tolerance: float) -> None:
    assert float((one - other).abs().mean()) <= tolerance * float(one.abs().mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_learns_and_what_was_saved_is_what_answers(architecture: str, method: Method, tmp_path: Path) -> None:
    base, saved = save_base(tmp_path / "base", architecture), tmp_path / "saved"
    engine = load_engine(str(base), "cpu", DTYPES[method])
    batch = batch_of(engine.processor)
    before = logits(engine.model, batch)
    torch.manual_seed(0)
    tuning = Tuning(method, rank=8, alpha=16)
    counted = trained_parameters(engine.model, tuning)
    tuned = prepare(engine.model, tuning, engine.card)
    assert counted == sum(parameter.numel() for parameter in tuned.parameters() if parameter.requires_grad)
    tower = [p for p in (*engine.model.tower.parameters(), *engine.model.resampler.parameters()) if p.requires_grad]
    assert not tower
    first, last = train(tuned, batch)
    assert last < first / 10, (first, last)
    trained_logits = logits(tuned, batch)
    assert float((trained_logits - before).abs().max()) > 0.1
    save(tuned, saved, engine.processor)
    name, adapter = (str(saved), None) if method == "full" else (str(base), str(saved))
    again = load_engine(name, "cpu", DTYPES[method], adapter=adapter)
    keep_differentiable(again.model)  # as in training: bitsandbytes' kernel for inference rounds in another way
    close(trained_logits, logits(again.model, batch), 5e-2 if method == "qlora" else 1e-4)  # of bf16, of fp32
    if method == "lora":  # loaded, it was merged
        assert not any("lora" in key for key, _ in again.model.named_parameters())
        apart = attach(load_engine(str(base), "cpu", "fp32").model, saved, is_merged=False)
        close(trained_logits, logits(apart, batch), 1e-6)
    elif method == "qlora":
        assert any("lora" in key for key, _ in again.model.named_parameters())


def test_lora_adapts_the_language_model_alone_unless_more_is_asked_for(tmp_path: Path) -> None:
    """Plain names such as q_proj are those of the tower, too."""
    import re

    for architecture, tower in (("2.0", "vpm."), ("2.6", "vpm."), ("omnilmm", "model.vision_tower.")):
        model = load_engine(str(save_tiny(tmp_path / architecture, architecture)), "cpu", "fp32").model
        names = [name for name, _ in model.named_modules()]
        plain, more = (
            [name for name in names if re.fullmatch(target_pattern(model, Tuning(tune_vision=seen)), name)]
            for seen in (False, True)
        )
        assert len(plain) == 14 and not [name for name in plain if name.startswith(tower)]
        assert set(plain) < set(more) and all(name.startswith(tower) for name in set(more) - set(plain))


def test_a_tuned_resampler_and_tower_are_saved_with_the_adapter(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", "2.6")
    engine = load_engine(str(base), "cpu", "fp32")
    batch = batch_of(engine.processor)
    tuning = Tuning(rank=4, alpha=8, tune_resampler=True, tune_vision=True)
    counted = trained_parameters(engine.model, tuning)
    torch.manual_seed(0)
    tuned = prepare(engine.model, tuning, engine.card)
    assert counted == sum(parameter.numel() for parameter in tuned.parameters() if parameter.requires_grad)
    query = engine.model.resampler.query.detach().clone()
    train(tuned, batch, most_steps=5)
    trained_logits = logits(tuned, batch)
    save(tuned, tmp_path / "saved")
    again = load_engine(str(base), "cpu", "fp32", adapter=str(tmp_path / "saved"))
    close(trained_logits, logits(again.model, batch), 1e-4)
    assert not torch.equal(again.model.resampler.query, query)


def test_an_adapter_of_another_shape_is_refused_by_the_layer_that_does_not_fit(tmp_path: Path) -> None:
    engine = load_engine(str(save_tiny(tmp_path / "2.6", "2.6")), "cpu", "fp32")
    torch.manual_seed(0)
    tuned = prepare(engine.model, Tuning(rank=2, alpha=4), engine.card)
    tuned.peft_config["default"].base_model_name_or_path = "built-in"
    save(tuned, tmp_path / "saved")
    with pytest.raises(
        CheckpointError, match=r"does not fit this model: for llm\.model\.layers\.0\..* the adapter has"
    ):
        load_engine("built-in", "cpu", "fp32", adapter=str(tmp_path / "saved"))
