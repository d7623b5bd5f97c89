"""Create the folder of a Hugging Face Space.

    python -m deploy.space build/space [--page gradio|streamlit] [--hardware cpu-basic]
    hf upload NAME/SPACE build/space . --repo-type space

The Gradio page becomes a Gradio Space, the Streamlit page a Docker Space, each with only the files it needs;
`docs/spaces.md` explains how to configure the model.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from omnilmm.catalog import ROOT, cards

DEPLOY = Path(__file__).parent
SHARED = ("omnilmm", "configs", "assets", "LICENSE")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")
PORT = 7860  # port that a Docker Space exposes


@dataclass(frozen=True)
class Page:
    """A page that can be deployed as a Space.

    Attributes:
        program: script to run.
        files: files it needs besides `SHARED`.
        library: UI library, which the other page does not need.
        sdk: front matter keys that define how the Space runs.
    """

    program: str
    files: tuple[str, ...]
    library: str
    sdk: dict[str, str | int]


def pages() -> dict[str, Page]:
    """Return both pages by the name of their UI library."""
    gradio: dict[str, str | int] = {
        "sdk": "gradio",
        "sdk_version": pins()["gradio"],
        "app_file": "web_demo.py",
        "python_version": "3.11",
    }
    docker: dict[str, str | int] = {"sdk": "docker", "app_port": PORT}
    return {
        "gradio": Page("web_demo.py", (), "gradio", gradio),
        "streamlit": Page("web_demo_streamlit.py", (".streamlit",), "streamlit", docker),
    }


def pins() -> dict[str, str]:
    """Return the exact version of each package in the last full test run, from `constraints.txt`."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.lower().split("==") for line in lines if "==" in line and not line.startswith("#"))


def requirements(page: Page) -> str:
    """Return the requirements.txt of a page, pinned to the tested versions where known."""
    others = {other.library for other in pages().values()} - {page.library}
    versions = pins()
    lines = []
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        name = re.split(r"[<>=\[ ]", line, maxsplit=1)[0]
        if name and not name.startswith("#") and name not in others:
            lines.append(f"{name}=={versions[name]}" if name in versions else line)
    return "\n".join(lines) + "\n"


def readme(page: Page, hardware: str) -> str:
    """Return the README.md of the Space: front matter for the hub, then the description."""
    front = {
        "title": "OmniLMM Chat",
        "emoji": "🔎",
        "colorFrom": "green",
        "colorTo": "gray",
        **page.sdk,
        "suggested_hardware": hardware,
        "license": "apache-2.0",
        "short_description": "Talk about pictures with open MiniCPM-V models",
        "models": sorted({card.source for card in cards().values() if not Path(card.location).is_dir()}),
    }
    text = (DEPLOY / "space.md").read_text(encoding="utf-8")
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n{text}"


def write(folder: Path, page: Page, hardware: str) -> None:
    """Write the files of a Space.

    Args:
        folder: target folder; it must not exist yet, or be empty.
        page: page to deploy.
        hardware: hardware that is suggested to users who duplicate the Space.

    Raises:
        FileExistsError: The folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: name another folder, or delete it first")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*SHARED, page.program, *page.files):
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=LEFT_OUT)
        else:
            shutil.copy2(source, target)
    (folder / "requirements.txt").write_text(requirements(page), encoding="utf-8")
    (folder / "README.md").write_text(readme(page, hardware), encoding="utf-8")
    if page.sdk["sdk"] == "docker":
        shutil.copy2(DEPLOY / "Dockerfile", folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a Space and print the upload command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.space", description="Write a Hugging Face Space.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--page", choices=tuple(pages()), default="gradio")
    parser.add_argument("--hardware", default="cpu-basic", help="suggested hardware (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        write(given.folder, pages()[given.page], given.hardware)
    except OSError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    sys.stdout.write(f"Written. Next: hf upload NAME/SPACE {given.folder} . --repo-type space\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
