"""The training loop: a model, a stream of batches, a schedule, and a state that resumes exactly.

The schedule is warm-up, plateau, decay. Only the decay knows where the end is, so a run can be prolonged at any time
before it begins. Nothing is random in a step, and batch `n` is always the same (see `data.py`): a run that was stopped
and resumed is the run that was not stopped.
"""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.training.auxiliary import AuxiliaryHeads
from omnilmm.training.data import Scenes, batches
from omnilmm.training.labels import WORDS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """The numbers of a run.

    Attributes:
        steps: batches in all; the last `decay` share of them with falling learning rate.
        batch_size: pictures per batch; small batches with many steps learn to see sooner.
        turns: questions per picture.
        learning_rate: of the plateau.
        warmup: batches until the plateau.
        decay: share of `steps`.
        auxiliary: weight of the auxiliary losses.
        seed: of the weights and of the stream of scenes.
        save_every: batches between two saved states.
        look_first: batches at the beginning in which only the tower and the resampler learn, from the auxiliary
            losses alone: several times as many pictures per second while there is nothing to talk about yet.
        workers: processes that draw.
        half: compute in bfloat16 where the device has fast units for it (CUDA, or a CPU with AMX).
        compile: let torch fuse the layers; needs a C++ compiler, and a minute at the start.
    """

    steps: int = 30_000
    batch_size: int = 16
    turns: int = 6
    learning_rate: float = 1e-3
    warmup: int = 300
    decay: float = 0.25
    auxiliary: float = 1.0
    seed: int = 1
    save_every: int = 500
    look_first: int = 0
    workers: int = 1
    half: bool = True
    compile: bool = False

    def rate_at(self, step: int) -> float:
        """Learning rate of batch `step`."""
        falling = (self.steps - step) / max(self.steps * self.decay, 1)
        return self.learning_rate * min((step + 1) / self.warmup, 1.0, max(falling, 0.0))


class Trainer:
    """One run: model, heads, optimiser and how far it has come.

    Args:
        model: in float32, on the device to train on.
        scenes: the stream of samples.
        recipe: the run's numbers.
        folder: where the state is kept.
    """

    def __init__(self, model: MiniCPMV, scenes: Scenes, recipe: Recipe, folder: Path) -> None:
        self.model, self.scenes, self.recipe, self.folder = model, scenes, recipe, folder
        self.device = model.device
        config = model.config
        words = [scenes.encoder.word_id(word) for word in WORDS]
        self.heads = AuxiliaryHeads(config.vision_config.hidden_size, config.text_config.hidden_size, words)
        self.heads.to(self.device)
        self.optimizer = torch.optim.AdamW(_groups(model, self.heads), lr=recipe.learning_rate, betas=(0.9, 0.98))
        self.step = 0
        self.seconds = 0.0
        self.half = recipe.half and (self.device.type == "cuda" or torch.cpu.get_capabilities().get("amx_bf16", False))
        torch.set_flush_denormal(True)  # young weights give many denormals, on which a CPU is a hundred times slower
        if recipe.compile:
            model.set_attn_implementation("eager")  # fuses better than SDPA's backward with a mask
            model.llm.model.compile(dynamic=True)
            model.vpm.encoder.compile(dynamic=True)

    @property
    def state_file(self) -> Path:
        """Where the run's state is kept."""
        return self.folder / "state.pt"

    def run(self) -> None:
        """Train from where the state is to the end of the recipe."""
        self.model.train()
        stream = batches(
            self.scenes,
            batch_size=self.recipe.batch_size,
            first=self.step,
            last=self.recipe.steps,
            workers=self.recipe.workers,
        )
        averages: dict[str, float] = {}
        began, tokens = time.monotonic(), 0
        for batch in stream:
            losses = self._train_on({name: tensor.to(self.device) for name, tensor in batch.items()})
            tokens += int(batch["attention_mask"].sum())
            for name, loss in losses.items():
                averages[name] = 0.98 * averages.get(name, loss) + 0.02 * loss
            self.step += 1
            if self.step % self.recipe.save_every == 0 or self.step == self.recipe.steps:
                elapsed = time.monotonic() - began
                self.seconds += elapsed
                self._report(averages, tokens / elapsed)
                self.save()
                began, tokens = time.monotonic(), 0

    def _train_on(self, batch: dict[str, Tensor]) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
            model, sizes = self.model, batch["target_sizes"]
            patches = model.vpm(batch["pixel_values"], sizes)
            features = model.resampler(patches, sizes)
            losses = self.heads(patches.float(), features.float(), model.get_input_embeddings().weight, batch)
            total = self.recipe.auxiliary * torch.stack(list(losses.values())).sum()
            if self.step >= self.recipe.look_first:
                losses["answers"] = self._answers_loss(batch, features)
                total = total + losses["answers"]
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        self.optimizer.step()
        return {name: loss.item() for name, loss in losses.items()}

    def _answers_loss(self, batch: dict[str, Tensor], features: Tensor) -> Tensor:
        embeds = self.model.merge(batch["input_ids"], batch["image_slots"], features)
        mask, labels = batch["attention_mask"], batch["labels"]
        loss: Tensor = self.model(inputs_embeds=embeds, attention_mask=mask, labels=labels, use_cache=False).loss
        return loss

    def _report(self, averages: dict[str, float], tokens_per_s: float) -> None:
        row = {
            "step": self.step,
            "pictures": self.step * self.recipe.batch_size,
            "minutes": round(self.seconds / 60, 1),
            "tokens_per_s": round(tokens_per_s),
            **{name: round(value, 4) for name, value in averages.items()},
        }
        logger.info("%s", row)
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")

    def save(self) -> None:
        """Write the state, so that an interruption at any moment leaves a whole one."""
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "recipe": asdict(self.recipe),
        }
        unfinished = self.state_file.with_suffix(".unfinished")
        torch.save(state, unfinished)
        os.replace(unfinished, self.state_file)

    def resume(self) -> None:
        """Take up the state in the run's folder, if there is one."""
        if not self.state_file.exists():
            return
        state = torch.load(self.state_file, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


def _groups(*modules: nn.Module) -> list[dict[str, object]]:
    """Matrices decay, vectors (norms, biases) and tables of embeddings do not."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            decays = parameter.ndim >= 2 and "embed" not in name and "query" not in name
            (matrices if decays else others).append(parameter)
    return [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
