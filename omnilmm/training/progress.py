"""Progress of a training: a bar on the terminal, `trainer_log.jsonl`, and the loss as a picture."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from omnilmm.training.files import write, writing

logger = logging.getLogger(__name__)
LOG, CURVE = "trainer_log.jsonl", "loss.png"
KEPT = ("loss", "eval_loss", "grad_norm", "learning_rate", "epoch")


class Progress(TrainerCallback):
    """Shows and writes every log entry; entries after the state that a run resumes from are dropped.

    Args:
        out: folder of the run.
        count: returns the number of tokens trained on so far in this process.
    """

    def __init__(self, out: Path) -> None:
        self.log, self.curve = out / LOG, out / CURVE
        self.bar: Any = None
        self.count = lambda: 0
        self.began_s = 0.0
        self.shown: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the bar at the step from which the run goes on."""
        before = [entry for entry in entries(self.log) if entry["step"] <= state.global_step]
        write(self.log, "".join(f"{json.dumps(entry)}\n" for entry in before))
        self.began_s = time.monotonic()
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", file=sys.stderr)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Advance the bar."""
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Append the entry to the log, and show its losses."""
        kept = {name: logs[name] for name in KEPT if logs and name in logs}
        if not {"loss", "eval_loss"} & set(kept):
            return
        speed = round(self.count() / max(time.monotonic() - self.began_s, 1e-9), 1)
        with writing(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps({'step': state.global_step, **kept, 'tokens_per_s': speed})}\n")
        self.shown |= {name: f"{kept[name]:.4f}" for name in ("loss", "eval_loss") if name in kept}
        if self.bar is not None:
            self.bar.set_postfix({**self.shown, "tokens/s": f"{speed:.0f}"})

    def close(self) -> None:
        """Close the bar and draw the curve; no training fails for the sake of the picture."""
        if self.bar is not None:
            self.bar.close()
        try:
            draw(entries(self.log), self.curve)
        except OSError as error:
            self.curve.unlink(missing_ok=True)
            logger.warning("%s cannot be written: %s", self.curve, error.strerror or error)


def entries(log: Path) -> list[dict[str, Any]]:
    """Return the entries of a log; a last line that was cut off by a kill is left out."""
    found = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def draw(log: list[dict[str, Any]], path: Path) -> None:
    """Draw the losses over the steps as a PNG; nothing if there are none."""
    from matplotlib.figure import Figure

    if not log:
        return
    axes = (figure := Figure(figsize=(7, 4), layout="constrained")).subplots()
    for name, label in (("loss", "training"), ("eval_loss", "evaluation")):
        points = [(entry["step"], entry[name]) for entry in log if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="." if name == "eval_loss" else "")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=120)
