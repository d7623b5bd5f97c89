"""A download progress bar for the terminal from which a page or the chat is started."""

from __future__ import annotations

import sys
from typing import Any


class DownloadBar:
    """A progress bar on stderr while a model is downloaded; prints nothing if it is already on the disk."""

    def __init__(self) -> None:
        self.bar: Any = None

    def __enter__(self) -> DownloadBar:
        return self

    def report(self, done: int, total: int) -> None:
        """Update the bar with the bytes downloaded so far and the total."""
        from huggingface_hub.utils import tqdm

        if self.bar is not None and (done >= total or total != self.bar.total):  # complete, or another model's download
            self.bar.update(min(done, self.bar.total) - self.bar.n)
            self.bar.close()
            self.bar = None
        if self.bar is None and done < total:
            self.bar = tqdm(total=total, initial=done, unit="B", unit_scale=True, desc="Downloading", file=sys.stderr)
        elif self.bar is not None:
            self.bar.update(done - self.bar.n)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
