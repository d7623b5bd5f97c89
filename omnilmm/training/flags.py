"""Command-line flags of the training programs; the names of the published scripts are accepted as aliases."""

from __future__ import annotations

import argparse
from pathlib import Path

from omnilmm.catalog import BUILT_IN
from omnilmm.hardware import DEVICES
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
    return top


def tuning_of(args: argparse.Namespace) -> Tuning:
    """Return what the flags say about what is trained."""
    alpha = args.alpha if args.alpha is not None else 2 * args.rank
    return Tuning(args.method, args.rank, alpha, args.dropout, args.tune_resampler, args.tune_vision)


def _add_check(command: argparse.ArgumentParser) -> None:
    command.add_argument("data", type=Path, help="JSON or JSONL file of conversations; see docs/fine-tuning.md")
    _add_model(command)
    _add_lengths(command)
    _add_method(command)


def _add_model(command: argparse.ArgumentParser) -> None:
    flags = command.add_argument_group("which model, and on what")
    flags.add_argument(
        "--model",
        "--model_name_or_path",
        default=BUILT_IN,
        help="name in configs/, hub id, or folder (default: %(default)s)",
    )
    flags.add_argument("--device", default="auto", help=f"{DEVICES} (default: %(default)s)")
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


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 up to but not 1, got {text!r}")
    return value
