"""Train and evaluate the built-in model.

`train --run FOLDER` starts or resumes a run; `export --run FOLDER` writes the weights (bf16) to assets/built-in;
`evaluate` prints the table of abilities; `benchmark` writes its questions as a file.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omnilmm.catalog import ROOT

BUILT_IN = ROOT / "assets" / "built-in"
RECIPE = Path(__file__).parent / "recipe.yaml"
CORPUS_LESSONS = 20_000
LARGEST_FILE = "14MB"  # maximum size of a shard in the repository


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    top = argparse.ArgumentParser(prog="python -m built_in", description=__doc__.splitlines()[0])
    top.add_argument("--model", type=Path, default=BUILT_IN, help="checkpoint folder (default: %(default)s)")
    commands = top.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train from the folder's config.json; resumes by itself")
    train.add_argument("--run", type=Path, required=True, help="folder for the states and the log")
    train.add_argument("--recipe", type=Path, default=RECIPE, help="YAML with the numbers (default: %(default)s)")
    train.add_argument("--from-weights", type=Path, metavar="FOLDER", help="begin with a checkpoint's weights")
    train.add_argument("--device", default=None, help="cuda where there is one, else cpu")
    export = commands.add_parser("export", help="write a run's weights into the checkpoint folder")
    export.add_argument("--run", type=Path, required=True)
    evaluate = commands.add_parser("evaluate", help="measure the checkpoint on pictures it has never seen")
    evaluate.add_argument("--run", type=Path, help="measure this run's state instead of the exported weights")
    evaluate.add_argument("--device", default="cpu", help="of the exported weights (default: %(default)s)")
    evaluate.add_argument("--dtype", default="fp32", help="likewise; int4 and int8 too (default: %(default)s)")
    evaluate.add_argument("--questions", type=int, default=500, help="of each ability (default: %(default)s)")
    evaluate.add_argument("--quick", action="store_true", help="a tenth of the questions")
    evaluate.add_argument("--only", nargs="+", metavar="ABILITY", help="these alone")
    evaluate.add_argument("--gallery", type=Path, metavar="FILE", help="also write a page of wrong answers (HTML)")
    benchmark = commands.add_parser("benchmark", help="write the same questions as a file for omnilmm.evaluation")
    benchmark.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .tsv file")
    benchmark.add_argument("--questions", type=int, default=500, help="of each ability (default: %(default)s)")
    benchmark.add_argument("--only", nargs="+", metavar="ABILITY", help="these alone")
    return top


def train(args: argparse.Namespace) -> None:
    """Start or resume a run."""
    import torch

    from built_in.auxiliary import AuxiliaryHeads
    from built_in.cells import WORDS
    from built_in.data import Lessons, collate
    from built_in.initialise import initialise, take_over
    from built_in.loop import PictureTrainer, Recipe, Student

    recipe = Recipe.read(args.recipe)
    torch.manual_seed(recipe.seed)
    model, processor = _fresh(args.model)
    encoder, config = processor.encoder, model.config
    rules, count = processor.config.slicing_rules, recipe.steps * recipe.batch_size
    lessons = Lessons(recipe.seed, encoder, rules, count, group=recipe.batch_size)
    initialise(model, collate([lessons[-index] for index in range(1, 200)])["pixel_values"])
    if args.from_weights:
        kept = take_over(model, processor.tokenizer, args.from_weights)
        logging.info("Taken over from %s; new: %s", args.from_weights, ", ".join(kept) or "nothing")
    words = [encoder.word_id(word) for word in WORDS]
    heads = AuxiliaryHeads(config.vision_config.hidden_size, config.text_config.hidden_size, words)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    PictureTrainer(Student(model, heads, recipe.auxiliary), lessons, collate, recipe, args.run, device).go()


def _trained(run: Path, model):  # type: ignore[no-untyped-def]  # heavy types are imported inside
    """Load the weights of a run's last saved state into the model."""
    from safetensors.torch import load_file
    from transformers.trainer_utils import get_last_checkpoint

    state = get_last_checkpoint(str(run))
    if state is None:
        raise SystemExit(f"{run} holds no saved state (checkpoint-…).")
    weights = load_file(Path(state) / "model.safetensors")
    model.load_state_dict({name.removeprefix("model."): t for name, t in weights.items() if name.startswith("model.")})
    return model


