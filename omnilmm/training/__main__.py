"""Fine-tuning from the terminal: `python -m omnilmm.training check | train | merge`; see docs/fine-tuning.md."""

from __future__ import annotations

import argparse
import logging
import sys

from omnilmm.errors import HardwareError, ModelNotFoundError, OmniLMMError, OptionsError
from omnilmm.hardware import prepare_environment
from omnilmm.training.flags import parser, tuning_of
from omnilmm.ui.download_bar import DownloadBar
from omnilmm.ui.streams import configure_streams, one_line


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 1 for data or a training that failed, 2 for flags that cannot be met.
    """
    configure_streams()
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    args = parser().parse_args(arguments)
    try:
        prepare_environment(args.device)
        return {"check": _check}[args.command](args)
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


if __name__ == "__main__":
    sys.exit(main())
