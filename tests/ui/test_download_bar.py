"""What the terminal shows of downloads."""

from __future__ import annotations

from omnilmm.ui.download_bar import DownloadBar


def test_each_download_has_a_bar_of_its_own() -> None:
    with DownloadBar() as bar:
        bar.report(10, 10)
        assert bar.bar is None, "all of it is here"
        bar.report(2, 10)
        assert (bar.bar.n, bar.bar.total) == (2, 10)
        bar.report(10, 10)
        assert bar.bar is None
        bar.report(5, 20)
        bar.report(6, 30)  # another model was chosen, and the one before cancelled
        assert (bar.bar.n, bar.bar.total) == (6, 30)
