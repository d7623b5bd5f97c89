"""The wheel works from any folder, and declares what its code imports."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import httpx
import pytest

from omnilmm import __version__
from omnilmm.catalog import cards
from omnilmm.ui.texts import ENGLISH
from tests.programs import environment_with_these_libraries
from tests.streamlit_pages.stranger import come
from tests.test_structure import MODULES, libraries_used

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ASSETS = ROOT / "assets"
DOORS = [ROOT / name for name in ("chat.py", "web_demo.py", "web_demo_streamlit.py")]
EXTRAS = PROJECT["optional-dependencies"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the programs of the installed wheel."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("*.whl")
    home = environment_with_these_libraries(folder / "home")
    subprocess.run([*pip, "--python", str(home / "python"), "install", "--no-deps", str(wheel)], check=True)
    return home


def run(programs: Path, folder: Path, *command: str) -> str:
    """What an installed program prints in a folder that is not the repository."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [programs / command[0], *command[1:]],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def served(programs: Path, folder: Path, name: str) -> Iterator[str]:
    """All that a page prints until its model has been loaded."""
    command = [programs / name, "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as page:
        said = ""
        try:
            assert page.stdout
            for line in page.stdout:
                said += line
                if " on cpu" in line or " on cuda" in line or " on mps" in line:
                    break
            yield said
        finally:
            page.terminate()


def test_the_installed_programs_work_from_any_folder(programs: Path, tmp_path: Path) -> None:
    assert run(programs, tmp_path, "omnilmm", "--version") == f"OmniLMM Chat {__version__}\n"
    listing = run(programs, tmp_path, "omnilmm", "--list-models")
    assert all(name in listing for name in cards())
    where = run(programs, tmp_path, "python", "-c", "from omnilmm.catalog import ROOT; print(ROOT)").strip()
    assert not Path(where).is_relative_to(ROOT)
    circle = str(Path(where) / "assets" / "samples" / "circle.png")
    assert run(programs, tmp_path, "omnilmm", "--image", circle, "What colour is the circle?") == "The circle is red.\n"
    for page, check in (("omnilmm-web", check_gradio), ("omnilmm-streamlit", check_streamlit)):
        with served(programs, tmp_path, page) as said:
            address = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert address, said
            check(address[0])
    assert list(tmp_path.iterdir()) == []


def check_gradio(address: str) -> None:
    """The page comes with what it needs of `assets/`, such as its script and its icon."""
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as web:
        page, icon = (web.get(path) for path in ("/", "/favicon.ico"))
    assert page.status_code == icon.status_code == 200
    assert ENGLISH.title in page.text and "Browser side of web_demo.py" in page.text  # the first line of page.js
    assert icon.content == (ASSETS / "icon.png").read_bytes()


def check_streamlit(address: str) -> None:
    """The same, of its style and its sample pictures, which Streamlit sends once the page has been drawn."""
    with come(address) as visitor:
        assert visitor.web.get("/").status_code == 200
        style = (ASSETS / "streamlit.css").read_text(encoding="utf-8")
        assert any(style in text for text in visitor.html())
        pictures = [visitor.web.get(path) for path in visitor.media()]
    assert {picture.status_code for picture in pictures} == {200}
    assert {picture.content for picture in pictures} == {
        path.read_bytes() for path in (ASSETS / "samples").glob("*.png")
    }


@pytest.mark.parametrize(
    ("program", "package", "extra"),
    [
        ("web_demo", "gradio", "gradio"),
        ("web_demo_streamlit", "streamlit", "streamlit"),
        ("omnilmm.api.__main__", "uvicorn", "api"),
    ],
)
def test_a_program_without_its_library_is_one_line_with_the_command(program: str, package: str, extra: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from {program} import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"pip install 'omnilmm-chat[{extra}]'" in done.stderr and len(done.stderr.splitlines()) == 1


def distributions(requirements: list[str]) -> set[str]:
    """Names of what is required, as pip normalises them."""
    return {re.split(r"[<>=\[ ]", one)[0].lower().replace("_", "-") for one in requirements}


libraries = cache(packages_distributions)


def named(library: str) -> set[str]:
    """The distributions that a library comes from."""
    return {name.lower().replace("_", "-") for name in libraries().get(library, [library])}


def test_what_is_imported_is_declared() -> None:
    declared = distributions([*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)])
    own = {"omnilmm", "chat", "web_demo", "web_demo_streamlit"}
    optional = {"spaces", "pocketsphinx"}  # of ZeroGPU; named in a flag by whoever has installed it
    for path in [*MODULES, *DOORS]:
        for library in libraries_used(path) - set(sys.stdlib_module_names) - own - optional:
            assert named(library) & declared, f"{path.name} imports {library}, which pyproject.toml does not declare"


# What is imported together with the extra that brings its libraries; all else does with the core until it is called.
EXTRA_OF = {
    "omnilmm/ui/gradio_page/": "gradio",
    "omnilmm/ui/streamlit_page/": "streamlit",
    "omnilmm/ui/hosts.py": "api",
    "omnilmm/ui/refusals.py": "api",
    "omnilmm/api/": "api",
    "omnilmm/export/": "gguf",
}


def imported_at_once(path: Path) -> set[str]:
    """Libraries that importing a file imports: what is in its functions, or for types alone, is left out."""
    found, left = set(), list(ast.parse(path.read_text(encoding="utf-8")).body)
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            left += node.orelse
        elif isinstance(node, ast.ClassDef | ast.If | ast.Try | ast.With):
            left += (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
    return found - set(sys.stdlib_module_names)


def test_the_core_does_without_the_libraries_of_the_extras() -> None:
    for path in [*MODULES, *DOORS]:
        place = path.relative_to(ROOT).as_posix()
        extra = next((extra for start, extra in EXTRA_OF.items() if place.startswith(start)), None)
        declared = distributions([*PROJECT["dependencies"], *EXTRAS.get(extra, [])])
        for library in imported_at_once(path) - {"omnilmm", "chat", "web_demo", "web_demo_streamlit"}:
            assert named(library) & declared, f"{place} imports {library} at once, which its extra does not bring"


def test_the_requirements_of_the_demos_are_those_of_the_project() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line for line in lines if line and not line.startswith("#")}
    extras = {
        one for name in ("gradio", "streamlit", "api", "quantization", "heif", "video", "live") for one in EXTRAS[name]
    }
    assert wanted == {*PROJECT["dependencies"], *extras}
    assert f"{EXTRAS['modelscope'][0]}" in (ROOT / "requirements-modelscope.txt").read_text(encoding="utf-8")
