"""A pool of decoder subprocesses with bounded memory and time (the parent's side of `decoder`).

    content ──> Pool ── one of a few `Decoder`s, kept warm ──> upright RGB picture or frames, or a one-line error

A process is started for the first picture or video (a quarter of a second). It is an ordinary subprocess, so the
calling script needs no `__main__` guard. It exits with its parent, however that ends, since its stdin is closed then.
Other threads run while one waits for a decoder.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, TypeVar

from PIL import Image

from omnilmm.errors import ImageError
from omnilmm.images.decoding import one_line, opened, upright
from omnilmm.images.limits import PREFIX, Limits, VideoLimits
from omnilmm.images.video_decoding import Frame, Header
from omnilmm.sentences import Sentence
from omnilmm.versions import VideoSampling

logger = logging.getLogger(__name__)
Decoded = TypeVar("Decoded")

WALL = 4  # allowed seconds of wall-clock time per second of CPU time, for busy machines
START_S = 60.0
LOOK_S = 0.05  # interval at which time and memory are checked
LOOKS_AT_MEMORY = not sys.platform.startswith("linux")  # where the process cannot bound its own memory
MOST_LINE = 65_536  # bytes of one reply
MOST_SAID = 500  # bytes of one line of the log


def decode(content: bytes, limits: Limits) -> Image.Image:
    """Decode the content of a picture file to upright RGB.

    Raises:
        ImageError: The picture cannot be decoded, or not within the limits.
    """
    if limits.processes:
        return _pool.decode(content, limits)
    with one_line(limits), opened(content, limits) as image:
        return upright(image)


def decode_video(content: Path | bytes, sampling: VideoSampling, limits: VideoLimits) -> tuple[Header, list[Frame]]:
    """Decode the frames of a video that a model takes.

    Args:
        content: an absolute path, or the bytes of the file.
        sampling: selection of the frames.
        limits: limits on time and memory.

    Raises:
        ImageError: The video cannot be decoded, or not within the limits.
    """
    return _video_pool.decode_video(content, sampling, limits)


class Decoder:
    """A decoder subprocess.

    Args:
        program: Python code that it runs.

    Raises:
        ImageError: The process cannot be started.
    """

    def __init__(self, program: str = "from omnilmm.images.decoder import main; main()") -> None:
        script = f"import sys; sys.path[:] = {sys.path!r}; {program}"
        # Ctrl-C in a terminal signals the whole process group; the decoder exits when its stdin is closed instead.
        apart: dict[str, Any] = {"creationflags": 0x200} if sys.platform == "win32" else {"process_group": 0}
        self.pixels = 0
        self._why: Sentence | None = None
        if not sys.executable or getattr(sys, "frozen", False):
            raise _cannot_start(Sentence("no_python"))
        try:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                **apart,
            )
        except OSError as error:
            raise _cannot_start(error) from error
        self._requests, self._replies = _pipe(self.process.stdin), _pipe(self.process.stdout)
        threading.Thread(target=_log, args=(_pipe(self.process.stderr),), name="decoder log", daemon=True).start()
        with self._watched(None):
            if not self._replies.readline(MOST_LINE):
                self.end()
                self.leave()
                raise _cannot_start(Sentence("ended_with", status=self.process.returncode))
        self._base = self._rss() if LOOKS_AT_MEMORY else 0

    def decode(self, content: bytes, limits: Limits) -> Image.Image:
        """Decode one picture; the process is killed if it fails to reply properly.

        Raises:
            ImageError: The picture cannot be decoded, or not within the limits.
        """
        return self._ask({}, content, limits, lambda: self._picture(limits))

    def decode_video(
        self, content: Path | bytes, sampling: VideoSampling, limits: VideoLimits
    ) -> tuple[Header, list[Frame]]:
        """Decode one video; errors as for `decode`."""
        request: dict[str, Any] = {"video": asdict(sampling)}
        if isinstance(content, Path):
            request["path"], content = str(content), b""
        return self._ask(request, content, limits, lambda: self._video(limits))

    def _ask(
        self, request: dict[str, Any], content: bytes, limits: Limits | VideoLimits, read: Callable[[], Decoded]
    ) -> Decoded:
        self.pixels, self._why = 0, None
        try:
            with self._watched(limits):
                header = json.dumps(request | {"bytes": len(content), "limits": asdict(limits)})
                self._requests.write(header.encode() + b"\n")
                self._requests.write(content)
                self._requests.flush()
                return read()
        except ImageError:  # the process stays usable
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:  # the process ended, or its reply is malformed
            self.end()
            raise ImageError.of(self._why or self._ended(limits)) from error
        except BaseException:  # Ctrl-C: the rest of the reply would stay in the pipe
            self.end()
            raise

    @property
    def is_there(self) -> bool:
        """Whether the process is still running."""
        return self.process.poll() is None

    def end(self) -> None:
        """Kill the process and wait for its end; safe from any thread."""
        self.process.kill()
        self.process.wait()

    def leave(self) -> None:
        """Close the pipes; the process then exits, unless another process holds them open."""
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError, AttributeError):
                pipe.close()  # type: ignore[union-attr]

    def _picture(self, limits: Limits) -> Image.Image:
        picture: Image.Image | None = None
        while not (reply := self._reply()).keys() & {"done", "error"}:
            if "opened" in reply:
                width, height = reply["opened"]
                self.pixels = width * height
            elif "size" in reply:
                width, height = reply["size"]
                if not 0 < width * height <= limits.pixels:
                    raise ValueError(f"a size that is not allowed: {width}×{height}")
                picture = Image.new("RGB", (width, height))
            else:
                left, top, width, height = reply["piece"]
                if not 0 < width * height <= limits.pixels:
                    raise ValueError(f"a piece that is not allowed: {width}×{height}")
                piece = Image.frombytes("RGB", (width, height), self._replies.read(3 * width * height))
                if picture is None:
                    raise ValueError("a piece of no picture")
                picture.paste(piece, (left, top))
        self._finish(reply)
        if picture is None:
            raise ValueError("no picture")
        return picture

    def _video(self, limits: VideoLimits) -> tuple[Header, list[Frame]]:
        header: Header | None = None
        frames: list[Frame] = []
        while not (reply := self._reply()).keys() & {"done", "error"}:
            if "opened" in reply:
                width, height = reply["opened"]
                self.pixels = width * height
                header = Header((width, height), float(reply["duration_s"]), int(reply["count"]))
                continue
            width, height = reply["frame"]
            if not 0 < width * height <= limits.pixels or header is None or len(frames) >= header.count:
                raise ValueError(f"a frame that is not allowed: {width}×{height}")
            image = Image.frombytes("RGB", (width, height), self._replies.read(3 * width * height))
            frames.append(Frame(image, float(reply["time_s"])))
        self._finish(reply)
        if header is None or not frames:
            raise ValueError("no frames")
        return header, frames

    def _finish(self, reply: dict[str, Any]) -> None:
        if reply["leaves"]:
            self.end()
        if "error" in reply:
            raise ImageError.of(Sentence.from_json(reply["error"]))

    def _reply(self) -> dict[str, Any]:
        reply = json.loads(self._replies.readline(MOST_LINE))
        if not isinstance(reply, dict):
            raise TypeError(f"no reply: {reply!r:.80}")
        return reply

    def _ended(self, limits: Limits | VideoLimits) -> Sentence:
        """Return why the process ended, from its exit status."""
        code = self.process.returncode
        if hasattr(signal, "SIGPROF") and code == -signal.SIGPROF:
            return limits.too_slow(self.pixels)
        return Sentence("decoder_ended", status=code)

    def _rss(self) -> int:
        import psutil  # type: ignore[import-untyped]  # only where the process cannot bound its memory

        with suppress(psutil.Error):
            return int(psutil.Process(self.process.pid).memory_info().rss)
        return 0

    @contextmanager
    def _watched(self, limits: Limits | VideoLimits | None) -> Iterator[None]:
        """Kill the process if it exceeds its limits within the block; reading its replies then meets end of file."""
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(done, limits), name="decoder watch", daemon=True)
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()  # so that a process is not killed after it has replied

    def _watch(self, done: threading.Event, limits: Limits | VideoLimits | None) -> None:
        began_s = time.monotonic()
        while not done.wait(LOOK_S):
            if self._is_excessive(limits, time.monotonic() - began_s):
                self.end()
                return

    def _is_excessive(self, limits: Limits | VideoLimits | None, taken_s: float) -> bool:
        """Return whether the process exceeds its limits, and store the reason."""
        if limits is None:  # while it starts
            return taken_s > START_S
        if LOOKS_AT_MEMORY and self._rss() - self._base > limits.memory_bytes(self.pixels):
            self._why = limits.too_much_memory(self.pixels)
        elif taken_s > WALL * limits.cpu_seconds(self.pixels):
            self._why = limits.too_slow(self.pixels)
        return self._why is not None


class Pool:
    """A bounded pool of decoder processes, started on demand and kept for later requests."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[Decoder] = []
        self._busy = 0

    def decode(self, content: bytes, limits: Limits) -> Image.Image:
        """Decode one picture as soon as a process is free.

        Raises:
            ImageError: The picture cannot be decoded, or not within the limits.
        """
        return self._lend(limits, lambda decoder: decoder.decode(content, limits))

    def decode_video(
        self, content: Path | bytes, sampling: VideoSampling, limits: VideoLimits
    ) -> tuple[Header, list[Frame]]:
        """Decode one video as soon as a process is free; errors as for `decode`."""
        return self._lend(limits, lambda decoder: decoder.decode_video(content, sampling, limits))

    def _lend(self, limits: Limits | VideoLimits, use: Callable[[Decoder], Decoded]) -> Decoded:
        with self._changed:
            self._changed.wait_for(lambda: self._busy < limits.processes)
            self._busy += 1
            decoder = self._take()
        try:
            decoder = decoder or Decoder()
            return use(decoder)
        finally:
            with self._changed:
                self._busy -= 1
                if decoder is not None:
                    self._idle.append(decoder)
                self._changed.notify()

    def _take(self) -> Decoder | None:
        """Return an idle process, dropping those that have ended; None if there is none."""
        while self._idle:
            decoder = self._idle.pop()
            if decoder.is_there:
                return decoder
            decoder.leave()
        return None

    def end(self) -> None:
        """Kill the idle processes."""
        while decoder := self._take():
            decoder.end()
            decoder.leave()

    def leave(self) -> None:
        """Drop the processes without killing them: after a fork they belong to the parent."""
        for decoder in self._idle:
            decoder.leave()
            decoder.process.returncode = 0  # not a child of this process, so never wait for it


def _forked() -> None:
    global _pool, _video_pool
    _pool.leave()
    _video_pool.leave()
    _pool, _video_pool = Pool(), Pool()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101  # opened with PIPE
    return pipe


def _log(errors: IO[bytes]) -> None:
    with errors, suppress(OSError, ValueError):
        while line := errors.readline(MOST_SAID):
            logger.info("%s", line.decode("utf-8", "replace").rstrip())


def _cannot_start(why: Sentence | OSError) -> ImageError:
    return ImageError("decoder_not_started", reason=why, variable=f"{PREFIX}PROCESSES")


_pool = Pool()
_video_pool = Pool()  # separate, as a video may take a minute and pictures should not wait for it
atexit.register(lambda: _pool.end())
atexit.register(lambda: _video_pool.end())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
