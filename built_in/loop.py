"""The training loop: transformers' `Trainer` over batches of conversations about pictures.

It works with any model with a vision tower, a resampler and a language model, and with the batches of `data.py`. The
schedule is warm-up, plateau, decay: only the decay depends on the total number of steps, so a run can be extended at
any time before it begins. Batch `n` is always the same, so an interrupted and resumed run gives the same result.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from built_in.labels import IGNORED
from omnilmm.errors import InputError
from omnilmm.hardware import has_amx
from omnilmm.models.minicpmv import MiniCPMV

HEADS_RATE = 5  # times the learning rate: linear heads tolerate a higher one and have to track the features
Batch = dict[str, Tensor]
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a run.

    Attributes:
        steps: total number of batches.
        batch_size: conversations per batch; small batches with many steps learn to use pictures sooner.
        learning_rate: learning rate of the plateau.
        warmup: batches until the plateau.
        decay: batches at the end in which the learning rate falls to zero.
        auxiliary: weight of the auxiliary losses.
        seed: seed of the weights and of the stream of lessons.
        save_every: batches between two saved states.
        auxiliary_first: batches at the start that train with the auxiliary losses only, which skips the language model
            and processes several times as many pictures per second.
        heads_first: batches at the start that train only the auxiliary heads, for a run that starts from trained
            weights, which untrained heads would disturb.
        workers: number of data loader processes.
        half: compute in bfloat16 where the device has fast units for it (CUDA, or a CPU with AMX).
        compile: use torch.compile; needs a C++ compiler, and a minute at the start.
    """

    steps: int = 30_000
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup: int = 300
    decay: int = 5_000
    auxiliary: float = 1.0
    seed: int = 1
    save_every: int = 500
    auxiliary_first: int = 0
    heads_first: int = 0
    workers: int = 1
    half: bool = True
    compile: bool = False

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe from a YAML file; missing keys have their default.

        Raises:
            InputError: The file has unknown keys.
        """
        numbers: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(numbers) - known):
            raise InputError("unknown_recipe_keys", path=path, unknown=unknown, known=sorted(known))
        return replace(cls(), **numbers)


class Student(nn.Module):
    """A model in training, with its losses.

    Args:
        model: model in float32.
        heads: module of the auxiliary losses (patches, features, embeddings, batch -> losses by name).
        auxiliary: weight of the auxiliary losses.
    """

    def __init__(self, model: MiniCPMV, heads: nn.Module, auxiliary: float = 1.0) -> None:
        super().__init__()
        self.model, self.heads, self.auxiliary = model, heads, auxiliary

    def forward(self, batch: Batch, only_auxiliary: bool = False, only_heads: bool = False) -> dict[str, Any]:
        """Compute the total loss and all losses by name.

        Args:
            batch: see `data.collate`.
            only_auxiliary: skip the loss of the answers.
            only_heads: skip the loss of the answers, and train only the auxiliary heads.
        """
        losses: Losses = {}
        features = None
        if "pixel_values" in batch:
            sizes = batch["target_sizes"]
            with torch.set_grad_enabled(torch.is_grad_enabled() and not only_heads):
                patches = self.model.vpm(batch["pixel_values"], sizes)
                features = self.model.resampler(patches, sizes)
            table: Any = self.model.get_input_embeddings().weight
            words: Tensor = table.detach() if only_heads else table
            losses = self.heads(patches.float(), features.float(), words, batch)
        total = self.auxiliary * sum(losses.values(), torch.zeros((), device=batch["input_ids"].device))
        if not (only_auxiliary or only_heads):
            losses["answers"] = self._answers(batch, features)
            total = total + losses["answers"]
        return {"loss": total, "losses": losses}

    def _answers(self, batch: Batch, features: Tensor | None) -> Tensor:
        """Compute the weighted cross entropy of the answers; logits are computed only for their tokens, a quarter."""
        llm = self.model.llm
        embeds = self.model.merge(batch["input_ids"], batch["image_slots"], features)
        hidden = llm.model(inputs_embeds=embeds, attention_mask=batch["attention_mask"], use_cache=False)[0]
        wanted = batch["labels"][:, 1:]
        logits = llm.lm_head(hidden[:, :-1][wanted != IGNORED]) / getattr(llm.config, "logits_scaling", 1.0)
        each = F.cross_entropy(logits.float(), wanted[wanted != IGNORED], reduction="none")
        weights = batch["weights"][:, 1:][wanted != IGNORED]
        return (each * weights).sum() / weights.sum()

    def compile_layers(self) -> None:
        """Compile the layers of the vision tower and of the language model."""
        self.model.set_attn_implementation("eager")  # fuses better than SDPA's backward with a mask
        self.model.llm.model.compile(dynamic=True)
        self.model.vpm.encoder.compile(dynamic=True)


class Both(torch.optim.Optimizer):
    """Several optimizers as one, each with its own parameters."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step all optimizers."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all optimizers."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the states of all optimizers."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


