"""Benchmarks are data: prompts, decoding and published figures, each with its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnilmm.catalog import cards
from omnilmm.conversation import Conversation
from omnilmm.engine.options import BeamSearch, Greedy, Sampling
from omnilmm.evaluation.metrics import metric_of
from omnilmm.evaluation.metrics.base import Asked, Mark
from omnilmm.evaluation.metrics.chair import Objects
from omnilmm.evaluation.rows import Row
from omnilmm.evaluation.settings import PLAIN, Benchmark, Setting, benchmark_for, benchmarks
from omnilmm.model_lookup import find

ROW = Row(Asked("1", ("B",), {"A": "x {question}", "B": "y"}), "Which {hint}?", hint="look")
PUBLISHED = {"omnilmm-12b": 8, "minicpm-v-1": 14, "minicpm-v-2": 13, "minicpm-llama3-v-2.5": 11}


@pytest.mark.parametrize("benchmark", benchmarks().values(), ids=benchmarks())
def test_every_line_has_its_source_and_options_that_work(benchmark: Benchmark) -> None:
    models = cards()
    assert {*benchmark.settings, *benchmark.published} - {PLAIN, "choice", "choice-circular"} <= set(models)
    for name, setting in benchmark.settings.items():
        assert setting.source and setting.because and "{question}" in setting.text
        assert setting.chosen(models.get(name, find("built-in")), None, {})
    assert all(published.source and published.figure > 0 for published in benchmark.published.values())
    assert not any(setting.same for name, setting in benchmark.settings.items() if name not in models)


def test_what_the_makers_published_is_there() -> None:
    for model, least in PUBLISHED.items():
        assert sum(model in benchmark.published for benchmark in benchmarks().values()) >= least, model
    assert benchmarks()["mme"].published["minicpm-v-2"].figure == 1808.6
    assert benchmarks()["ocrbench"].scale * 72.5 == benchmarks()["ocrbench"].published["minicpm-llama3-v-2.5"].figure


def test_a_published_figure_says_what_it_is() -> None:
    asked = [(Asked("1", ("a",), objects=("a",)), Mark(1.0))]
    for benchmark in benchmarks().values():
        for published in benchmark.published.values():
            if published.of and benchmark.metric:
                metric = metric_of(benchmark.metric, Objects({"a": "a"}))
                assert published.of in [one.name for one in metric.measure(asked)], benchmark.name
    halbench = benchmarks()["object-halbench"].published["omnilmm-12b"]
    assert (halbench.of, halbench.value) == ("CHAIRs", 9.7)  # 90.3 is the share without hallucination
    assert {one.split for one in benchmarks()["mmmu"].published.values()} == {"validation"}


def test_a_benchmark_is_known_by_its_file_and_any_other_file_is_ones_own() -> None:
    assert benchmark_for(Path("x/mmbench_dev_en.tsv"), "choice").name == "mmbench-en"
    own = benchmark_for(Path("mine.tsv"), "choice-circular")
    assert own.title == "mine.tsv" and "Please select" in own.setting(find("built-in")).text
    assert "Please select" not in benchmark_for(Path("mine.tsv"), "exact").setting(find("built-in")).text


def test_a_prompt_is_filled_in_once_and_cells_are_no_templates() -> None:
    setting = benchmarks()["mmbench-en"].setting(cards()["minicpm-llama3-v-2.5"])
    (message,) = setting.ask(ROW, Conversation()).messages
    before, text = message.parts
    assert isinstance(before, str) and before.startswith("Carefully read the following question")
    assert text == "Hint: look\nQuestion: Which {hint}?\nOptions:\nA. x {question}\nB. y\n"


def test_decoding_is_the_published_one_unless_told_otherwise() -> None:
    card = cards()["minicpm-llama3-v-2.5"]
    setting = benchmarks()["mme"].setting(card)
    assert setting.chosen(card, None, {}) == BeamSearch(3, 1.2, 1.0, 3)
    assert setting.chosen(card, None, {"max_new_tokens": 9}) == BeamSearch(3, 1.2, 1.0, 9)
    assert setting.chosen(card, "greedy", {}) == Greedy(card.sampling.repetition_penalty, card.max_new_tokens)
    with_adapter = card.model_copy(update={"name": f"{card.name} + runs/mine", "adapter": "runs/mine"})
    assert benchmarks()["mme"].setting(with_adapter) is setting
    published = benchmarks()["mme"].published_for(with_adapter)
    assert published is not None and published.figure == 2024.6
    assert isinstance(setting.chosen(card, "sampling", {"temperature": 0.5}), Sampling)
    assert Setting(source="s", because="b").text == "{hint}{question}"
