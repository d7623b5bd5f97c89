"""The READMEs: every command and example runs in order in a new shell on a fresh clone; both say the same.

What `python` runs has torch, transformers and Gradio imported before (`tests/preloaded.py`), for it is started many
times; an example that imports Transformers by itself is run by the interpreter itself.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnilmm.catalog import BUILT_IN, cards
from omnilmm.model_lookup import find
from tests.engine.local_hub import LocalHub, serving
from tests.models.tiny_library import save_library_model
from tests.preloaded import preloaded
from tests.programs import environment_with_these_libraries

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README_zh.md"))
SERVERS = ("make demo", "python web_demo", "python -m omnilmm.api", "streamlit run")
ANSWERS = " on (cpu|cuda|mps) "  # in the line of a model that is loaded
ADDRESS = "http://127.0.0.1:"
PATIENCE_S = 240  # for each server on a busy machine
SHELL = f"""
trap '[ -z "$server" ] || kill -TERM -- -$server; [ -z "$api" ] || kill $api' EXIT
serve() {{  # a pattern to wait for, and the command of a server
    local awaited=$1 end=$((SECONDS + {PATIENCE_S})); shift
    : >"$LOG"; setsid "$@" >"$LOG" 2>&1 & server=$!
    until grep -qE "$awaited" "$LOG" && grep -q {ADDRESS} "$LOG"; do
        kill -0 $server 2>/dev/null && [ $SECONDS -lt $end ] || {{ echo "not served: $*"; cat "$LOG"; exit 1; }}
        sleep 0.2
    done
    kill -TERM -- -$server; wait $server; server=
}}
beside() {{  # a server at the address that the next command names, and that command
    python -m omnilmm.api --port 8000 >/dev/null 2>&1 & api=$!
    until curl -s --noproxy '*' http://127.0.0.1:8000/health | grep -q ok; do kill -0 $api || exit 1; sleep 0.2; done
    serve "$@"; kill $api; wait $api; api=
}}
run() {{ "$@" </dev/null >"$LOG" 2>&1 || {{ echo "failed: $*"; cat "$LOG"; exit 1; }}; }}
example() {{
    "$@" </dev/null >"$LOG" 2>"$LOG.notes" && grep -q . "$LOG" || {{ echo "failed: $*"; cat "$LOG.notes"; exit 1; }}
}}
"""


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    """The lines of its shell blocks, without comments, in order."""
    lines = [line.partition(" #")[0].strip() for block in blocks(page, "bash") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone in which `make` finds everything installed: it takes the libraries of this very environment."""
    folder = tmp_path_factory.mktemp("clone")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    environment_with_these_libraries(folder / ".venv")
    for stamp in (".demo", ".dev"):
        (folder / ".venv" / stamp).touch()
    return folder


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """The models that the README names, as small ones of the same architecture under the same names."""
    small = {
        "minicpm-v-2.6": Path(find(BUILT_IN).location),
        "minicpm-v-4.6": save_library_model(tmp_path / "4.6", "minicpm-v-4.6"),
    }
    first, *others = (
        LocalHub({path.name: path.read_bytes() for path in folder.iterdir()}, source=find(name).source)
        for name, folder in small.items()
    )
    first.others = tuple(others)
    with serving(first):
        yield first