class PictureTrainer(Trainer):
    """`Trainer` that logs every loss by name, and tokens per second.

    Args:
        student: model to train, with its losses.
        lessons: dataset in which sample `n` is always the same.
        collate: converts samples to a batch.
        recipe: hyperparameters of the run.
        folder: folder for saved states and the log.
        device: "cpu", "cuda", … .
    """

    def __init__(
        self,
        student: Student,
        lessons: Dataset[Any],
        collate: Callable[[list[Any]], Batch],
        recipe: Recipe,
        folder: Path,
        device: str,
    ) -> None:
        self.recipe = recipe
        is_cpu = device == "cpu"
        half = recipe.half and (not is_cpu or has_amx())
        arguments = TrainingArguments(
            output_dir=str(folder),
            use_cpu=is_cpu,
            bf16=half,
            max_steps=recipe.steps,
            per_device_train_batch_size=recipe.batch_size,
            train_sampling_strategy="sequential",
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="warmup_stable_decay",
            lr_scheduler_kwargs={"num_decay_steps": recipe.decay, "decay_type": "linear"},
            warmup_steps=recipe.warmup,
            max_grad_norm=1.0,
            seed=recipe.seed,
            logging_steps=min(50, recipe.save_every),
            save_steps=recipe.save_every,
            save_total_limit=2,
            dataloader_num_workers=recipe.workers,
            dataloader_pin_memory=not is_cpu,
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
        )
        self.sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.tokens, self.since = 0, time.monotonic()
        torch.set_flush_denormal(True)  # early training has many denormals, which make a CPU a hundred times slower
        super().__init__(student, arguments, collate, lessons)
        if recipe.compile:
            student.compile_layers()

    def go(self) -> None:
        """Train to the end of the recipe, resuming from the last saved state if there is one."""
        self.train(resume_from_checkpoint=get_last_checkpoint(str(self.args.output_dir)))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Use Muon for the matrices of the tower, the resampler and the language model, AdamW for everything else.

        The auxiliary heads have HEADS_RATE times the learning rate. They, vectors (norms, biases), embeddings and
        queries have no weight decay.
        """
        for_muon: list[nn.Parameter] = []
        heads: list[nn.Parameter] = []
        decaying: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad:
                continue
            if name.startswith("heads"):
                heads.append(parameter)
            elif parameter.ndim < 2 or "embed" in name or "query" in name:
                plain.append(parameter)
            elif parameter.ndim == 2 and "lm_head" not in name:
                for_muon.append(parameter)
            else:
                decaying.append(parameter)
        rate = self.recipe.learning_rate
        muon = torch.optim.Muon(for_muon, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
        groups = [
            {"params": decaying, "weight_decay": 0.05},
            {"params": plain, "weight_decay": 0.0},
            {"params": heads, "weight_decay": 0.0, "lr": HEADS_RATE * rate},
        ]
        self.optimizer = Both(muon, torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98)))
        return self.optimizer

    def compute_loss(self, model: nn.Module, inputs: Batch, *_: Any, **__: Any) -> Tensor:
        """Return the loss of a batch and accumulate its parts for the next log entry."""
        step, recipe = self.state.global_step, self.recipe
        only_heads, only_auxiliary = step < recipe.heads_first, step < recipe.auxiliary_first
        result = model(inputs, only_auxiliary=only_auxiliary, only_heads=only_heads)
        for name, part in result["losses"].items():
            total = self.sums[name]
            total[0] += float(part.detach())
            total[1] += 1
        self.tokens += int(inputs["attention_mask"].sum())
        loss: Tensor = result["loss"]
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean losses by name and the tokens per second since the last log entry."""
        if self.sums:
            logs |= {name: round(total / count, 4) for name, (total, count) in self.sums.items()}
            logs["tokens_per_s"] = round(self.tokens / (time.monotonic() - self.since))
            self.sums.clear()
            self.tokens, self.since = 0, time.monotonic()
        super().log(logs, start_time)
