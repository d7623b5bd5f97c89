"""Train and measure the built-in model.

`train --run FOLDER` starts, or goes on where it was stopped; `export --run FOLDER` writes the weights (bf16) into
assets/built-in; `evaluate` prints the table of abilities.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import get_type_hints

BUILT_IN = Path(__file__).parents[2] / "assets" / "built-in"
CORPUS_TEXTS = 20_000


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from omnilmm.training.loop import Recipe

    top = argparse.ArgumentParser(prog="python -m omnilmm.training", description=__doc__.splitlines()[0])
    top.add_argument("--model", type=Path, default=BUILT_IN, help="checkpoint folder (default: %(default)s)")
    commands = top.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train from the folder's config.json; resumes by itself")
    train.add_argument("--run", type=Path, required=True, help="folder for the state and the log")
    train.add_argument("--from-weights", action="store_true", help="begin with the folder's weights, not at random")
    train.add_argument("--device", default=None, help="cuda where there is one, else cpu")
    hints = get_type_hints(Recipe)
    for field in fields(Recipe):
        flag = f"--{field.name.replace('_', '-')}"
        if hints[field.name] is bool:
            train.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            train.add_argument(flag, type=hints[field.name], default=field.default, help="(default: %(default)s)")
    export = commands.add_parser("export", help="write a run's weights into the checkpoint folder")
    export.add_argument("--run", type=Path, required=True)
    evaluate = commands.add_parser("evaluate", help="measure the checkpoint on pictures it has never seen")
    evaluate.add_argument("--run", type=Path, help="measure this run's state instead of the exported weights")
    evaluate.add_argument("--pictures", type=int, default=500)
    evaluate.add_argument("--show", type=int, default=0, metavar="N", help="also print N wrong answers per ability")
    return top


def train(args: argparse.Namespace) -> None:
    """Start a run or go on with it."""
    import torch

    from omnilmm.models.minicpmv import MiniCPMV
    from omnilmm.training.data import Scenes, collate
    from omnilmm.training.initialise import initialise
    from omnilmm.training.loop import Recipe, Trainer

    recipe = Recipe(**{field.name: getattr(args, field.name) for field in fields(Recipe)})
    args.run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    model, processor = _fresh(args.model)
    scenes = Scenes(recipe.seed, processor.encoder, processor.config.slicing_rules, recipe.turns)
    if args.from_weights:
        model = MiniCPMV.from_pretrained(args.model, dtype=torch.float32)
    else:
        initialise(model, collate([scenes[-index] for index in range(1, 200)])["pixel_values"])
    model.to(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    trainer = Trainer(model, scenes, recipe, args.run)
    trainer.resume()
    trainer.run()


def export(args: argparse.Namespace) -> None:
    """Write a run's weights as the checkpoint folder's safetensors."""
    import torch

    model, processor = _fresh(args.model)
    model.generation_config.eos_token_id = processor.stop_ids
    model.load_state_dict(torch.load(args.run / "state.pt", map_location="cpu", weights_only=True)["model"])
    model.to(torch.bfloat16).save_pretrained(args.model)


def evaluate(args: argparse.Namespace) -> None:
    """Print the table of abilities as Markdown."""
    import torch

    from omnilmm.models.minicpmv import MiniCPMV
    from omnilmm.training import evaluation

    model, processor = _fresh(args.model)
    if args.run:
        model.load_state_dict(torch.load(args.run / "state.pt", map_location="cpu", weights_only=True)["model"])
    else:
        model = MiniCPMV.from_pretrained(args.model, dtype=torch.float32)
    answered = evaluation.evaluate(model.eval(), processor, pictures=args.pictures)
    rows = evaluation.table(answered)
    sys.stdout.write("| ability | questions | exact match |\n|---|---|---|\n")
    sys.stdout.writelines(f"| {ability} | {asked} | {share:.3f} |\n" for ability, asked, share in rows)
    for ability, _, _ in rows:
        wrong = (item for item in answered if item.turn.ability == ability and not item.is_right)
        for item in islice(wrong, args.show):
            sys.stdout.write(f"{ability}: picture {item.picture}: {item.turn.question} -> {item.answer}")
            sys.stdout.write(f" (true: {item.turn.answer})\n")


def _fresh(folder: Path):  # type: ignore[no-untyped-def]  # heavy types are imported inside
    """An untrained model of the folder's config.json, and its processor; a missing tokenizer is trained and saved."""
    from omnilmm.models.config import MiniCPMVConfig
    from omnilmm.models.minicpmv import MiniCPMV
    from omnilmm.models.processor import MiniCPMVProcessor
    from omnilmm.prompts import chatml
    from omnilmm.training.questions import corpus
    from omnilmm.training.tokenizer import train_tokenizer

    config = MiniCPMVConfig.from_pretrained(folder)
    if not (folder / "tokenizer.json").exists():
        words_of_the_template = [chatml.DEFAULT_SYSTEM, "system", "user", "assistant"] * CORPUS_TEXTS
        texts = [*corpus(random.Random(0), CORPUS_TEXTS), *words_of_the_template]
        train_tokenizer(texts, config.text_config.vocab_size).save_pretrained(folder)
    return MiniCPMV(config), MiniCPMVProcessor.from_pretrained(folder)


def main() -> None:
    """Run one command."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    args = parser().parse_args()
    {"train": train, "export": export, "evaluate": evaluate}[args.command](args)


if __name__ == "__main__":
    main()