def environment(hub: LocalHub, home: Path) -> dict[str, str]:
    """Of a new shell: nothing of this test's environment is on its PATH."""
    mine = ("VIRTUAL_ENV", "PYTHONPATH", "HF_", "HUGGING", "MAKE", "MFLAGS", "FLAGS", "MODEL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    base = str(Path(sys._base_executable).parent)  # type: ignore[attr-defined]
    kept["PATH"] = ":".join([base, *(part for part in os.environ["PATH"].split(":") if ".venv" not in part)])
    return kept | {"BROWSER": "true", "HF_HOME": str(home), "HF_ENDPOINT": hub.endpoint, "NO_PROXY": "*"}


def run_example(example: str) -> str:
    """An example in Python as a line of the test's shell; each prints something."""
    python = "python-itself" if "from transformers " in example else "python"  # in its own order of imports
    return f"example {python} -c {shlex.quote(example)}"


def typed(command: str) -> str:
    """A line of the README as a line of the test's shell."""
    if command.startswith("source "):
        return command
    if command == "make test":
        return "run make --dry-run test"  # this very run
    if "|" in command:
        return f"run bash -c {shlex.quote(command)}"
    if not command.startswith(SERVERS):
        return f"run {command}"
    if "--engine-url" in command:
        return f"beside {ADDRESS} {command}"
    awaited = ADDRESS if command.startswith("streamlit run") else ANSWERS  # Streamlit's own command says no more
    return f"serve '{awaited}' {command}"


@pytest.mark.timeout(1500)
def test_every_command_and_example_runs_as_typed_in_order_with_the_libraries_imported_before(
    clone: Path, hub: LocalHub, tmp_path: Path
) -> None:
    """In two shells at once: what needs no environment of Python, and what begins with activating it.

    Each command has a process of its own. The libraries are imported before as the package has them: without telemetry.
    """
    lines = commands(ENGLISH)
    assert {"make demo", "make test"} <= set(lines)
    (activated,) = (number for number, line in enumerate(lines) if line.startswith("source "))
    assert not [line for line in lines[:activated] if line.startswith(("python", "streamlit"))]
    given = environment(hub, tmp_path)
    examples = [*map(run_example, blocks(ENGLISH, "python"))]
    assert len(examples) > 2 and any("python-itself" in example for example in examples)
    parts = {"make": [*map(typed, lines[:activated])], "python": [*map(typed, lines[activated:]), *examples]}
    with preloaded(clone / ".venv" / "bin", given | {"HF_HUB_DISABLE_TELEMETRY": "1"}):
        shells = [shell(clone, given | {"LOG": str(tmp_path / name)}, part) for name, part in parts.items()]
        outputs = [running.communicate()[0] for running in shells]
    assert [running.returncode for running in shells] == [0, 0], "\n".join(outputs)


def shell(clone: Path, given: dict[str, str], lines: list[str]) -> subprocess.Popen[str]:
    """A new shell in which these lines are typed."""
    return subprocess.Popen(
        ["bash", "-c", SHELL + "\n".join(lines)],
        cwd=clone,
        env=given,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_chinese_page_has_all_that_the_english_one_has() -> None:
    def outline(page: str) -> list[str]:
        """Levels of headings, tables by rows and columns, pictures and code in their order."""
        prose = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
        tables = [line.count("|") for line in prose.splitlines() if line.startswith("|")]
        headings = re.findall(r"^(#+) ", prose, re.MULTILINE)
        return [*headings, *map(str, tables), str(len(re.findall(r"^- ", prose, re.MULTILINE)))]

    assert outline(CHINESE) == outline(ENGLISH)
    assert commands(CHINESE) == commands(ENGLISH)
    code = [
        [re.sub(r" *#.*", "", block) for block in blocks(page, language)]
        for page in (ENGLISH, CHINESE)
        for language in ("python", "powershell", "console")
    ]
    assert code[:3] == code[3:]
    assert set(re.findall(r"`(--[\w-]+)`", CHINESE)) == set(re.findall(r"`(--[\w-]+)`", ENGLISH))


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_the_memory_of_every_model_is_the_catalogs(page: str) -> None:
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for card in cards().values():
        if card.family == "gguf":  # one row for all of them, with their memory by quantisation
            continue
        (row,) = (row for row in rows if f"`{card.name}`" in row.split("|")[1])
        half, *quantised = (card.memory_gib.get(dtype) for dtype in ("bf16", "int8", "int4"))
        if card.name != BUILT_IN and card.memory_gib:
            assert " · ".join(f"{gib:g}" if gib else "–" for gib in (half, *quantised)) in row
        if card.parameters and page == ENGLISH:
            assert f"{card.parameters / 1e9:.1f} B" in row or f"{card.parameters / 1e6:.1f} M" in row
