"""transformers' `Trainer`, set up for fine-tuning: it stops at a loss that is no number, and saves without the hub.

A step is the same whether the run was interrupted before it or not: the Trainer restores the optimizer, the schedule,
the order of the rows and the random state, and the features of pictures do not depend on when they were computed.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from omnilmm.errors import InputError, TrainingError
from omnilmm.models.batches import Batch, Sample, collate
from omnilmm.training.adapters import save
from omnilmm.training.files import write, writing
from omnilmm.training.schedule import Schedule

STATE = "trainer_state.json"  # written last, so a saved state with it is complete
SETTINGS = "training.json"


def arguments_of(schedule: Schedule, out: Path, device: str, *, evaluates: bool, deepspeed: str | None) -> Any:
    """Return the arguments of the Trainer; on one machine without a launcher, one device is used."""
    arguments = TrainingArguments(
        output_dir=str(out),
        use_cpu=device == "cpu",
        bf16=schedule.half,
        num_train_epochs=schedule.epochs,
        per_device_train_batch_size=schedule.batch_size,
        per_device_eval_batch_size=schedule.batch_size,
        gradient_accumulation_steps=schedule.accumulate,
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=schedule.warmup,
        weight_decay=0.0,
        seed=schedule.seed,
        activation_checkpointing=schedule.checkpointing,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="epoch" if evaluates else "no",
        prediction_loss_only=True,
        save_strategy="steps" if schedule.save_steps else "epoch",
        save_steps=schedule.save_steps or 500,
        save_total_limit=2,
        dataloader_pin_memory=False,
        label_names=["labels"],
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        deepspeed=deepspeed,
    )
    if arguments.n_gpu > 1:  # several GPUs take a launcher, or share one model; DataParallel would copy it to each
        arguments._n_gpu = 1
    return arguments


class FineTuner(Trainer):
    """The Trainer of a fine-tuning.

    Args:
        model: as returned by `adapters.prepare`.
        arguments: as returned by `arguments_of`.
        train, evaluation: the datasets; no evaluation if None.
        callbacks: called with every log entry.
    """

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        train: Dataset[Sample],
        evaluation: Dataset[Sample] | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        self.tokens = 0
        collator: Callable[[list[Sample]], Batch] = collate
        super().__init__(model, arguments, collator, train, evaluation, callbacks=callbacks)
        self.remove_callback(PrinterCallback)

    def training_step(self, model: nn.Module, inputs: Batch, *arguments: Any, **named: Any) -> Tensor:
        """Compute the loss and its gradients.

        Raises:
            TrainingError: The loss is no number; the weights are those of the last step.
        """
        self.tokens += int(inputs["attention_mask"].sum())
        loss: Tensor = super().training_step(model, inputs, *arguments, **named)
        self._check(float(loss), "loss")
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not self.args.fp16:  # with fp16, the scaler skips such a step
            self._check(float(norm), "gradient")
        return norm

    def _check(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            step, rate = self.state.global_step, self.args.learning_rate
            raise TrainingError("loss_not_finite", what=what, value=value, step=step, rate=rate)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.args.should_save:
            save(self.model, Path(output_dir or str(self.args.output_dir)))

    def _save_checkpoint(self, *arguments: Any, **named: Any) -> None:
        """Save a state; one that could not be written completely is removed, and the one before stays."""
        folder = Path(str(self.args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        try:
            with writing(folder):
                super()._save_checkpoint(*arguments, **named)
        except TrainingError:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def last_state(out: Path) -> Path | None:
    """Return the newest complete state of a run; None if there is none."""
    found = [folder for folder in out.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if _is_complete(folder)]
    return max(found, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def _is_complete(folder: Path) -> bool:
    try:
        json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return folder.name.rpartition("-")[2].isdigit()


def continue_with(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new run, or check that a run that is resumed has the same.

    Raises:
        InputError: The folder has a run with other settings, or other files.
        TrainingError: It cannot be written.
    """
    path = out / SETTINGS
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if changed := sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key)):
            raise InputError("run_with_other_settings", out=out, changed=changed)
        return
    if out.is_dir() and any(out.iterdir()):
        raise InputError("out_not_empty", out=out)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write(path, json.dumps(settings, indent=1))


def settings_of(*parts: Any, **others: Any) -> dict[str, Any]:
    """Return dataclasses and values as one JSON object, for `continue_with`."""
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= asdict(part)
    return json.loads(json.dumps(merged | others, default=str))
