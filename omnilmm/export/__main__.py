"""Export a checkpoint.

python -m omnilmm.export gguf --model minicpm-v-2.6 --out DIR --type q8_0
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from omnilmm.catalog import BUILT_IN
from omnilmm.engine.fetching import fetch
from omnilmm.errors import MissingPackageError, OmniLMMError
from omnilmm.model_lookup import find
from omnilmm.ui.download_bar import DownloadBar
from omnilmm.ui.flags import HUBS, Parser
from omnilmm.ui.streams import configure_streams, one_line

TYPES = ("f32", "f16", "q8_0")  # of `writing`, which needs the package
LARGE = 1_000_000_000  # parameters; larger models are asked the samples in English only


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    flags = Parser(prog="python -m omnilmm.export", description="Export a checkpoint for other programs.")
    formats = flags.add_subparsers(dest="format", required=True, metavar="FORMAT")
    own = formats.add_parser("gguf", help="for llama.cpp, Ollama and the apps built on them")
    own.add_argument(
        "--model", help=f"name in configs/, hub id, or folder (default: {BUILT_IN}, or the adapter's base)"
    )
    own.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write the two files to")
    own.add_argument("--type", choices=TYPES, default="f16", help="of the weights (default: %(default)s)")
    own.add_argument("--adapter", type=Path, metavar="DIR", help="merge this adapter into the model (in bf16) first")
    own.add_argument("--check", action="store_true", help="ask both engines the sample questions (needs [llamacpp])")
    own.add_argument("--revision", metavar="COMMIT", help="commit, tag or branch of the hub (default: the newest)")
    own.add_argument("--hub", choices=HUBS, default=HUBS[0], help="where to download from (default: %(default)s)")
    own.add_argument("--offline", action="store_true", help="use what is on this disk, touch no network")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Export, and compare if that is wanted; returns 1 if llama.cpp answers otherwise."""
    configure_streams()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return _export(parser().parse_args(arguments))
    except KeyboardInterrupt:
        return 130
    except (OmniLMMError, OSError) as error:
        sys.stderr.write(f"Error: {one_line(error)}\n")
        return 2


def _export(flags: argparse.Namespace) -> int:
    if find_spec("gguf") is None:
        raise MissingPackageError("gguf_missing")

    if flags.adapter:
        with TemporaryDirectory(dir=_made(flags.out)) as merged:
            return _export_folder(_merged(flags, Path(merged) / "merged"), flags.adapter.resolve().name, flags)
    card = find(BUILT_IN if flags.model is None else flags.model)
    folder = Path(card.location)
    with DownloadBar() as bar:
        if not folder.is_dir():
            revision = flags.revision or card.revision
            where = {"revision": revision, "hub": flags.hub, "offline": flags.offline}
            folder = fetch(card.source, title=card.title, report=bar.report, **where)
    return _export_folder(folder, card.name.rstrip("/").rpartition("/")[2], flags)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _merged(flags: argparse.Namespace, folder: Path) -> Path:
    """Merge the adapter into its base model, which `--model` may name, and return the folder of the result."""
    from omnilmm.training.merging import merge

    source = {"revision": flags.revision, "hub": flags.hub, "offline": flags.offline}
    with DownloadBar() as bar:
        merge(flags.adapter, folder, model=flags.model, report=bar.report, **source)
    return folder


def _export_folder(folder: Path, named: str, flags: argparse.Namespace) -> int:
    from omnilmm.export.to_gguf import export_gguf

    name = re.sub(r"[^\w.-]+", "-", named) or "model"
    exported = export_gguf(folder, flags.out, name, flags.type, tell=_tell)
    for warning in exported.warnings:
        sys.stderr.write(f"{warning}\n")
    for path in (exported.model, exported.mmproj):
        print(f"{path} ({path.stat().st_size / 2**20:,.0f} MiB)")
    print(f"Use it: omnilmm-web --model {exported.model}, or any program that takes GGUF. docs/llamacpp.md")
    if not flags.check:
        return 0
    from omnilmm.engine.llamacpp.child import require_package

    require_package()
    return _check(folder, exported)


def _tell(done: int, total: int) -> None:
    """Show the progress on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\rWriting {done / 2**20:,.0f} of {total / 2**20:,.0f} MiB" + ("\n" if done == total else ""))


def _check(folder: Path, exported: object) -> int:
    from omnilmm.engine.loading import load_engine
    from omnilmm.engine.local import LocalEngine
    from omnilmm.export.checking import compare, worst_cosine
    from omnilmm.export.to_gguf import Exported

    assert isinstance(exported, Exported)  # noqa: S101
    engine = load_engine(str(folder), dtype="fp32")
    assert isinstance(engine, LocalEngine)  # noqa: S101
    languages = ("en",) if (engine.card.parameters or 0) > LARGE else ("en", "zh")
    counts: dict[bool, list[bool]] = {False: [], True: []}
    for one in compare(engine, exported, languages):
        counts[one.is_square].append(one.is_equal)
        shape = "square" if one.is_square else "as it is"
        print(f"{'equal' if one.is_equal else 'NOT EQUAL'}  {one.picture} ({shape})  {one.question}  {one.theirs}")
        if not one.is_equal:
            print(f"           in our engine: {one.ours}")
    print(f"As they are, which llama.cpp cuts in another way: {sum(counts[False])} of {len(counts[False])} equal.")
    print(f"As squares, which both take alike: {sum(counts[True])} of {len(counts[True])} equal.")
    print(f"Picture features: cosine of at least {worst_cosine(engine, exported):.6f}.")
    return 0 if all(counts[True]) else 1


if __name__ == "__main__":
    sys.exit(main())
