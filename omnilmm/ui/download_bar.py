"""The progress bar of a download, in the terminal from which a page or the chat is started."""

from __future__ import annotations

import sys
from typing import Any


class DownloadBar:
    """A progress bar on stderr while a model is downloaded; nothing where it is on the disk already."""

    def __init__(self) -> None:
        self.bar: Any = None

    def __enter__(self) -> DownloadBar:
        return self

    def report(self, done: int, total: int) -> None:
        """Take bytes done, and bytes in all."""
        from huggingface_hub.utils import tqdm

        if self.bar is not None and (done >= total or total != self.bar.total):  # whole, or another model's
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
