"""The flags that every program shares are the arguments of `prepare`, and have its defaults."""

from __future__ import annotations

import argparse
import inspect
import re

import pytest

from omnilmm.engine.loading import prepare
from omnilmm.errors import OptionsError
from omnilmm.images.limits import limits
from omnilmm.ui.flag_values import (
    check_live,
    check_live_link,
    check_requested,
    loading_arguments,
    loading_line,
    text_keys,
)
from omnilmm.ui.flags import add_live_flags, add_live_link_flags, add_loading_flags, add_page_flags


def parsed(*flags: str) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    add_loading_flags(parser)
    return loading_arguments(parser.parse_args(flags))


def test_left_out_they_are_those_of_prepare() -> None:
    parameters = inspect.signature(prepare).parameters
    assert parsed() == {name: parameters[name].default for name in parsed()}
    assert set(parameters) - set(parsed()) == {"report", "freed_bytes", "adapter"}


def test_memory_for_later_is_given_in_mib() -> None:
    given = parsed("--feature-cache", "0", "--prefix-cache", "2048")
    assert (given["feature_cache_mib"], given["prefix_cache_mib"]) == (0, 2048)


def test_a_number_of_slices_that_no_picture_can_be_cut_into_is_refused_before_the_page_is_announced() -> None:
    parser = argparse.ArgumentParser()
    add_loading_flags(parser)
    add_page_flags(parser, port=1)
    check_requested(parser.parse_args(["--max-slices", "36"]))
    with pytest.raises(OptionsError, match="max_slices must be a whole number from 1 to 36"):
        check_requested(parser.parse_args(["--max-slices", "37"]))


@pytest.mark.parametrize(
    "flags",
    [["--max-slices", "36"], ["--quant", "Q4_K_M"], ["--mmproj", "a.gguf"], ["--revision", "v1"], ["--dtype", "int4"]],
)
def test_runs_with_other_flags_that_change_answers_are_told_apart(flags: list[str]) -> None:
    parser = argparse.ArgumentParser()
    add_loading_flags(parser)
    plain, other = parser.parse_args([]), parser.parse_args(flags)
    assert loading_line(other) != loading_line(plain) == "dtype auto" and flags[1] in loading_line(other)
    assert loading_line(plain, dtype="Q4_K_M") == "dtype Q4_K_M"
    assert loading_line(plain, "here:1") != loading_line(plain, "there:1")


@pytest.mark.parametrize("wrong", ["-1", "1.5", "1GiB", ""])
def test_what_is_no_number_of_mib_is_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(f"--feature-cache={wrong}")
    assert "expected MiB as a whole number" in capsys.readouterr().err


@pytest.mark.parametrize(("wished", "opened"), [(None, 32), (8, 32), (100, 100)])
def test_what_may_be_uploaded_may_be_opened(wished: int | None, opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNILMM_PICTURE_FILE_MB", "32")
    parser = argparse.ArgumentParser()
    add_loading_flags(parser)
    add_page_flags(parser, port=1)
    flags = parser.parse_args([] if wished is None else ["--max-file-size", str(wished)])
    check_requested(flags)
    assert flags.max_file_size == (wished or 32) and limits().file_mb == opened


def live_flags(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_loading_flags(parser)
    add_live_flags(parser)
    return parser.parse_args(flags)


def test_flags_of_the_live_view_without_it_are_refused() -> None:
    check_live(live_flags())
    check_live(live_flags("--live", "--voice", "none", "--speech-model", "none"))
    with pytest.raises(OptionsError, match="--voice and --text-url belong to the live view"):
        check_live(live_flags("--voice", "none", "--text-url", "http://127.0.0.1:1/v1"))


def test_a_link_to_a_live_view_is_the_address_of_a_page() -> None:
    def check(*flags: str) -> None:
        parser = argparse.ArgumentParser()
        add_live_link_flags(parser)
        check_live_link(parser.parse_args(flags))

    check()
    check("--live-url", "https://example.org:7860/chat")
    for given in ("javascript:alert(1)", "example.org", "https://", "http://[::1"):
        with pytest.raises(OptionsError, match=re.escape(given)):
            check("--live-url", given)
    with pytest.raises(OptionsError, match=r"web_demo\.py --live`.* --live-url"):
        check("--live")


def test_a_voice_that_is_not_installed_is_reported_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    check_live(live_flags("--live"))
    with pytest.raises(OptionsError, match="apt install espeak-ng"):
        check_live(live_flags("--live", "--voice", "espeak-ng"))


def test_one_key_of_the_environment_is_not_sent_to_two_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    text, engine = ("--live", "--text-url", "http://t/v1"), ("--engine-url", "http://e/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "of the environment")
    assert text_keys(live_flags(*text)) == ["of the environment"]
    assert text_keys(live_flags(*text, *engine)) == []
    assert text_keys(live_flags(*text, *engine, "--engine-key", "e")) == ["of the environment"]
    assert text_keys(live_flags(*text, *engine, "--text-key", "t")) == ["t"]
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert text_keys(live_flags(*text)) == []
