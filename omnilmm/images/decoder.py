r"""The decoder of pictures and videos, a program that runs in a subprocess with bounded memory and CPU time.

    stdin   {"bytes": n, "limits": {…}}\\n and n bytes, for each request; the program exits at end of file
    stdout  {"ready": true}\\n once; then for each picture {"opened": [w, h]}\\n, {"size": [w, h]}\\n,
            {"piece": [left, top, w, h]}\\n and 3·w·h bytes for each piece, {"done": true}\\n
            for a video (requested with {"video": its sampling, "path": …} or its bytes) {"opened": [w, h],
            "duration_s": s, "count": n}\\n, {"frame": [w, h], "time_s": s}\\n and 3·w·h bytes each, {"done": true}\\n
            or, instead of the rest, {"error": a sentence as JSON}\\n at any point
    stderr  output of libraries, for the log

The limits are those of `processes.bounds`.
"""

from __future__ import annotations

import io
import math
import traceback
import warnings
from typing import Any, BinaryIO

from PIL import AvifImagePlugin, Image

from omnilmm.errors import ImageError
from omnilmm.images.decoding import line, opened, orientation_of, pieces, upright_size
from omnilmm.images.formats import webp_size
from omnilmm.images.limits import Limits, VideoLimits
from omnilmm.processes.bounds import allow, free, send, serve, used_bytes
from omnilmm.sentences import Sentence

MOST_THREADS = 4  # per decoder: each thread takes memory for its stack


def main() -> None:
    """Decode pictures and videos from stdin until it is closed."""
    serve(_prepare, _answer)


def _answer(request: dict[str, Any], content: bytes, base: int, replies: BinaryIO) -> dict[str, Any]:
    if "video" in request:
        return _decode_video(content, request, base, replies)
    return _decode(content, Limits(**request["limits"]), base, replies)


def _decode(content: bytes, limits: Limits, base: int, replies: BinaryIO) -> dict[str, Any]:
    """Decode one picture and write all replies but the last, which is returned."""
    pixels = math.prod(webp_size(content) or (0,))
    try:
        _allow(base + len(content), limits, pixels)
        Image.MAX_IMAGE_PIXELS = limits.pixels
        with opened(content, limits) as image:
            pixels = image.width * image.height
            send(replies, opened=image.size)
            _allow(base + len(content), limits, pixels)
            image.load()
            orientation = orientation_of(image)
            send(replies, size=upright_size(image, orientation))
            for (left, top), piece in pieces(image, orientation):
                data = piece.tobytes()
                send(replies, piece=(left, top, *piece.size))
                replies.write(data)
        return {"done": True}
    except BrokenPipeError:
        raise
    except ImageError as error:
        return {"error": error.sentence.to_json()}
    except Exception as error:
        free()
        traceback.print_exc()
        return {"error": line(error, limits, pixels).to_json()}
    finally:
        free()


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
                    send(replies, opened=part.size, duration_s=part.duration_s, count=part.count)
                    continue
                send(replies, frame=part.image.size, time_s=part.time_s)
                replies.write(part.image.tobytes())
        return {"done": True}
    except BrokenPipeError:
        raise
    except ImageError as error:
        return {"error": error.sentence.to_json()}
    except Exception as error:
        free()
        traceback.print_exc()
        if isinstance(error, MemoryError):
            return {"error": limits.too_much_memory().to_json()}
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return {"error": Sentence("video_damaged", reason=reason[:100]).to_json()}
    finally:
        free()


def _prepare() -> None:
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is our own
    AvifImagePlugin.DEFAULT_MAX_THREADS = MOST_THREADS


def _allow(base: int, limits: Limits | VideoLimits, pixels: int) -> None:
    """Limit CPU time and memory from here on to the bounds for that many pixels."""
    allow(limits.cpu_seconds(pixels), base + limits.memory_bytes(pixels))
