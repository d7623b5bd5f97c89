"""One run of training, from the data file to the adapter (or the whole model) and the report about it."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, set_seed

from omnilmm.engine.caches.lru import LRUCache
from omnilmm.engine.events import Report
from omnilmm.engine.local import LocalEngine
from omnilmm.errors import HardwareError, TrainingError
from omnilmm.hardware import BALANCED, QUANTISED, is_out_of_memory, resolve_device, resolve_dtype
from omnilmm.training import forgetting
from omnilmm.training.adapters import prepare, save
from omnilmm.training.base import Base, load_trainable, open_base
from omnilmm.training.examples import Example, Examples, usable_examples
from omnilmm.training.files import write, writing
from omnilmm.training.flags import schedule_of, tuning_of
from omnilmm.training.launch import check_launch
from omnilmm.training.memory import LOADED
from omnilmm.training.progress import Progress
from omnilmm.training.schedule import Schedule
from omnilmm.training.trainer import FineTuner, arguments_of, continue_with, last_state, settings_of

LARGE = 100_000_000  # parameters from which activations are computed again rather than kept
BEFORE, REPORT, DONE = "before.json", "report.md", "finished.json"


class Run:
    """A run in its folder, which may have been started before.

    Args:
        args: the flags of `train`.
        report: called with the bytes of a download.

    Raises:
        OmniLMMError: The data, the model or the flags cannot be used; nothing was written.
    """

    def __init__(self, args: argparse.Namespace, report: Report | None = None) -> None:
        self.args, self.report, self.out = args, report, Path(args.out)
        self.tuning = tuning_of(args)
        check_launch(args.deepspeed)
        self.device = _device(args.device)
        self.is_main = os.environ.get("RANK", "0") == "0"
        self.base = open_base(args.model, revision=args.revision, hub=args.hub, offline=args.offline, report=report)
        read = partial(_read, self.base, args)
        self.train_examples = [example for path in (args.data, args.replay) if path for example in read(path)]
        self.eval_examples = read(args.eval_data) if args.eval_data else []
        self.old_examples = read(args.keep_eval) if args.keep_eval else []
        self.schedule = self._schedule()

    def _schedule(self) -> Schedule:
        schedule = schedule_of(self.args)
        parameters = self.base.card.parameters
        if self.args.checkpointing is None:
            schedule = replace(schedule, checkpointing=parameters is None or parameters >= LARGE)
        return replace(schedule, half=self.tuning.method == "full" and self.device.startswith("cuda"))

    @property
    def settings(self) -> dict[str, Any]:
        """Everything on which the trained weights depend."""
        files = {name: getattr(self.args, name) for name in ("data", "replay", "deepspeed")}
        digests = {name: _digest(path) for name, path in files.items() if path}
        given = {name: getattr(self.args, name) for name in ("max_length", "max_slices")}
        where = {
            "model": self.base.card.name,
            "revision": self.base.revision,
            "device": self.device.partition(":")[0],
            "dtype": self.dtype,
            "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        }
        return settings_of(self.tuning, self.schedule, **where, **digests, **given)

    def begin(self) -> None:
        """Make the folder, or check that the run in it is this one.

        Raises:
            InputError: It has other settings, or the folder holds something else.
        """
        if self.is_main:
            continue_with(self.out, self.settings)

    @property
    def is_finished(self) -> bool:
        """Whether the run has come to its end before."""
        return (self.out / DONE).is_file()

    def train(self) -> str:
        """Train to the end, going on from the last saved state; return the report, empty without questions.

        Raises:
            TrainingError: The loss is no number, the memory does not suffice, or a state cannot be saved.
        """
        engine = self._load()
        seen = partial(self._examples, engine, LRUCache(self.args.feature_cache_mib * 2**20))
        evaluation = seen(self.eval_examples)
        files = {"new task": evaluation, "old abilities": seen(self.old_examples)} if self.old_examples else {}
        before = self._before(engine, files)
        set_seed(self.schedule.seed)
        commit = self.base.revision if self.args.hub == "huggingface" else None  # another hub's says nothing there
        learning = prepare(engine.model, self.tuning, self.base.card, commit)
        config = vars(engine.model.config)
        uses_cache = config.get("use_cache")
        progress = Progress(self.out)
        trainer = self._trainer(learning, seen(self.train_examples), evaluation, progress)
        progress.count = lambda: trainer.tokens
        try:
            trainer.train(resume_from_checkpoint=_text(last_state(self.out)))
        except TrainingError as error:
            if self.is_main and error.code == "loss_not_finite":
                self._save_last(learning, error)
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError("out_of_memory_training", ways=_smaller(self.args)) from error
        finally:
            if self.is_main:
                progress.close()
        config.pop("use_cache", None)  # set by the Trainer
        config |= {} if uses_cache is None else {"use_cache": uses_cache}
        if not self.is_main:
            return ""
        with writing(self.out):
            save(learning, self.out, self.base.processor)
        written = self._report(engine, files, before)
        write(self.out / DONE, json.dumps({"method": self.tuning.method}))
        return written

    @property
    def dtype(self) -> str:
        """The dtype in which the base is loaded."""
        dtype = LOADED[self.tuning.method]
        if dtype == "bf16":
            dtype = resolve_dtype("auto", self.device, self.base.card.stored, self.base.card.parameters).value
        if self.base.card.stored in QUANTISED and self.tuning.method != "full":
            dtype = "auto"
        return "fp32" if dtype == "fp16" else dtype  # gradients in fp16 underflow without a scaler

    def _load(self) -> LocalEngine:
        arguments = {"revision": self.args.revision, "hub": self.args.hub, "offline": self.args.offline}
        return load_trainable(self.args.model, self.device, self.dtype, **arguments, report=self.report)

    def _examples(self, engine: LocalEngine, cache: LRUCache[Any, Any], rows: list[Example]) -> Examples:
        """Return rows as samples of the model; one cache of features serves before, in and after the training."""
        return Examples(
            rows,
            engine.model,
            engine.processor,
            keeps_features=self.tuning.keeps_features,
            cache=cache,
            max_slices=self.args.max_slices,
        )

    def _trainer(self, learning: Any, train: Examples, evaluation: Examples, progress: Progress) -> FineTuner:
        arguments = arguments_of(
            self.schedule,
            self.out,
            self.device,
            evaluates=bool(self.eval_examples),
            deepspeed=_text(self.args.deepspeed),
        )
        callbacks: list[TrainerCallback] = [progress] if self.is_main else []  # the others would write the same files
        return FineTuner(learning, arguments, train, evaluation if self.eval_examples else None, callbacks)

    def _before(self, engine: LocalEngine, files: dict[str, Examples]) -> forgetting.Shares:
        """Return the answers of the untrained model, asked once for the same questions."""
        if not files or not self.is_main:
            return {}
        asked = {
            name: _digest(getattr(self.args, name)) for name in ("eval_data", "keep_eval") if getattr(self.args, name)
        }
        kept = _json(self.out / BEFORE)
        if kept.get("asked") != asked:
            kept = {"asked": asked, "shares": forgetting.shares(engine, files, self.schedule.batch_size)}
            write(self.out / BEFORE, json.dumps(kept))
        return {name: (share, count) for name, (share, count) in kept["shares"].items()}

    def _save_last(self, learning: Any, cause: TrainingError) -> None:
        """Save the weights before a loss that is no number; what stopped the training is reported in any case."""
        folder = self.out / "last"
        try:
            with writing(folder):
                save(learning, folder, self.base.processor)
        except TrainingError as error:
            shutil.rmtree(folder, ignore_errors=True)
            given = cause.parameters
            raise TrainingError(
                "loss_not_finite_nor_saved",
                what=given["what"],
                value=given["value"],
                step=given["step"],
                rate=given["rate"],
                reason=error.parameters["reason"],
            ) from error

    def _report(self, engine: LocalEngine, files: dict[str, Examples], before: forgetting.Shares) -> str:
        if not files:
            return ""
        engine.model.eval()
        engine.model.activation_checkpointing_disable()
        # An engine of its own: the prefixes that the other one keeps were computed with the old weights.
        trained = LocalEngine(engine.model, engine.processor, engine.card, engine.device, engine.dtype)
        written = forgetting.table(before, forgetting.shares(trained, files, self.schedule.batch_size))
        write(self.out / REPORT, f"{written}\n")
        return written


def _read(base: Base, args: argparse.Namespace, path: Path) -> list[Example]:
    return usable_examples(path, base.processor, base.card, max_length=args.max_length, max_slices=args.max_slices)


def _device(requested: str) -> str:
    """Return the device of this process: with a launcher, the GPU that it was given."""
    rank = os.environ.get("LOCAL_RANK")
    found = resolve_device(requested).value
    if rank is not None and found.startswith("cuda"):
        return f"cuda:{rank}"
    if found.startswith("cuda:") and found != "cuda:0":
        raise HardwareError("train_on_visible_gpu", device=found, number=found.partition(":")[2])
    if found == BALANCED and os.environ.get("WORLD_SIZE", "1") != "1":
        raise HardwareError("balanced_with_launcher")
    return found


def _smaller(args: argparse.Namespace) -> list[str]:
    """Return the flags that make a training smaller, as far as they are not used yet."""
    ways = []
    if args.batch_size > 1:
        ways.append(f"--batch-size 1 --accumulate {args.batch_size * args.accumulate}")
    if args.method != "qlora":
        ways.append("--method qlora" if args.method == "lora" else "--method lora")
    if args.checkpointing is False:
        ways.append("--checkpointing")
    return [*ways, "--max-slices 1", "--max-length with fewer tokens"]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    """Return the object of a file; empty where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
