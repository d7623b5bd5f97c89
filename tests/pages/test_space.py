"""The folder that `make space` writes, as a Space: alone in it, with the variables that the service sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser

from deploy.space import main, pages
from omnilmm.ui.flags import flags_of_environment
from tests.pages.visitor import SAMPLES, Visitor
from tests.space import said, started

SECONDS = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def write(page: str) -> Path:
        target = tmp_path_factory.mktemp(page) / "space"
        assert main([str(target), "--page", page]) == 0
        return target

    return write


@pytest.mark.parametrize("page", ["gradio", "streamlit"])
def test_a_space_gets_what_its_page_needs_and_no_more(folder: Callable[[str], Path], page: str) -> None:
    space, other = folder(page), {"gradio": "streamlit", "streamlit": "gradio"}[page]
    assert (space / pages()[page].program).is_file() and not (space / pages()[other].program).exists()
    required = (space / "requirements.txt").read_text().split()
    assert any(line.startswith(f"{page}==") for line in required)
    assert not any(line.startswith(other) for line in required)
    assert all("==" in line or "," in line for line in required)
    for unwanted in ("tests", "built_in", "benchmarks", ".git"):
        assert not (space / unwanted).exists()
    assert not list(space.rglob("__pycache__"))


def test_the_front_matter_is_what_the_service_reads(folder: Callable[[str], Path]) -> None:
    _, front, text = (folder("gradio") / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["sdk"] == "gradio" and card["app_file"] == "web_demo.py" and card["python_version"] == "3.11"
    assert card["suggested_hardware"] == "cpu-basic" and len(card["short_description"]) <= 60
    assert "openbmb/MiniCPM-V-2_6" in card["models"] and not any("assets" in model for model in card["models"])
    assert "OMNILMM_FLAGS" in text
    streamlit = folder("streamlit")
    card = yaml.safe_load((streamlit / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1])
    assert card["sdk"] == "docker"
    assert f"EXPOSE {card['app_port']}" in (streamlit / "Dockerfile").read_text()
    assert (streamlit / ".streamlit" / "config.toml").is_file()


def test_what_is_there_already_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("precious")
    assert main([str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_flags_come_from_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNILMM_FLAGS", "--model minicpm-v-2.6 --auth 'anna:a secret'")
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert flags_of_environment() == ["--model", "minicpm-v-2.6", "--auth", "anna:a secret"]
    monkeypatch.setenv("SPACE_ID", "somebody/chat")
    *serving, model, name, auth, account = flags_of_environment()
    assert serving == ["--host", "0.0.0.0", "--port", "7860"]  # noqa: S104
    assert (model, name, auth, account) == ("--model", "minicpm-v-2.6", "--auth", "anna:a secret")


def test_the_gradio_space_answers(folder: Callable[[str], Path], browser: Browser) -> None:
    with started(folder("gradio"), "web_demo.py") as server:
        port = said(server, r"http://[^ ]+:\d+").rpartition(":")[2]
        said(server, r" on (cpu|cuda|mps) \(")
        with browser.new_context() as context:
            visitor = Visitor.arrives(context, f"http://127.0.0.1:{port}")
            visitor.sample("circle")
            assert visitor.answered() == SAMPLES["circle"].answer


def test_a_wrong_variable_is_one_line(folder: Callable[[str], Path]) -> None:
    with started(folder("gradio"), "web_demo.py", OMNILMM_FLAGS="--auth 'half") as server:
        assert server.stdout
        output = server.stdout.read()
        assert server.wait(SECONDS) == 2
    assert len(output.splitlines()) == 1 and "OMNILMM_FLAGS cannot be read" in output


def test_a_model_that_does_not_fit_leaves_the_built_in_one(folder: Callable[[str], Path]) -> None:
    """OmniLMM-12B in fp32 is 46 GiB, which no test machine is asked to have: a limit of the container stands in."""
    flags = "--port 0 --model omnilmm-12b --dtype fp32"
    space = folder("gradio")
    (space / "sitecustomize.py").write_text(
        "import psutil, types\npsutil.virtual_memory = lambda: types.SimpleNamespace(available=2**31)\n"
    )
    with started(space, "web_demo.py", OMNILMM_FLAGS=flags, PYTHONPATH=str(space)) as server:
        assert "OmniLMM-12B does not fit on this hardware" in said(server, r".*does not fit on this hardware.*")
