r"""The decoder of pictures and videos, a program that runs in a subprocess with bounded memory and CPU time.

    stdin   {"bytes": n, "limits": {…}}\\n and n bytes, for each request; the program exits at end of file
    stdout  {"ready": true}\\n once; then for each picture {"opened": [w, h]}\\n, {"size": [w, h]}\\n,
            {"piece": [left, top, w, h]}\\n and 3·w·h bytes for each piece, {"done": true}\\n
            for a video (requested with {"video": its sampling, "path": …} or its bytes) {"opened": [w, h],
            "duration_s": s, "count": n}\\n, {"frame": [w, h], "time_s": s}\\n and 3·w·h bytes each, {"done": true}\\n
            or, instead of the rest, {"error": a sentence as JSON}\\n at any point
    stderr  output of libraries, for the log

The limit is CPU time, so that a busy machine does not cause refusals; the parent process limits wall-clock time, and
memory too where the system does not bound it (macOS, Windows).
"""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from PIL import AvifImagePlugin, Image

from omnilmm.errors import ImageError
from omnilmm.images.decoding import line, opened, orientation_of, pieces, upright_size
from omnilmm.images.formats import webp_size
from omnilmm.images.limits import Limits, VideoLimits
from omnilmm.sentences import Sentence

MOST_THREADS = 4  # per decoder: each thread takes memory for its stack
MOST_GROWN = 64 * 2**20  # bytes that memory may grow before the process is replaced

_STATM = Path("/proc/self/statm")


def main() -> None:
    """Decode pictures and videos from stdin until it is closed."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not mix with the replies
    _prepare()
    base = used_bytes()
    _say(replies, ready=True)
    while header := requests.readline():
        request = json.loads(header)
        try:
            content = requests.read(request["bytes"])
            if "video" in request:
                last = _decode_video(content, request, base, replies)
            else:
                last = _decode(content, Limits(**request["limits"]), base, replies)
            leaves = used_bytes() > base + MOST_GROWN
            _say(replies, **last, leaves=leaves)
        except BrokenPipeError:
            return
        if leaves:
            return


def _decode(content: bytes, limits: Limits, base: int, replies: BinaryIO) -> dict[str, Any]:
    """Decode one picture and write all replies but the last, which is returned."""
    pixels = math.prod(webp_size(content) or (0,))
    try:
        _allow(base + len(content), limits, pixels)
        Image.MAX_IMAGE_PIXELS = limits.pixels
        with opened(content, limits) as image:
            pixels = image.width * image.height
            _say(replies, opened=image.size)
            _allow(base + len(content), limits, pixels)
            image.load()
            orientation = orientation_of(image)
            _say(replies, size=upright_size(image, orientation))
            for (left, top), piece in pieces(image, orientation):
                data = piece.tobytes()
                _say(replies, piece=(left, top, *piece.size))
                replies.write(data)
        return {"done": True}
    except BrokenPipeError:
        raise
    except ImageError as error:
        return {"error": error.sentence.to_json()}
    except Exception as error:
        _free()
        traceback.print_exc()
        return {"error": line(error, limits, pixels).to_json()}
    finally:
        _free()


def _decode_video(content: bytes, request: dict[str, Any], base: int, replies: BinaryIO) -> dict[str, Any]:
    """Decode one video and write all replies but the last, which is returned."""
    from omnilmm.images.video_decoding import Header, decoded
    from omnilmm.versions import VideoSampling

    limits = VideoLimits(**request["limits"])
    try:
        import av  # noqa: F401  # imported first, so that its code does not count towards the limit

        _allow(max(base, used_bytes()) + len(content), limits, 0)
        with open(request["path"], "rb") if request.get("path") else io.BytesIO(content) as file:
            for part in decoded(file, VideoSampling(**request["video"]), limits):
                if isinstance(part, Header):
                    _say(replies, opened=part.size, duration_s=part.duration_s, count=part.count)
                    continue
                _say(replies, frame=part.image.size, time_s=part.time_s)
                replies.write(part.image.tobytes())
        return {"done": True}
    except BrokenPipeError:
        raise
    except ImageError as error:
        return {"error": error.sentence.to_json()}
    except Exception as error:
        _free()
        traceback.print_exc()
        if isinstance(error, MemoryError):
            return {"error": limits.too_much_memory().to_json()}
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return {"error": Sentence("video_damaged", reason=reason[:100]).to_json()}
    finally:
        _free()


def _say(replies: BinaryIO, **reply: Any) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


def _prepare() -> None:
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is our own
    AvifImagePlugin.DEFAULT_MAX_THREADS = MOST_THREADS
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # out of memory: kill this process first


def used_bytes() -> int:
    """Return the memory of this process that counts towards `RLIMIT_DATA`; 0 where the system does not bound it."""
    if not _STATM.exists():
        return 0
    return int(_STATM.read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def _allow(base: int, limits: Limits | VideoLimits, pixels: int) -> None:
    """Limit CPU time and memory from here on to the bounds for that many pixels."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, limits.cpu_seconds(pixels))  # SIGPROF kills it even in C code
    if _STATM.exists():
        _bound_memory(base + limits.memory_bytes(pixels))


def _free() -> None:
    """Lift the limits between requests."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, 0)
    if _STATM.exists():
        _bound_memory(None)


def _bound_memory(most: int | None) -> None:
    import resource  # available wherever /proc is

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if most is None or (hard != resource.RLIM_INFINITY and most > hard):
        most = hard
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
