"""The cut of the repository: imports point one way, and what needs no torch does not load it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from string import Formatter

import pytest

from omnilmm import errors
from omnilmm.errors import OmniLMMError
from omnilmm.sentences import words_of
from tests.sources import BUILDING, MODULES, PACKAGE, ROOT, imported, name_of

PAGES = ("web_demo", "web_demo_streamlit")
PROGRAMS = ("chat", *PAGES)
HEAVY = ("torch", "transformers", "gradio", "streamlit")

# From the bottom up: a part may use itself and what stands before it.
LAYERS = (
    "sentences",
    "errors",
    "processes",
    "conversation",
    "checkpoint_json",
    "formats",
    "gguf_header",
    "versions",
    "hub_cache",
    "adapter_files",
    "catalog",
    "model_lookup",
    "hardware",
    "hub_space",
    "network",
    "images",
    "archive",
    "prompts",
    "models",
    "engine",
    "batch",
    "chat",
    "live",
    "ui",
    "api",
    "evaluation",
    "training",
    "export",
)
# The same within the engine.
ENGINE = (
    "options",
    "text",
    "thoughts",
    "events",
    "picture_slices",
    "context",
    "checking",
    "change",
    "placement",
    "caches",
    "scheduler",
    "fetching",
    "load_errors",
    "runnable",
    "adapters",
    "preflight",
    "speed",
    "backends",
    "generation",
    "answer",
    "local",
    "remote",
    "llamacpp",
    "choosing",
    "loading",
    "provider",
    "servers",
    "spaces",
)
BASE = {
    "__version__",
    "sentences",
    "errors",
    "conversation",
    "versions",
    "adapter_files",
    "catalog",
    "model_lookup",
    "hardware",
    "hub_space",
    "network",
}
BUILT_IN = BASE | {"images", "prompts", "models", "engine.loading", "evaluation.metrics"}
# No tensors: of the engine only what is said, how it is asked, and how far its loading is.
UI = BASE | {
    "archive",
    "images",
    "live",
    "ui",
    "engine.change",
    "engine.choosing",
    "engine.events",
    "engine.options",
    "engine.provider",
    "engine.servers",
    "engine.spaces.fallback",
}


# What is said in words; `errors` makes sentences of codes that it is given.
SPEAKING = [
    *(path for path in MODULES if path != PACKAGE / "errors.py"),
    *BUILDING,
    *(ROOT / f"{p}.py" for p in PROGRAMS),
]
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, OmniLMMError)}
ERRORS |= {"HubError"}  # those that stand elsewhere
ENGLISH = words_of("en", "terminal")
CHINESE = re.compile("[\u4e00-\u9fff]")


def parts_used(path: Path) -> set[str]:
    """What a file imports of the package, without its name."""
    return {name.removeprefix("omnilmm.") for name in imported(path) if name.startswith("omnilmm.")}


def libraries_used(path: Path) -> set[str]:
    """Top-level names of what a file imports."""
    return {name.split(".")[0] for name in imported(path)}


def within(name: str, allowed: set[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in allowed)


def allowed_in(path: Path) -> set[str]:
    part, *rest = path.relative_to(PACKAGE).with_suffix("").parts
    if part == "__init__":
        return {"models.auto"}  # registers, once transformers is there
    if part == "ui":
        return UI
    if part == "api":
        return UI | {"api"}
    if part == "engine" and rest != ["__init__"]:
        return {*until("models", LAYERS), *(f"engine.{name}" for name in until(rest[0], ENGINE))}
    return {"__version__", *until(part, LAYERS)}


def until(part: str, order: tuple[str, ...]) -> tuple[str, ...]:
    """The parts up to this one."""
    assert part in order, f"{part} has no place in the order of the layers"
    return order[: order.index(part) + 1]


def test_imports_point_one_way() -> None:
    wrong = [
        (name_of(path), name) for path in MODULES for name in parts_used(path) if not within(name, allowed_in(path))
    ]
    assert not wrong


def test_no_imports_run_in_a_circle() -> None:
    names = {name_of(path) for path in MODULES}
    graph = {}
    for path in MODULES:
        used = {name if name in names else name.rpartition(".")[0] for name in imported(path)}
        graph[name_of(path)] = used & names - {name_of(path)}
    # Whoever imports a module runs its folder's `__init__` first; within the folder it is already running.
    for module, used in graph.items():
        folders = {folder for name in used if (folder := name.rpartition(".")[0]) in names}
        used |= {folder for folder in folders if not module.startswith(f"{folder}.")} - {module}
    tuple(TopologicalSorter(graph).static_order())  # else CycleError, which names the circle


def test_how_the_built_in_model_is_made_stands_apart() -> None:
    """Nobody needs it, and it measures a checkpoint as the product loads it."""
    assert not [name_of(path) for path in MODULES if "built_in" in libraries_used(path)]
    assert not [(name_of(path), name) for path in BUILDING for name in parts_used(path) if not within(name, BUILT_IN)]


def test_the_package_imports_no_file_of_the_top() -> None:
    top = {file.stem for file in ROOT.glob("*.py")} | {"tests", "benchmarks", "built_in"}
    assert not [name_of(path) for path in MODULES if libraries_used(path) & top]


def test_what_pages_share_has_no_tensors() -> None:
    pages = (PACKAGE / "ui").rglob("*.py")
    assert not [name_of(path) for path in pages if libraries_used(path) & {"torch", "transformers"}]


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_are_there(program: str) -> None:
    assert (ROOT / f"{program}.py").is_file()


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_have_no_tensors(program: str) -> None:
    libraries = libraries_used(ROOT / f"{program}.py")
    assert not libraries & {"torch", "transformers"}
    assert not any(within(name, {"models"}) for name in parts_used(ROOT / f"{program}.py"))
    assert "built_in" not in libraries
    others = {"chat": PAGES, "web_demo": ("web_demo_streamlit",), "web_demo_streamlit": ("web_demo",)}[program]
    assert not libraries & set(others)


def gaps(words: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(words) if name}


def said_in(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Everything that a file says: where, and the call that makes the sentence or the error."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ERRORS | {"Sentence"}:
            yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_errors_that_stand_elsewhere_are_known_here() -> None:
    classes = (n for path in SPEAKING for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef))
    assert {kind.name for kind in classes if ERRORS & {ast.unparse(base) for base in kind.bases}} <= ERRORS


def codes_of(call: ast.Call) -> list[object]:
    """The code that is given, or the two of which one is; something that is no code where it cannot be read."""
    given = call.args[0] if len(call.args) == 1 else None
    parts = [given.body, given.orelse] if isinstance(given, ast.IfExp) else [given]
    return [part.value if isinstance(part, ast.Constant) else None for part in parts]


def test_every_error_and_sentence_is_of_a_code_with_its_parameters() -> None:
    """A bare sentence in its place is the commonest mistake: it would be English on every page."""
    for place, call in (found for path in SPEAKING for found in said_in(path)):
        for code in codes_of(call):
            assert code in ENGLISH, f"{place}: expected a code of omnilmm/sentences/en.yaml, got {ast.unparse(call)}"
            wanted = gaps(ENGLISH[code]) | gaps(words_of("en", "page")[code])
            assert {keyword.arg for keyword in call.keywords} == wanted, f"{place}: {code} has {wanted}"


def test_every_code_is_used() -> None:
    assert set(ENGLISH) == {code for path in SPEAKING for _, call in said_in(path) for code in codes_of(call)}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_code_is_there_twice(language: str) -> None:
    """YAML would take the last of them in silence."""
    codes = re.findall(r"^  (\w+):", (PACKAGE / "sentences" / f"{language}.yaml").read_text(encoding="utf-8"), re.M)
    assert len(codes) == len(set(codes)) >= len(ENGLISH)


def test_both_languages_have_the_same_codes_and_parameters() -> None:
    english, chinese = words_of("en", "page"), words_of("zh", "page")
    assert set(english) == set(chinese) == set(ENGLISH)
    for code, words in english.items():
        assert gaps(words) == gaps(chinese[code]), code
        assert re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", code)
        assert CHINESE.search(chinese[code]) or not re.search("[a-z]", re.sub(r"{.*?}", "", words)), code
        for part in (words, ENGLISH[code], chinese[code]):
            assert "  " not in part and part == part.strip()


def test_what_a_page_needs_at_its_start_loads_nothing_heavy() -> None:
    """One after the other in one process, so that the first culprit is named."""
    light = (
        "engine.context",
        "engine.events",
        "engine.options",
        "engine.caches.prefix",
        "engine.provider",
        "engine.spaces.fallback",
        "engine.text",
        "engine.scheduler",
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
    modules = [name_of(path) for path in [*MODULES, *BUILDING] if path.stem != "__main__"]
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
