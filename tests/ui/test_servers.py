"""What the pages and the flags make of a model on a server."""

from __future__ import annotations

import argparse
import io

import pytest

from omnilmm.engine.choosing import ListedModel
from omnilmm.engine.events import Finished, Progress, Timings, Usage
from omnilmm.engine.remote.client import Endpoint
from omnilmm.engine.remote.dialects import LLAMA_CPP, OLLAMA, OMNILMM, VLLM, Dialect
from omnilmm.engine.remote.engine import RemoteEngine
from omnilmm.engine.remote.models import RemoteModel, card_of
from omnilmm.engine.servers import ServedModel
from omnilmm.errors import OptionsError
from omnilmm.ui import model_lines
from omnilmm.ui.controls import mode_controls, modes_of
from omnilmm.ui.flag_values import check_for_server, engine_keys
from omnilmm.ui.flags import add_loading_flags
from omnilmm.ui.listing import write_served
from omnilmm.ui.note import Note
from omnilmm.ui.texts import CODES, texts_in

URL = "http://127.0.0.1:8080/v1"


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_loading_flags(parser)
    return parser.parse_args([f"--engine-url={URL}", *flags])


@pytest.mark.parametrize(
    ("dialect", "modes", "hidden"),
    [
        (OMNILMM, {"sampling", "greedy", "beam"}, set()),
        (VLLM, {"sampling", "greedy", "beam"}, {"beam.repetition_penalty"}),
        (LLAMA_CPP, {"sampling", "greedy"}, {"beam"}),
        (
            OLLAMA,
            {"sampling", "greedy"},
            {"sampling.top_k", "sampling.repetition_penalty", "greedy.repetition_penalty"},
        ),
    ],
)
def test_controls_without_effect_are_not_shown(dialect: Dialect, modes: set[str], hidden: set[str]) -> None:
    card = card_of("a model", dialect)
    assert set(modes_of(card)) == modes
    controls = {f"{mode}.{one.name}": one.is_shown for mode in modes_of(card) for one in mode_controls(card, mode)}
    assert {name for name, is_shown in controls.items() if not is_shown} == hidden - {"beam"}


def test_flags_that_have_no_effect_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_for_server(parsed("--model", "m"))
    with pytest.raises(OptionsError, match="--device, --offline, --feature-cache"):
        check_for_server(parsed("--device", "cpu", "--feature-cache", "1", "--offline"))
    monkeypatch.setenv("OPENAI_API_KEY", "of the environment")
    assert engine_keys(parsed()) == ["of the environment"]
    assert engine_keys(parsed("--engine-key", "given")) == ["given"]
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert engine_keys(parsed()) == []


@pytest.mark.parametrize("code", CODES)
def test_the_lines_about_it(code: str) -> None:
    texts = texts_in(code)  # type: ignore[arg-type]
    engine = RemoteEngine(URL, "m", "secret", dialect=LLAMA_CPP)
    line = texts.model_line(engine)
    assert "m" in line and "127.0.0.1:8080" in line and "llama.cpp" in line and "(, " not in line
    assert "secret" not in line + repr(engine.client.endpoint)
    about = texts.about(engine.card)
    assert "32768" not in about and not about.endswith(("·", "· "))
    known = texts.about(card_of("m", LLAMA_CPP, context=4096))
    assert "4096" in known
    entry = ListedModel(engine.card, None, True, server="127.0.0.1:8080")
    assert model_lines.facts(entry, texts) == texts.on_server.format(server="127.0.0.1:8080")
    assert texts.note(Note(Progress("busy"))) == texts.server_busy
    finished = Finished("x", "end", Usage(1, 0, 1), Timings(0, 0, 0), without_effect=("top_k", "seed"))
    assert texts.comma.join([texts.labels["top_k"], texts.labels["seed"]]) in texts.note(Note(finished))


def test_the_models_of_a_server_in_the_terminal() -> None:
    out = io.StringIO()
    model = RemoteModel("m", Endpoint.of("http://me:word@host/v1", "key"), LLAMA_CPP, 4096, pictures=False)
    write_served([ServedModel("m", model)], out)
    assert out.getvalue() == "m: http://host/v1 (llama.cpp), 4096 tokens of context, text only\n"
