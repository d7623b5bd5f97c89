"""A chat template of somebody else: rendered as transformers does, with bounded time and memory, and never in here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from omnilmm.errors import CheckpointError
from omnilmm.prompts import template_pool
from omnilmm.prompts.template_pool import Renderer, render
from tests.prompts.test_chat_template import ALL_LISTS, LISTS, STRINGS

ROOT = Path(__file__).parents[2]
VARIABLES = {"add_generation_prompt": True, "enable_thinking": False, "eos_token": "</s>"}
MESSAGES = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": [{"type": "image", "image": "<Image>"}, {"type": "text", "text": "这是什么？ \ud800"}]},
]
SOUND = {
    "lists": LISTS,
    "all lists": ALL_LISTS,
    "strings": STRINGS.replace("m['content']", "m['content']|tojson"),
    "library": "{% set ns = namespace(a=dict(b=1)) %}{% for m in messages %}{% if loop.first %}"
    "{% continue %}{% endif %}{% generation %}{{ m|tojson(indent=2) }}{% endgeneration %}{% endfor %}{{ ns.a.b }}"
    "{{ eos_token }}{{ strftime_now('%%') }}{{ enable_thinking }}{{ tools is none }}\n\n",
}
ESCAPES = {
    "globals": "{{ cycler.__init__.__globals__.os.system('touch PROOF') }}",
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "attr": "{{ ''|attr('__class__') }}{{ lipsum.__globals__['os'].popen('touch PROOF').read() }}",
    "import": "{% import 'os' as os %}{{ os.system('touch PROOF') }}",
    "change": "{{ messages.clear() }}",
    "recursion": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "range": "{% for i in range(10000000000) %}x{% endfor %}",
}
ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "power": "{{ 7 ** (7 ** 9) }}",
}
FULL = {
    "times": "{{ 'a' * 10 ** 10 }}",
    "a filter": "{{ 'a'|center(10 ** 10) }}",
    "doubled": "{% set n = namespace(a='a' * 1000) %}{% for i in range(60) %}{% set n.a = n.a ~ n.a %}{% endfor %}",
    "appended": "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'a' * 10 ** 6 }}{% endfor %}{% endfor %}",
    "long": "{{ 'a' * 10 ** 7 }}",
}
MEASURED = """
import resource, sys
from omnilmm.errors import CheckpointError
from omnilmm.prompts.template_pool import _pool, render
render("", [], {})
_pool.end()
base = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
for template in sys.argv[1:]:
    try:
        raise SystemExit(len(render(template, [{"role": "user", "content": "a"}], {})))
    except CheckpointError as error:
        print(error.code)
_pool.end()
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
here = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print((children - base) // 1024, int(here.split()[1]) // 1024)
"""


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A renderer of this test alone."""
    pool = template_pool.Pool(Renderer)
    monkeypatch.setattr(template_pool, "_pool", pool)
    yield
    pool.end()


@pytest.mark.parametrize("where", ["0", "1"])
def test_it_renders_as_transformers_does(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setenv("OMNILMM_TEMPLATE_PROCESSES", where)
    for template in SOUND.values():
        (expected,), _ = render_jinja_template(conversations=[MESSAGES], chat_template=template, **VARIABLES)
        assert render(template, MESSAGES, VARIABLES) == expected


def test_nothing_of_a_template_gets_out(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    for template in ESCAPES.values():
        with pytest.raises(CheckpointError, match=r"fails for this conversation: [A-Z]") as error:
            render(template.replace("PROOF", str(proof)), MESSAGES, VARIABLES)
        assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert not proof.exists()


@pytest.mark.usefixtures("alone")
def test_a_template_ends_in_time_and_the_next_prompt_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNILMM_TEMPLATE_SECONDS", "0.3")
    for template in ENDLESS.values():
        with pytest.raises(CheckpointError, match=r"within 0\.3 seconds; OMNILMM_TEMPLATE_SECONDS \(now 0\.3\)"):
            render(template, MESSAGES, VARIABLES)
    monkeypatch.delenv("OMNILMM_TEMPLATE_SECONDS")  # a busy machine may take longer for any
    assert render("{{ messages[0].content }}", MESSAGES, VARIABLES) == "Be short."


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
def test_a_template_takes_no_more_memory_than_its_limit() -> None:
    """In a process of its own, whose figures are those of nothing else."""
    command = [sys.executable, "-c", MEASURED, *FULL.values()]
    patient = os.environ | {"OMNILMM_TEMPLATE_SECONDS": "100"}  # however slow the machine: memory is what ends it
    done = subprocess.run(command, cwd=ROOT, env=patient, capture_output=True, text=True, timeout=240, check=True)
    *codes, figures = done.stdout.splitlines()
    assert dict(zip(FULL, codes, strict=True)) == dict.fromkeys(FULL, "template_too_much_memory") | {
        "long": "template_too_long"
    }
    grown_mb, here_mb = map(int, figures.split())
    assert grown_mb < 250 and here_mb < 150


@pytest.mark.usefixtures("alone")
def test_a_renderer_that_ends_is_reported_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "PROGRAM", "print(flush=True); sys.stdin.readline(); sys.exit(7)")
        with pytest.raises(CheckpointError, match=r"renders the chat template of this checkpoint ended \(7\)"):
            render("", MESSAGES, VARIABLES)
        patch.setattr(Renderer, "PROGRAM", "sys.exit(7)")
        with pytest.raises(CheckpointError, match=r"cannot be started .* OMNILMM_TEMPLATE_PROCESSES=0 renders"):
            render("", MESSAGES, VARIABLES)
    assert render("a", MESSAGES, VARIABLES) == "a"
