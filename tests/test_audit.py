"""What `make audit` says: pins, what was found, and that nobody could be asked."""

from __future__ import annotations

from pathlib import Path

from tests.audit import summary, unpinned


def test_every_requirement_is_pinned(tmp_path: Path) -> None:
    assert unpinned() == []
    (tmp_path / "requirements.txt").write_text("one>=1\nTwo_x[extra]>=2; sys_platform != 'win32'\nthree>=1\n")
    (tmp_path / "requirements-dev.txt").write_text("# nothing\n")
    (tmp_path / "constraints.txt").write_text("one==1.0  # of it\ntwo-x>=2\n")
    assert unpinned(tmp_path) == [
        "constraints.txt: two-x>=2 names no exact version",
        "requirements.txt: Two_x is not in constraints.txt",
        "requirements.txt: three is not in constraints.txt",
    ]


def test_what_was_found_and_what_could_not_be_asked_is_said() -> None:
    sound, skipped = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not on PyPI"}
    bad = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
    assert summary({"dependencies": [sound]}) == (0, ["1 packages: no known holes."])
    assert summary({"dependencies": [sound, skipped, bad]}) == (
        1,
        ["b: not audited (not on PyPI)", "c 2: PYSEC-1, fixed in 2.1"],
    )
    code, (line,) = summary({"dependencies": [skipped]})
    assert code == 2 and "nothing was audited" in line
