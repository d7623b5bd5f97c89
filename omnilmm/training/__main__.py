"""Fine-tuning from the terminal: `python -m omnilmm.training check | train | merge`; see docs/fine-tuning.md."""

from __future__ import annotations

import argparse
import logging
import sys

from omnilmm.errors import HardwareError, ModelNotFoundError, OmniLMMError, OptionsError
from omnilmm.hardware import prepare_environment
from omnilmm.training.flags import arguments_of, tuning_of
from omnilmm.ui.download_bar import DownloadBar
from omnilmm.ui.flag_values import require
from omnilmm.ui.streams import configure_streams, one_line


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 1 for data or a training that failed, 2 for flags that cannot be met.
    """
    configure_streams()
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    try:
        args = arguments_of(sys.argv[1:] if arguments is None else arguments)
        prepare_environment(args.device)
        return {"check": _check, "train": _train, "merge": _merge}[args.command](args)
    except OmniLMMError as error:
        sys.stderr.write(f"Error: {one_line(error)}\n")
        return 2 if isinstance(error, OptionsError | ModelNotFoundError | HardwareError) else 1
    except KeyboardInterrupt:
        return 1


def _check(args: argparse.Namespace) -> int:
    from omnilmm.engine.placement.layers import skeleton
    from omnilmm.hardware import resolve_device
    from omnilmm.training import report
    from omnilmm.training.base import open_base
    from omnilmm.training.examples import read_examples
    from omnilmm.training.memory import memories

    device = resolve_device(args.device).value
    with DownloadBar() as bar:
        base = open_base(args.model, revision=args.revision, hub=args.hub, offline=args.offline, report=bar.report)
    lengths = {"max_length": args.max_length, "max_slices": args.max_slices}
    examples, problems = read_examples(args.data, base.processor, base.card, **lengths)
    out = sys.stdout
    report.write_problems(args.data, problems, out)
    if examples:
        report.write_summary(args.data, examples, out)
        first = examples[0]
        text = report.marked(first.prompt, base.processor.tokenizer)
        out.write(f"\nThe row of line {first.line}, with what is learnt in «…»:\n{text}\n")
        tokens = args.batch_size * max(len(example.prompt) for example in examples)
        report.write_memory(
            memories(skeleton(base.config), tuning_of(args), tokens, device), args.batch_size, device, out
        )
    total = len(examples) + len(problems)
    out.write(
        f"\n{len(problems)} of {total} rows cannot be used.\n" if problems else f"\nAll {total} rows are usable.\n"
    )
    return 1 if problems else 0


def _train(args: argparse.Namespace) -> int:
    _require_peft()
    require("matplotlib", extra="train")  # draws the curve, which is to fail before the training rather than after it
    from omnilmm.training.run import Run

    with DownloadBar() as bar:
        run = Run(args, bar.report)
    run.begin()
    written = "" if (was_finished := run.is_finished) else run.train()
    if not run.is_main:  # of several processes, one tells
        return 0
    use = f"--model {args.out}" if args.method == "full" else f"--model {args.model} --adapter {args.out}"
    if was_finished:
        sys.stdout.write(f"{args.out} is finished: use it with {use}, or give another --out.\n")
        return 0
    if written:
        sys.stdout.write(f"{written}\n")
    sys.stdout.write(f"Saved in {args.out}. Try it: python web_demo.py {use}\n")
    return 0


def _require_peft() -> None:
    from omnilmm.engine.adapters import import_peft

    import_peft()


def _merge(args: argparse.Namespace) -> int:
    _require_peft()
    from omnilmm.training.merging import merge

    with DownloadBar() as bar:
        source = {"revision": args.revision, "hub": args.hub, "offline": args.offline}
        difference = merge(args.adapter, args.out, model=args.model, dtype=args.dtype, report=bar.report, **source)
    sys.stdout.write(
        f"Saved in {args.out}. Largest difference of a logit between adapter and merged model, on one prompt: "
        f"{difference:.2g}. Try it: python web_demo.py --model {args.out}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
