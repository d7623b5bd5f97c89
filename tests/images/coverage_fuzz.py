"""Fuzzing guided by coverage: `python -m tests.images.coverage_fuzz [--minutes 10]`, a part of `make fuzz`.

Picture files and exported conversations change at random, and what reaches new lines of Pillow's readers or of ours is
changed further. Whatever is raised but our own errors is found. Here the decoder's code runs in this process, since
coverage cannot be seen in another: what a file may cost is measured by `fuzz.py`. Needs atheris, which is not among
the requirements: there is none for macOS and Windows. Without it this says so and ends with 2.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LARGEST = 32_768  # bytes of an input
SECONDS, MEGABYTES = 60, 4096  # that one input may take here


def target() -> Any:
    """What is called with every input."""
    from omnilmm.archive import read_conversation
    from omnilmm.errors import InputError
    from omnilmm.images.pixels import open_picture

    def read(data: bytes) -> None:
        try:
            read_conversation(data) if data[:1] in (b"{", b"[") else open_picture(data)
        except InputError as error:
            if "\n" in str(error):
                raise

    return read


def write_seeds(folder: Path) -> int:
    """Small files of the corpus and a conversation, from which is begun; how many those are."""
    from omnilmm.archive import to_json
    from omnilmm.conversation import Conversation
    from omnilmm.images.pixels import open_picture
    from tests.images import corpus

    picture = open_picture(corpus.saved(corpus.drawing(), "PNG"))
    talk = Conversation(system="简短").with_message("user", picture, "什么？").with_message("assistant", "Noise.")
    contents = [to_json(talk).encode(), *(make() for _, make in corpus.files())]
    small = [content for content in contents if 0 < len(content) <= LARGEST]
    for number, content in enumerate(small):
        (folder / f"{number:04d}").write_bytes(content)
    return len(small)


def main() -> int:
    """Fuzz for the time that is given; atheris ends the program when it has found something."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--minutes", type=float, default=10, help="(default: %(default)s)")
    minutes = flags.parse_args().minutes
    if find_spec("atheris") is None:
        print("No fuzzing guided by coverage: atheris is not installed (pip install atheris; Linux).")
        return 2
    os.environ |= {"OMNILMM_PICTURE_PROCESSES": "0", "OMNILMM_PICTURE_MEGAPIXELS": "1"}
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["PIL", "omnilmm"]):
        read = target()
    with tempfile.TemporaryDirectory() as folder:
        print(f"{write_seeds(Path(folder))} inputs to begin with", flush=True)
        limits = f"-max_len={LARGEST}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}"
        kept = f"-artifact_prefix={tempfile.gettempdir()}/omnilmm-fuzz-"
        arguments = [f"-max_total_time={minutes * 60:.0f}", *limits, kept, "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *arguments, folder], read)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
