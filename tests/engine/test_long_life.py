"""The short form of `make long-life`: nothing of a turn stays behind."""

from __future__ import annotations

import pytest

from tests import long_life


def test_turns_with_switches_pictures_and_stops_leave_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    loads = long_life.live(60, report_every=12, switch_every=25)
    assert [load.turn for load in loads] == [12, 24, 36, 48, 60]
    # Allocators need some hundred turns until they take no more; `make long-life` sees that.
    assert not long_life.grown(loads, most_mb=500), capsys.readouterr().out
