"""The cut of the repository: imports point one way, and what needs no torch does not load it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "omnilmm"
PAGES = ("web_demo", "web_demo_streamlit")
PROGRAMS = ("chat", *PAGES)
HEAVY = ("torch", "transformers", "gradio", "streamlit")

# From the bottom up: a part may use itself and what stands before it.
LAYERS = (
    "errors",
    "conversation",
    "formats",
    "hub_cache",
    "catalog",
    "hardware",
    "network",
    "images",
    "prompts",
    "models",
    "engine",
    "ui",
)
BASE = {"__version__", "errors", "conversation", "catalog", "hardware", "network"}
# A checkpoint is measured as the product loads it.
TRAINING = BASE | {"images", "prompts", "models", "engine.loading"}
# No tensors: of the engine only what is said, how it is asked, and how far its loading is.
UI = BASE | {"images", "ui", "engine.change", "engine.choosing", "engine.events", "engine.options", "engine.provider"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Full names of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_used(path: Path) -> set[str]:
    """What a file imports of the package, without its name."""
    return {name.removeprefix("omnilmm.") for name in imported(path) if name.startswith("omnilmm.")}


def libraries_used(path: Path) -> set[str]:
    """Top-level names of what a file imports."""
    return {name.split(".")[0] for name in imported(path)}


def within(name: str, allowed: set[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in allowed)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    part = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if part == "__init__":
        allowed = {"models.auto"}  # registers, once transformers is there
    elif part == "training":
        allowed = TRAINING | {"training"}
    elif part == "ui":
        allowed = UI
    else:
        assert part in LAYERS, f"{part} has no place in the order of the layers"
        allowed = set(LAYERS[: LAYERS.index(part) + 1])
    wrong = sorted(name for name in parts_used(path) if not within(name, allowed))
    assert not wrong, f"{name_of(path)} may not import {', '.join(wrong)}"


@pytest.mark.parametrize("path", [path for path in MODULES if "training" not in path.parts], ids=name_of)
def test_nobody_needs_the_training(path: Path) -> None:
    assert not any(within(name, {"training"}) for name in parts_used(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_package_imports_no_file_of_the_top(path: Path) -> None:
    top = {file.stem for file in ROOT.glob("*.py")} | {"tests", "benchmarks"}
    assert not libraries_used(path) & top


@pytest.mark.parametrize("path", sorted((PACKAGE / "ui").rglob("*.py")), ids=name_of)
def test_what_pages_share_has_no_tensors(path: Path) -> None:
    assert not libraries_used(path) & {"torch", "transformers"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_are_there(program: str) -> None:
    assert (ROOT / f"{program}.py").is_file()


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_have_no_tensors(program: str) -> None:
    libraries = libraries_used(ROOT / f"{program}.py")
    assert not libraries & {"torch", "transformers"}
    assert not any(within(name, {"models", "training"}) for name in parts_used(ROOT / f"{program}.py"))
    others = {"chat": PAGES, "web_demo": ("web_demo_streamlit",), "web_demo_streamlit": ("web_demo",)}[program]
    assert not libraries & set(others)


def test_what_a_page_needs_at_its_start_loads_nothing_heavy() -> None:
    """One after the other in one process, so that the first culprit is named."""
    light = (
        "engine.context",
        "engine.events",
        "engine.options",
        "engine.prefix",
        "engine.provider",
        "engine.space",
        "engine.text",
        "engine.turns",
    )
    parts = (
        "catalog",
        "conversation",
        "errors",
        "hardware",
        "images.pixels",
        "images.slicing",
        "prompts.messages",
        *light,
    )
    shared = (name_of(path) for path in sorted((PACKAGE / "ui").glob("[a-z]*.py")))
    script = (
        "import importlib, sys\n"
        f"for name in {['omnilmm', *(f'omnilmm.{part}' for part in parts), *shared, *PROGRAMS]}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = set({HEAVY}) & set(sys.modules)\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
        "print('light')"
    )
    assert _run(script).strip() == "light"


def test_importing_everything_registers_the_models_and_touches_no_network() -> None:
    """Not even a lookup of a name; here transformers comes first, elsewhere `omnilmm` does."""
    modules = [name_of(path).removesuffix(".__init__") for path in MODULES if path.stem != "__main__"]
    script = (
        "import sys\n"
        "def refuse(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto'):\n"
        "        raise SystemExit(f'{event} {arguments}')\n"
        "sys.addaudithook(refuse)\n"
        f"import transformers, {', '.join(modules)}\n"
        "print(type(transformers.AutoConfig.for_model('minicpmv')).__module__)\n"
    )
    assert _run(script).strip() == "omnilmm.models.config"


def _run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