def export(args: argparse.Namespace) -> None:
    """Write the weights of a run to the checkpoint folder as safetensors."""
    import torch

    model, processor = _fresh(args.model)
    model.generation_config.eos_token_id = processor.stop_ids
    _trained(args.run, model).to(torch.bfloat16).save_pretrained(args.model, max_shard_size=LARGEST_FILE)


def benchmark(args: argparse.Namespace) -> None:
    """Write the questions of the evaluation as a TSV."""
    from built_in import benchmark as file
    from omnilmm.models.processor import MiniCPMVProcessor

    _check_abilities(args.only)
    rules = MiniCPMVProcessor.from_pretrained(args.model).config.slicing_rules
    count = file.write(args.out, rules, questions=args.questions, only=args.only)
    sys.stdout.write(f"{count} questions written to {args.out}. Score a model's answers to them with:\n")
    sys.stdout.write(f"  python -m omnilmm.evaluation {args.out} --benchmark built-in\n")


def _check_abilities(only: Sequence[str] | None) -> None:
    from built_in import evaluation

    if unknown := set(only or ()) - {row.name for row in evaluation.ROWS}:
        known = ", ".join(row.name for row in evaluation.ROWS)
        raise SystemExit(f"There is no ability {', '.join(sorted(unknown))}. There are: {known}.")


def evaluate(args: argparse.Namespace) -> None:
    """Print the table of abilities as Markdown."""
    from built_in import evaluation, gallery
    from omnilmm.engine.loading import load_engine

    _check_abilities(args.only)
    if args.run:
        model, processor = _fresh(args.model)
        model = _trained(args.run, model)
    else:
        engine: Any = load_engine(str(args.model), args.device, args.dtype)
        model, processor = engine.model, engine.processor
    questions = args.questions // (10 if args.quick else 1)
    answered = []
    sys.stdout.write("| ability | questions | right | English | Chinese |\n|---|---|---|---|---|\n")
    for row, items in evaluation.examine(model.eval(), processor, questions=questions, only=args.only):
        answered += items
        sys.stdout.write(f"{evaluation.table_line(row, items)}\n")
        sys.stdout.flush()
    for what, share in evaluation.details(answered).items():
        sys.stdout.write(f"- {what}: {share:.3f}\n")
    if args.gallery:
        args.gallery.write_text(gallery.page(answered), encoding="utf-8")


def _fresh(folder: Path):  # type: ignore[no-untyped-def]  # heavy types are imported inside
    """Build an untrained model and its processor from a folder; train and save the tokenizer if it is missing."""
    from built_in.lessons import corpus
    from built_in.tokenizer import train_tokenizer
    from omnilmm.models.config import MiniCPMVConfig
    from omnilmm.models.minicpmv import MiniCPMV
    from omnilmm.models.processor import MiniCPMVProcessor
    from omnilmm.prompts import chatml

    config = MiniCPMVConfig.from_pretrained(folder)
    if not (folder / "tokenizer.json").exists():
        words_of_the_template = [chatml.DEFAULT_SYSTEM, "system", "user", "assistant"] * CORPUS_LESSONS
        texts = [*corpus(random.Random(0), CORPUS_LESSONS), *words_of_the_template]
        train_tokenizer(texts, config.text_config.vocab_size).save_pretrained(folder)
    return MiniCPMV(config), MiniCPMVProcessor.from_pretrained(folder)


def main() -> None:
    """Run one command."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    args = parser().parse_args()
    {"train": train, "export": export, "evaluate": evaluate, "benchmark": benchmark}[args.command](args)


if __name__ == "__main__":
    main()
