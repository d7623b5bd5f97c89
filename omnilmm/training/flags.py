"""Command-line flags of the training programs; the names of the published scripts are accepted as aliases."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from omnilmm.catalog import BUILT_IN
from omnilmm.hardware import DEVICES
from omnilmm.training.published import translated
from omnilmm.training.schedule import Schedule
from omnilmm.training.targets import METHODS, Tuning
from omnilmm.ui.flags import HUBS, Parser

FEATURE_CACHE_MIB = 2048


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = Parser(
        prog="python -m omnilmm.training", description="Fine-tune a model on pictures and answers of your own."
    )
    commands = top.add_subparsers(dest="command", required=True)
    _add_check(commands.add_parser("check", help="check a data file, and what training with it needs"))
    _add_train(commands.add_parser("train", help="train, and go on with a training that was interrupted"))
    _add_merge(commands.add_parser("merge", help="merge an adapter into its base: a whole checkpoint"))
    return top


def arguments_of(given: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of a command, also in the form of the published scripts.

    Raises:
        OptionsError: A flag of those scripts cannot be met.
    """
    return parser().parse_args(translated(given))


def schedule_of(args: argparse.Namespace) -> Schedule:
    """Return what the flags say about the steps; `checkpointing` is off where it is left to the size of the model."""
    return Schedule(
        epochs=args.epochs,
        batch_size=args.batch_size,
        accumulate=args.accumulate,
        learning_rate=args.learning_rate,
        warmup=args.warmup,
        save_steps=args.save_steps,
        seed=args.seed,
        checkpointing=bool(args.checkpointing),
    )


def tuning_of(args: argparse.Namespace) -> Tuning:
    """Return what the flags say about what is trained."""
    alpha = args.alpha if args.alpha is not None else 2 * args.rank
    return Tuning(args.method, args.rank, alpha, args.dropout, args.tune_resampler, args.tune_vision)


def _add_check(command: argparse.ArgumentParser) -> None:
    command.add_argument("data", type=Path, help="JSON or JSONL file of conversations; see docs/fine-tuning.md")
    _add_model(command)
    _add_lengths(command)
    _add_method(command)


def _add_merge(command: argparse.ArgumentParser) -> None:
    command.add_argument("--adapter", type=Path, required=True, metavar="DIR", help="folder of the adapter")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder of the checkpoint")
    command.add_argument("--model", help="the base model (default: the one that the adapter names)")
    command.add_argument("--dtype", choices=("bf16", "fp16", "fp32"), default="bf16", help="(default: %(default)s)")
    _add_source(command)
    command.set_defaults(device="cpu")


def _add_train(command: argparse.ArgumentParser) -> None:
    files = command.add_argument_group("what to learn from, and where to write")
    files.add_argument("--data", "--data_path", type=Path, required=True, help="JSON or JSONL file of conversations")
    files.add_argument(
        "--eval-data", "--eval_data_path", type=Path, help="rows whose loss is measured after each epoch"
    )
    files.add_argument(
        "--out", "--output_dir", type=Path, required=True, help="folder of the run; given again, the run goes on"
    )
    files.add_argument("--replay", type=Path, metavar="FILE", help="old data, mixed in so that less is forgotten")
    files.add_argument(
        "--keep-eval",
        type=Path,
        metavar="FILE",
        help="questions and answers that should stay right: asked before and after, as are those of --eval-data",
    )
    _add_model(command)
    _add_lengths(command)
    _add_method(command)
    _add_schedule(command)


def _add_schedule(command: argparse.ArgumentParser) -> None:
    flags = command.add_argument_group("how long, and in which steps")
    flags.add_argument("--epochs", "--num_train_epochs", type=_positive, default=3.0, help="(default: %(default)s)")
    flags.add_argument(
        "--learning-rate", "--learning_rate", type=_positive, default=1e-4, help="at its highest (default: %(default)s)"
    )
    flags.add_argument(
        "--warmup", "--warmup_ratio", type=_share, default=0.03, help="share of the steps (default: %(default)s)"
    )
    flags.add_argument(
        "--accumulate",
        "--gradient_accumulation_steps",
        type=_count,
        default=8,
        metavar="N",
        help="batches per step (default: %(default)s)",
    )
    flags.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    flags.add_argument("--save-steps", "--save_steps", type=_count, metavar="N", help="(default: once per epoch)")
    flags.add_argument(
        "--checkpointing",
        "--gradient_checkpointing",
        action=argparse.BooleanOptionalAction,
        help="compute activations again to save memory (default: from 100 million parameters on)",
    )
    flags.add_argument(
        "--feature-cache",
        dest="feature_cache_mib",
        type=_count,
        default=FEATURE_CACHE_MIB,
        metavar="MIB",
        help="memory for picture features, where tower and resampler are frozen (default: %(default)s)",
    )
    flags.add_argument(
        "--deepspeed", type=Path, metavar="FILE", help="configuration of DeepSpeed, for accelerate launch"
    )


def _add_model(command: argparse.ArgumentParser) -> None:
    flags = command.add_argument_group("which model, and on what")
    flags.add_argument(
        "--model",
        "--model_name_or_path",
        default=BUILT_IN,
        help="name in configs/, hub id, or folder (default: %(default)s)",
    )
    flags.add_argument("--device", default="auto", help=f"{DEVICES} (default: %(default)s)")
    _add_source(flags)


def _add_source(flags: argparse._ActionsContainer) -> None:
    flags.add_argument("--revision", metavar="COMMIT", help="commit, tag or branch of the hub (default: the newest)")
    flags.add_argument("--hub", choices=HUBS, default=HUBS[0], help="where to download from (default: %(default)s)")
    flags.add_argument("--offline", action="store_true", help="use what is on this disk, touch no network")


def _add_lengths(command: argparse.ArgumentParser) -> None:
    flags = command.add_argument_group("batches")
    flags.add_argument(
        "--batch-size",
        "--per_device_train_batch_size",
        type=_count,
        default=1,
        metavar="N",
        help="rows per device at once (default: %(default)s)",
    )
    flags.add_argument(
        "--max-length",
        "--model_max_length",
        type=_count,
        metavar="TOKENS",
        help="refuse longer rows (default: the model's context); nothing is cut",
    )
    flags.add_argument(
        "--max-slices", "--max_slice_nums", type=_count, metavar="N", help="slices per picture (default: the model's)"
    )


def _add_method(command: argparse.ArgumentParser) -> None:
    flags = command.add_argument_group("what is trained")
    flags.add_argument(
        "--method", choices=METHODS, default="lora", help="qlora: over 4-bit weights; full: all of the language model"
    )
    flags.add_argument("--rank", "--lora_r", type=_count, default=16, help="of LoRA (default: %(default)s)")
    flags.add_argument("--alpha", "--lora_alpha", type=_count, help="of LoRA (default: twice the rank)")
    flags.add_argument("--dropout", "--lora_dropout", type=_share, default=0.0, help="of LoRA (default: %(default)s)")
    flags.add_argument(
        "--tune-resampler", action=argparse.BooleanOptionalAction, default=False, help="train the resampler, too"
    )
    flags.add_argument(
        "--tune-vision",
        "--tune_vision",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="train the vision tower, too",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 up to but not 1, got {text!r}")
    return value
