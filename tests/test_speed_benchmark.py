"""The benchmark of speed compares like with like, and its tables come out; no figure is checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import limits, measured, published, speed
from omnilmm.engine.events import Finished
from omnilmm.engine.options import Sampling

SHAPES = ("minicpm-v-2", "minicpm-llama3-v-2.5", "minicpm-v-2.6", "omnilmm-12b")


@pytest.mark.parametrize("as_published", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_baselines_say_what_we_say(shape: str, as_published: bool) -> None:
    """Slice by slice and eager, or with generate as it comes: the same tokens, so the same work."""
    engine = speed.engine_for(shape, "cpu", "fp32", tiny=True)
    question = measured.Bench(engine, repeats=1, new_tokens=6).question
    options = Sampling(seed=0, max_new_tokens=6)
    *_, ours = engine.stream(question, options)
    theirs = published.answer(engine, question, options, as_published=as_published)
    assert isinstance(ours, Finished)
    assert engine.processor.tokenizer.decode(theirs.ids, clean_up_tokenization_spaces=False) == ours.text
    assert len(theirs.ids) == 6
    assert 0 < theirs.first_token_s <= theirs.total_s


def test_eager_is_set_while_it_is_measured_and_no_longer() -> None:
    model = speed.engine_for("minicpm-v-2.6", "cpu", "fp32", tiny=True).model
    before = model.llm.config._attn_implementation
    with published.attention(model, "eager"):
        assert model.llm.config._attn_implementation == model.vpm.config._attn_implementation == "eager"
    assert model.llm.config._attn_implementation == before != "eager"


def test_a_token_reads_the_language_model_without_its_table_of_embeddings() -> None:
    engine = speed.engine_for("minicpm-v-2.6", "cpu", "fp32", tiny=True)
    llm = engine.model.llm
    table = llm.get_input_embeddings().weight.nbytes
    assert measured.Bench(engine, 1, 1)._bytes_per_token() == sum(p.nbytes for p in llm.parameters()) - table


def test_limits_are_above_zero() -> None:
    cpu = torch.device("cpu")
    assert limits.bytes_per_s(cpu) > 0 and limits.operations_per_s(cpu, torch.float32) > 0


def test_the_table_the_figures_and_the_plot_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, drawn, results = tmp_path / "speed.json", tmp_path / "turns.png", tmp_path / "RESULTS.md"
    results.write_text("# Measured\n")
    flags = ["--model", "minicpm-v-2.6", "--tiny", "--repeats", "1", "--new-tokens", "4", "--turns", "12"]
    assert speed.main([*flags, "--json", str(kept), "--plot", str(drawn), "--write", str(results)]) == 0
    printed = capsys.readouterr().out
    figures = json.loads(kept.read_text())
    assert len(figures["rows"]) == 11
    assert set(figures["first_token_s"]) == {"ours", "as published"}
    assert all(len(seconds) == measured.TURNS for seconds in figures["first_token_s"].values())
    for row in figures["rows"]:
        assert row["what"] in printed and row["what"] in results.read_text()
    assert "Scaled down" in printed and "--tiny" in figures["head"] and "torch" in figures["head"]
    assert drawn.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(["--device", "cuda"]) == 2
    assert "no CUDA GPU" in capsys.readouterr().err
