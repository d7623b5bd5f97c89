"""Every command and every Python example of the README runs."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from omnilmm.catalog import BUILT_IN, cards

ROOT = Path(__file__).parents[1]
README = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README_zh.md"))
COMMANDS = dict.fromkeys(  # each once: the Chinese page repeats the English one's
    line.partition(" #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
)
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SERVERS = ("make demo", "python web_demo", "streamlit run")


def test_the_readme_has_its_two_commands_and_an_example() -> None:
    assert {"make demo", "make test"} <= set(COMMANDS)
    assert EXAMPLES


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(SERVERS)])
def test_servers_start_and_say_where(command: str) -> None:
    environment = os.environ | {"BROWSER": "true", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with subprocess.Popen(
        shlex.split(command), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        try:
            assert program.stdout
            assert any("http://127.0.0.1:" in line for line in program.stdout), f"{command} ended without an address"
        finally:
            os.killpg(program.pid, signal.SIGTERM)


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith(SERVERS)])
def test_commands_run(command: str) -> None:
    if command == "make test":
        command = "make --dry-run test"  # this very run
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        shlex.split(command),
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("example", EXAMPLES)
def test_python_examples_run(example: str) -> None:
    done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("page", ["README.md", "README_zh.md"])
def test_the_memory_of_every_model_is_the_catalogs(page: str) -> None:
    rows = [line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for card in cards().values():
        (row,) = (row for row in rows if f"`{card.name}`" in row.split("|")[1])
        half, *quantised = (card.memory_gib.get(dtype) for dtype in ("bf16", "int8", "int4"))
        if card.name != BUILT_IN and card.memory_gib:
            assert " · ".join(f"{gib:g}" if gib else "–" for gib in (half, *quantised)) in row
        if card.parameters and page == "README.md":
            assert f"{card.parameters / 1e9:.1f} B" in row or f"{card.parameters / 1e6:.1f} M" in row
