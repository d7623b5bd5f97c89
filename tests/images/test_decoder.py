"""Decoding is untrusted: bounded in memory and time, in processes that hurt nobody when they end."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image, ImageOps

from omnilmm.errors import ImageError, OptionsError
from omnilmm.images import decoder_pool, decoding
from omnilmm.images.decoder_pool import Decoder
from omnilmm.images.limits import Limits, limits
from omnilmm.images.pixels import open_picture
from omnilmm.processes import pool as processes
from omnilmm.processes.pool import Pool
from tests.images import corpus
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
MEBIBYTE = 2**20
GOOD = corpus.saved(corpus.drawing(), "PNG")
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool[Decoder]]:
    """Processes of this test alone, whatever was decoded before."""
    decoder_pool._pool.end()
    decoder_pool._video_pool.end()
    pool = Pool(Decoder)
    monkeypatch.setattr(decoder_pool, "_pool", pool)
    yield pool
    pool.end()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stands still is not ended for it, however long the test takes."""
    monkeypatch.setattr(processes, "WALL", 1000)


def has_ended(process: psutil.Process | int) -> bool:
    """Not only lost its memory, and with it its command line, which comes before."""
    try:
        return (psutil.Process(process) if isinstance(process, int) else process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def decoders() -> list[psutil.Process]:
    living = (child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE)
    return [child for child in living if "images.decoder" in "".join(child.cmdline())]


def busy(pool: Pool[Decoder]) -> int:
    """The number of requests that have a process: behind the lock, so one that is counted has been given it."""
    with pool._changed:
        return pool._busy


def outcome(content: bytes) -> str:
    try:
        return str(open_picture(content).image)
    except ImageError as error:
        return str(error)


def is_one_line(error: object) -> bool:
    return "\n" not in str(error) and len(str(error)) < 300


# What a picture may cost


@needs_linux
def test_many_tags_of_the_same_bytes_are_refused_for_their_memory_and_the_limit_can_be_lifted(
    pool: Pool[Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNILMM_PICTURE_MEMORY_MB", "200")
    for make in corpus.TAGGED.values():
        content = make(corpus.tags(120))
        with pytest.raises(ImageError, match=r"more than 100 MB .* OMNILMM_PICTURE_MEMORY_MB \(now 200\)") as refused:
            open_picture(content)
        assert is_one_line(refused.value)
    assert open_picture(GOOD).image.size == (60, 40)
    assert all(child.memory_info().rss < 100 * MEBIBYTE for child in decoders())
    monkeypatch.setenv("OMNILMM_PICTURE_MEMORY_MB", "2000")
    assert open_picture(content).image.mode == "RGB"


def test_where_a_process_cannot_bound_its_memory_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOOKS_AT_MEMORY", True)
    unbounded = Decoder(  # which keeps its memory until that is measured
        "import time, omnilmm.processes.bounds as b; b.bound_memory = print; b.free = lambda: time.sleep(100)\n"
        "from omnilmm.images.decoder import main; main()"
    )
    with pytest.raises(ImageError, match="OMNILMM_PICTURE_MEMORY_MB"):
        unbounded.decode(corpus.TAGGED["TIFF"](corpus.tags(600)), Limits(memory_mb=500, seconds=100))
    assert not unbounded.is_there
    unbounded.leave()


@needs_posix
def test_what_takes_too_long_is_refused_and_the_limit_can_be_lifted(
    pool: Pool[Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"P3 300 300 255\n" + b"7 " * 270_000  # 0.2 s for each MB
    monkeypatch.setattr(processes, "WALL", 1000)  # its own time counts
    monkeypatch.setenv("OMNILMM_PICTURE_SECONDS", "0.1")
    with pytest.raises(
        ImageError, match=r"longer than 0\.02\d* seconds.* OMNILMM_PICTURE_SECONDS \(now 0\.1\)"
    ) as refused:
        open_picture(content)
    assert is_one_line(refused.value)
    monkeypatch.delenv("OMNILMM_PICTURE_SECONDS")
    assert open_picture(content).image.size == (300, 300)


@needs_posix
def test_a_process_that_stands_still_is_ended(pool: Pool[Decoder], monkeypatch: pytest.MonkeyPatch) -> None:
    open_picture(GOOD)
    decoders()[0].suspend()
    monkeypatch.setenv("OMNILMM_PICTURE_SECONDS", "0.5")
    with pytest.raises(ImageError, match="OMNILMM_PICTURE_SECONDS"):
        open_picture(GOOD)
    assert decoders() == []


def test_a_jpeg_of_absurdly_many_scans_is_refused_before_they_are_read() -> None:
    assert open_picture(corpus.scans(20, 1000)).image.size == (1000, 1000)
    with pytest.raises(ImageError, match="OMNILMM_PICTURE_SECONDS"):
        decoding.opened(corpus.scans(1500, 1000), limits())


def test_a_small_picture_may_take_a_fifth_of_the_time_and_half_the_memory_and_large_ones_all() -> None:
    bounds = Limits(seconds=10, memory_mb=1000)
    assert bounds.cpu_seconds() == 2 and bounds.cpu_seconds(bounds.pixels) == 10
    assert bounds.memory_bytes() == 500 * MEBIBYTE and bounds.memory_bytes(MEBIBYTE) == 516 * MEBIBYTE
    assert bounds.memory_bytes(bounds.pixels) == bounds.memory_bytes(40_000_000) == 1000 * MEBIBYTE


@needs_linux
def test_a_webp_may_take_no_more_than_others_and_a_large_one_says_how_to_be_read() -> None:
    assert open_picture(corpus.saved(Image.new("RGB", (6000, 4000)), "WEBP")).image.size == (6000, 4000)
    large = corpus.saved(Image.new("RGB", (8000, 6000)), "WEBP")
    with pytest.raises(ImageError, match=r"more than 500 MB .* OMNILMM_PICTURE_MEMORY_MB \(now 500\) allows more"):
        open_picture(large)


@pytest.mark.parametrize("given", ["", "much", "0", "-1", "nan", "inf", "1e999"])
def test_a_limit_that_is_no_number_is_named(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNILMM_PICTURE_SECONDS", given)
    with pytest.raises(OptionsError, match="OMNILMM_PICTURE_SECONDS is a number above 0; got"):
        open_picture(GOOD)


def test_pixels_and_bytes_are_limits_of_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNILMM_PICTURE_MEGAPIXELS", "1")
    large = corpus.png(1001, 1000)
    with pytest.raises(ImageError, match=r"1001×1000.* OMNILMM_PICTURE_MEGAPIXELS"):
        open_picture(large)
    monkeypatch.setenv("OMNILMM_PICTURE_FILE_MB", "1")
    with pytest.raises(ImageError, match=r"larger than 1 MB.* OMNILMM_PICTURE_FILE_MB"):
        open_picture(bytes(MEBIBYTE + 1))
    monkeypatch.setenv("OMNILMM_PICTURE_MEGAPIXELS", "2")
    assert open_picture(large).image.size == (1001, 1000)


def test_what_a_webp_claims_is_checked_before_there_is_room_for_it() -> None:
    for lossless in (False, True):
        assert open_picture(corpus.saved(corpus.drawing(), "WEBP", lossless=lossless)).image.size == (60, 40)
    with pytest.raises(ImageError, match="9001×9000"):
        open_picture(dict(corpus.claims())["WebP of 9000×9000"]().replace(struct_of(9000), struct_of(9001), 1))


def struct_of(width: int) -> bytes:
    return (width - 1).to_bytes(3, "little")


# Processes


@needs_posix
@pytest.mark.usefixtures("patient")
def test_a_process_that_is_killed_while_it_works_costs_one_picture(pool: Pool[Decoder]) -> None:
    open_picture(GOOD)
    (child,) = decoders()
    child.suspend()  # it works as long as we like
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(open_picture, GOOD)
        wait_until(lambda: busy(pool))
        child.kill()
        with pytest.raises(ImageError, match=r"ended while it read this one \(-9\)") as raised:
            asked.result()
    assert is_one_line(raised.value)
    assert open_picture(GOOD).image.size == (60, 40)


def test_a_process_that_was_killed_meanwhile_is_replaced_without_a_word(pool: Pool[Decoder]) -> None:
    open_picture(GOOD)
    (child,) = decoders()
    child.kill()
    wait_until(lambda: has_ended(child))
    assert open_picture(GOOD).image.size == (60, 40)


@needs_posix
@pytest.mark.usefixtures("patient")
def test_two_are_decoded_at_once_and_no_third(pool: Pool[Decoder]) -> None:
    open_picture(GOOD)
    (first,) = decoders()
    first.suspend()
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(open_picture, GOOD)
        wait_until(lambda: busy(pool) == 1)
        assert open_picture(GOOD).image.size == (60, 40)
        assert not slow.done() and len(decoders()) == 2
        (second,) = [child for child in decoders() if child != first]
        second.suspend()
        others = [threads.submit(open_picture, GOOD) for _ in range(3)]
        wait_until(lambda: busy(pool) == 2)
        assert len(decoders()) == 2
        first.resume()
        second.resume()
        assert {asked.result().image.size for asked in (slow, *others)} == {(60, 40)}
    assert len(decoders()) == 2


def test_while_one_is_lent_another_thread_may_end_the_idle_ones(pool: Pool[Decoder]) -> None:
    """As a program does that ends while it still answers."""
    ending = threading.Thread(target=pool.end)

    class Idle(list[Decoder]):
        def __bool__(self) -> bool:
            is_one_there = len(self) > 0
            if ending.ident is None:
                ending.start()
                ending.join(0.2)  # without a lock it is done by now
            return is_one_there

    open_picture(GOOD)
    pool._idle = Idle(pool._idle)
    assert open_picture(GOOD).image.size == (60, 40)
    ending.join(60)
    assert not ending.is_alive()


def test_who_interrupts_a_picture_gets_no_other_ones_pixels(
    pool: Pool[Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decoder_pool.Image, "frombytes", interrupt)
        with pytest.raises(KeyboardInterrupt):
            open_picture(GOOD)
    assert open_picture(corpus.saved(Image.new("RGB", (7, 5)), "PNG")).image.size == (7, 5)


def test_a_process_that_says_what_it_should_not_is_ended(pool: Pool[Decoder]) -> None:
    for said in (b'{"size": [99999, 99999]}', b"[]", b"no json", b'{"done": true, "leaves": false}', b'{"piece": [0]}'):
        liar = Decoder(
            f"sys.stdout.buffer.write(b'ready\\n' + {said!r} + b'\\n'); sys.stdout.flush(); sys.stdin.read()"
        )
        with pytest.raises(ImageError, match="The process that decodes pictures ended"):
            liar.decode(GOOD, Limits())
        assert not liar.is_there
        liar.leave()


def test_where_no_process_can_be_started_that_is_said_with_the_way_out(
    pool: Pool[Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    for executable in ("", "/nowhere/python", "/bin/false"):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(ImageError, match=r"cannot be started \(.*\)\. OMNILMM_PICTURE_PROCESSES=0") as raised:
            open_picture(GOOD)
        assert is_one_line(raised.value)
    monkeypatch.setenv("OMNILMM_PICTURE_PROCESSES", "0")
    assert open_picture(GOOD).image.size == (60, 40)


def test_a_pil_image_and_an_import_start_none() -> None:
    script = (
        "import psutil; from PIL import Image; from omnilmm.images.pixels import open_picture\n"
        "open_picture(Image.new('L', (9, 9))); print(len(psutil.Process().children()))"
    )
    assert run(script) == "0"


SAYS_PID = (
    "import os, psutil, signal, sys\nfrom omnilmm.images.pixels import open_picture\n"
    f"GOOD = {GOOD!r}\nopen_picture(GOOD)\nprint(psutil.Process().children()[0].pid, flush=True)\n"
)


@needs_posix
@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGKILL)", "raise KeyboardInterrupt", "os._exit(3)"])
def test_none_outlives_the_program(end: str) -> None:
    pid = int(run(SAYS_PID + end, is_well=not end))
    wait_until(lambda: has_ended(pid))


@needs_posix
def test_a_busy_one_ends_with_the_program_where_cpu_time_is_not_limited() -> None:
    """As on Windows."""
    killed = """
import os, psutil, signal, threading
from omnilmm.images.limits import Limits
from omnilmm.processes.pool import Process
without = "import signal; del signal.setitimer; from omnilmm.processes.bounds import serve"
one = Process(without + "; serve(int, lambda *_: sum(1 for _ in iter(int, 1)))")
threading.Thread(target=lambda: one.ask({}, b"", Limits(seconds=1000), one.reply), daemon=True).start()
child = psutil.Process(one.process.pid)
while child.cpu_percent(0.1) < 5:
    pass
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    pid = int(run(killed, is_well=False))
    with suppress(psutil.NoSuchProcess):  # it has ended
        child = psutil.Process(pid)
        try:
            wait_until(lambda: has_ended(child))
        finally:
            child.kill()


@needs_posix
def test_ctrl_c_at_a_terminal_is_not_for_them() -> None:
    interrupted = """
from contextlib import suppress
with suppress(KeyboardInterrupt):
    os.killpg(0, signal.SIGINT)
    signal.pause()
open_picture(GOOD)
print(psutil.Process().children()[0].pid)
"""
    before, after = run(SAYS_PID + interrupted).split()
    assert before == after


@needs_posix
def test_a_program_that_was_forked_has_its_own() -> None:
    forked = """
import threading, time, warnings
from omnilmm.images import decoder_pool
warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
os.environ |= {"OMNILMM_PICTURE_PROCESSES": "1", "OMNILMM_PICTURE_SECONDS": "1000"}
(decoder,) = psutil.Process().children()
decoder.suspend()
busy = threading.Thread(target=open_picture, args=(GOOD,))
busy.start()
while not decoder_pool._pool._busy or decoder_pool._pool._idle:
    time.sleep(0.01)
if os.fork():
    os.wait()
    decoder.resume()
    busy.join()
    print(psutil.Process().children()[0].pid)
else:
    open_picture(GOOD)
    print(psutil.Process().children()[0].pid, flush=True)
    os._exit(0)
"""
    of_parent, of_child, of_parent_again = run(SAYS_PID + forked).split()
    assert of_parent == of_parent_again != of_child


def run(script: str, *, is_well: bool = True) -> str:
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, start_new_session=True)
    assert (done.returncode == 0 and not done.stderr) or not is_well, done.stderr
    return done.stdout.strip()


# What comes out


@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_picture_of_several_pieces(
    orientation: int, processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNILMM_PICTURE_PROCESSES", processes)
    monkeypatch.setattr(decoding, "PIECE_PIXELS", 500)
    size = (1100, 960) if processes == "2" else (700, 90)  # rows are cut, too
    exif = corpus.exif({0x0112: orientation})
    content = corpus.saved(corpus.drawing(size=size), "PNG", exif=exif, compress_level=0)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    assert np.array_equal(open_picture(content).image, expected)


def test_grey_of_many_bits_has_one_white_for_all_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PIECE_PIXELS", 2)
    values = np.array([[0, 1, 2], [4, 8, np.nan]], np.float32)
    shown = np.asarray(open_picture(Image.fromarray(np.nan_to_num(values))).image)[..., 0]
    assert shown.tolist() == [[0, 32, 64], [128, 255, 0]]
    assert open_picture(Image.fromarray(values)).image.getpixel((2, 1)) == (0, 0, 0)


def test_a_good_picture_with_damaged_camera_data_is_a_good_picture() -> None:
    for name, make in corpus.metadata():
        if name.startswith("EXIF"):
            assert open_picture(make()).image.size == (60, 40), name


def test_every_file_of_the_corpus_is_a_picture_or_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    said = {name: outcome(make()) for name, make in corpus.files()}
    assert len(said) >= 400
    assert [(name, line) for name, line in said.items() if not is_one_line(line) or "The process" in line] == []
    assert capfd.readouterr() == ("", "")


def test_what_libraries_say_of_a_picture_goes_to_the_log(
    pool: Pool[Decoder], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "omnilmm")
    content = corpus.saved(corpus.drawing(), "TIFF", compression="tiff_lzw")
    with pytest.raises(ImageError, match="damaged"):
        open_picture(content[:200] + bytes(99) + content[299:])
    wait_until(lambda: "Traceback" in caplog.text)
    assert capfd.readouterr() == ("", "")


@needs_posix
@pytest.mark.parametrize("make", ["fifo", "device", "link"])
def test_a_path_that_is_no_file_is_not_waited_for(make: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if make == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if make == "device" else path)
    with pytest.raises(ImageError, match="No such picture file"):
        open_picture(path)
