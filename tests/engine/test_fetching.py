"""Fetching from a hub on this machine: whole, broken off, refused; and what is found without network."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from omnilmm.engine import fetching
from omnilmm.engine.fetching import cache, cached, download, fetch
from omnilmm.errors import CheckpointError, ModelNotFoundError
from omnilmm.hardware import gib
from tests.engine.local_hub import ENDLESS, LocalHub, digest, serving

ROOT = Path(__file__).parents[2]
SOURCE, TITLE = "owner/model", "A Model"
PARTS = ("model-1-of-2.safetensors", "model-2-of-2.safetensors")


def content(size: int, seed: int) -> bytes:
    return (bytes(range(seed, 251)) * (size // 200))[:size]


def files() -> dict[str, bytes]:
    return {
        "config.json": b'{"model_type": "minicpmv"}',
        "model.safetensors.index.json": json.dumps({"weight_map": {"a": PARTS[0], "b": PARTS[1]}}).encode(),
        PARTS[0]: content(300_000, 1),
        PARTS[1]: content(200_000, 2),
        "tokenizer.json": content(5_000, 3),
        "tokenizer.model": content(1_000, 4),
        "vocab.txt": b"a\nb\n",
        "chat_template.jinja": b"{{ messages }}",
        "empty.json": b"",
        "modeling_minicpmv.py": b"raise SystemExit('code of the hub ran')",
        "README.md": b"# A Model",
        ".gitattributes": b"*.bin lfs",
        "pytorch_model.bin": content(400_000, 5),
        "pytorch_model.bin.index.json": b"{}",
        "figures/plot.json": b"{}",
    }


WANTED = set(files()) - {
    "modeling_minicpmv.py",
    "README.md",
    ".gitattributes",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "figures/plot.json",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    # Whatever the machine that tests is set to.
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with serving(LocalHub(files())) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "home" / "hub" / "models--owner--model"


def fetched(**arguments: Any) -> Path:
    return fetch(SOURCE, title=TITLE, **arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith((".", "--model.", "disk."))
    return message


def break_off(hub: LocalHub, **cut_at: int) -> str:
    """A first call that ends in the middle of the weights."""
    hub.cut_at = {PARTS[0]: 123_456} | cut_at
    with pytest.raises(CheckpointError) as error:
        fetched()
    hub.cut_at = {}
    hub.requests.clear()
    return one_line(error)


def refuse_config(folder: Path) -> None:
    assert (folder / "config.json").is_file() and not (folder / "model.safetensors").exists()
    raise CheckpointError("of no use")


def partial_of(hub: LocalHub, repository: Path) -> Path:
    """Where the first part of the weights lies as long as it is not whole."""
    return repository / "blobs" / f"{digest(PARTS[0], hub.files[PARTS[0]])}.incomplete"


# Whole


def test_a_model_is_fetched_whole_and_without_its_code(hub: LocalHub, repository: Path) -> None:
    folder = fetched()
    assert folder == repository / "snapshots" / hub.commit
    assert contents(folder) == {name: hub.files[name] for name in WANTED}
    assert hub.asked == WANTED - {"empty.json"}
    assert cached(SOURCE) == folder


def test_the_library_of_the_hub_finds_what_was_fetched(hub: LocalHub, tmp_path: Path) -> None:
    folder = fetched()
    cache = tmp_path / "home" / "hub"
    assert huggingface_hub.snapshot_download(SOURCE, cache_dir=cache, local_files_only=True) == str(folder)
    assert huggingface_hub.try_to_load_from_cache(SOURCE, "config.json", cache_dir=cache) == str(folder / "config.json")
    (found,) = huggingface_hub.scan_cache_dir(cache).repos
    assert (found.repo_id, found.size_on_disk) == (SOURCE, sum(len(hub.files[name]) for name in WANTED))


def test_what_the_library_of_the_hub_fetched_is_not_fetched_again(hub: LocalHub, tmp_path: Path) -> None:
    folder = huggingface_hub.snapshot_download(SOURCE, cache_dir=tmp_path / "home" / "hub", endpoint=hub.endpoint)
    hub.requests.clear()
    assert str(cached(SOURCE)) == folder
    assert str(fetched()) == folder
    assert hub.requests == []


def test_progress_grows_in_bytes_and_ends_at_the_total(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "REPORT_S", 0.001)
    reports: list[tuple[int, int]] = []
    fetched(report=lambda done, total: reports.append((done, total)))
    done = [report[0] for report in reports]
    total = sum(len(hub.files[name]) for name in WANTED)
    assert {report[1] for report in reports} == {total}
    assert done == sorted(done)
    assert done[-1] == total
    assert any(0 < bytes_done < total for bytes_done in done)


def test_nothing_is_transferred_and_nothing_reported_the_second_time(hub: LocalHub) -> None:
    folder = fetched()
    hub.requests.clear()
    assert fetched(report=lambda *_: pytest.fail("there is nothing to wait for")) == folder
    assert hub.requests == []


def test_pickles_are_fetched_where_there_is_nothing_else(hub: LocalHub) -> None:
    hub.files = {name: hub.files[name] for name in ("config.json", "pytorch_model.bin")}
    assert contents(fetched()) == hub.files


def test_shards_are_fetched_without_an_index(hub: LocalHub, repository: Path) -> None:
    """Their names say how many they are; pickles beside them are left."""
    pickles = {"pytorch_model-1-of-1.bin": content(1_000, 6)}
    hub.files = {name: hub.files[name] for name in ("config.json", *PARTS)} | pickles
    hub.cut_at = {PARTS[1]: 1_000}
    with pytest.raises(CheckpointError, match=r"was interrupted in model-2-of-2\.safetensors"):
        fetched()
    assert cached(SOURCE) is None, "one of two is not all"
    hub.cut_at = {}
    folder = fetched()
    assert contents(folder) == {name: hub.files[name] for name in ("config.json", *PARTS)}
    assert cached(SOURCE) == folder


def test_a_shard_that_the_hub_does_not_have_is_said_before_the_others_come(hub: LocalHub) -> None:
    hub.files = {name: hub.files[name] for name in ("config.json", PARTS[0])}
    with pytest.raises(CheckpointError, match=r"it has no model-2-of-2\.safetensors of transformers") as error:
        fetched()
    assert one_line(error) and not hub.asked


def test_a_newer_commit_takes_only_the_files_that_changed(hub: LocalHub) -> None:
    fetched()
    hub.requests.clear()
    hub.commit, hub.files["config.json"] = "2" * 40, b'{"model_type": "minicpmv", "version": 2.6}'
    folder = fetched()
    assert contents(folder) == {name: hub.files[name] for name in WANTED}
    assert hub.asked == {"config.json"}
    assert cached(SOURCE) == folder


def test_a_revision_can_be_pinned(hub: LocalHub, repository: Path) -> None:
    folder = fetched(revision=hub.commit)
    assert cached(SOURCE, hub.commit) == folder
    assert cached(SOURCE) is None  # nobody has asked what the newest is
    assert not (repository / "refs").exists()


def test_where_links_cannot_be_made_files_are_moved(hub: LocalHub, repository: Path, monkeypatch: Any) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    folder = fetched()
    assert contents(folder) == {name: hub.files[name] for name in WANTED}
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert contents(repository / "blobs") == {}
    hub.requests.clear()
    assert fetched() == folder
    assert hub.requests == []


def test_two_at_once_fetch_every_file_once(hub: LocalHub) -> None:
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(fetched(report=lambda *_: None))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 3
    paths = [request.path for request in hub.requests]
    assert len(paths) == len(set(paths))


def test_the_token_goes_to_the_hub_and_not_to_its_storage(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetched()
    for request in hub.requests:
        assert request.token == (None if "/storage/" in request.path else "Bearer hf_secret")


def test_the_environment_is_read_by_a_program_too(hub: LocalHub, tmp_path: Path) -> None:
    """The same through a process, as users start it."""
    code = (
        "import sys; from omnilmm.engine.fetching import fetch\n"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)\n"
        "print(fetch('owner/model', title='A Model'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(Path(done.stdout.strip())) == {name: hub.files[name] for name in WANTED}
    assert done.stderr == ""


# Broken off


def test_a_download_that_broke_off_goes_on_where_it_stopped(hub: LocalHub, repository: Path) -> None:
    message = break_off(hub)
    assert "was interrupted in model-1-of-2.safetensors" in message
    assert "try again, it resumes where it stopped" in message
    partial = partial_of(hub, repository)
    assert partial.stat().st_size == 123_456
    folder = fetched()
    assert hub.ranges_of(PARTS[0]) == ["bytes=123456-"]
    assert hub.asked <= set(PARTS)
    assert contents(folder) == {name: hub.files[name] for name in WANTED}
    assert not partial.exists()


def test_weights_come_last(hub: LocalHub) -> None:
    """So that a checkpoint whose weights are all there is whole."""
    break_off(hub, **{"tokenizer.json": 10})
    hub.cut_at = {"tokenizer.json": 20}
    with pytest.raises(CheckpointError, match=r"was interrupted in tokenizer\.json"):
        fetched()
    assert hub.asked.isdisjoint(PARTS)


def test_progress_goes_on_where_it_stopped(hub: LocalHub) -> None:
    break_off(hub)
    reports: list[int] = []
    fetched(report=lambda done, _: reports.append(done))
    assert reports[0] > 123_456


@pytest.mark.parametrize("moment", range(3))
@pytest.mark.parametrize(("before", "after"), [("partial", "blob"), ("blob", "pointer")])  # the second on Windows
def test_a_file_that_is_moved_while_progress_is_measured_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, moment: int
) -> None:
    file, calls, size_of = download.File("a", 9, tmp_path / "blob", tmp_path / "pointer"), count(), download.size_of
    getattr(file, before).write_bytes(bytes(9))

    def moved(path: Path) -> int:
        if next(calls) == moment:
            getattr(file, before).replace(getattr(file, after))
        return size_of(path)

    monkeypatch.setattr(download, "size_of", moved)
    assert file.here == 9


def test_a_hub_without_ranges_sends_the_file_again(hub: LocalHub) -> None:
    break_off(hub)
    hub.ranges = False
    assert (fetched() / PARTS[0]).read_bytes() == hub.files[PARTS[0]]


def test_short_interruptions_are_not_told(hub: LocalHub) -> None:
    hub.busy = download.TRIES - 1
    fetched()
    assert hub.busy <= 0


def test_a_report_that_raises_stops_and_keeps_what_came(hub: LocalHub, repository: Path, monkeypatch: Any) -> None:
    def stop(done: int, _: int) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    hub.cut_at = dict.fromkeys(PARTS, 123_456)  # stays unfinished whoever is faster
    monkeypatch.setattr(download, "REPORT_S", 0.001)
    monkeypatch.setattr(download, "PAUSE_S", 60.0)  # and nobody waits for the next try
    with pytest.raises(KeyboardInterrupt):
        fetched(report=stop)
    assert [path.stat().st_size for path in repository.glob("blobs/*.incomplete")] != []
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fetching")]


def test_a_damaged_file_is_named_and_fetched_again(hub: LocalHub) -> None:
    hub.spoilt = {PARTS[1]}
    with pytest.raises(CheckpointError, match=f"{PARTS[1]} of A Model is damaged: its checksum") as error:
        fetched()
    one_line(error)
    hub.spoilt = set()
    assert (fetched() / PARTS[1]).read_bytes() == hub.files[PARTS[1]]


def test_a_small_file_is_checked_too(hub: LocalHub) -> None:
    hub.spoilt = {"tokenizer.json"}
    with pytest.raises(CheckpointError, match=r"tokenizer\.json of A Model is damaged"):
        fetched()


def test_a_part_left_over_that_is_wrong_is_noticed(hub: LocalHub, repository: Path) -> None:
    break_off(hub)
    partial = partial_of(hub, repository)
    partial.write_bytes(b"x" * 1000)
    with pytest.raises(CheckpointError, match="is damaged"):
        fetched()
    partial.write_bytes(b"x" * 1_000_000)  # longer than the file
    assert (fetched() / PARTS[0]).read_bytes() == hub.files[PARTS[0]]


def test_a_file_in_the_cache_that_is_cut_off_is_fetched_again(hub: LocalHub) -> None:
    folder = fetched()
    weights = folder / PARTS[0]
    weights.resolve().write_bytes(b"cut off")
    assert fetched() == folder
    assert weights.read_bytes() == hub.files[PARTS[0]]


def test_a_file_that_does_not_end_does_not_fill_the_disk(hub: LocalHub) -> None:
    hub.endless = {PARTS[1]}
    with pytest.raises(CheckpointError, match=f"{PARTS[1]} of A Model is damaged"):
        fetched()
    assert hub.surplus < ENDLESS


# The disk


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(size, 0, size))  # type: ignore[attr-defined]


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(
    hub: LocalHub, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "gib", lambda size: f"{size} bytes")
    total = sum(len(hub.files[name]) for name in WANTED)
    free(monkeypatch, total - 1)
    with pytest.raises(CheckpointError) as error:
        fetched()
    assert one_line(error) == (
        f"A Model needs {total} bytes, {total - 1} bytes free in {repository}: free some space or set HF_HOME to "
        "another disk."
    )
    assert hub.requests == []
    free(monkeypatch, total)
    fetched()


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_disk_that_fills_up_meanwhile_is_one_line_and_the_rest_comes_later(hub: LocalHub) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # no file may grow beyond
    try:
        with pytest.raises(CheckpointError, match=r"cannot be written to .*Free some space, or set HF_HOME") as error:
            fetched()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    one_line(error)
    hub.requests.clear()
    assert contents(fetched()).keys() >= {"config.json", *PARTS}
    assert "config.json" not in hub.asked


def test_what_is_refused_by_its_config_needs_no_room(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1_000)
    with pytest.raises(CheckpointError, match="of no use"):
        fetched(check=refuse_config)
    assert hub.asked == {"config.json"} and not cached(SOURCE)


def test_only_what_is_missing_has_to_fit(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    break_off(hub)
    free(monkeypatch, 300_000 - 123_456 + 200_000)
    fetched()


def test_sizes_are_reported_in_gib() -> None:
    assert gib(17_072_000_000) == "15.9 GiB"


def test_a_folder_that_cannot_be_written_is_one_line(hub: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file, no folder")
    with pytest.raises(CheckpointError, match=r"A Model cannot be written to .*set HF_HOME to another folder") as error:
        fetched()
    one_line(error)


# Refused


def test_a_licence_to_be_accepted(hub: LocalHub) -> None:
    hub.gated = True
    with pytest.raises(
        CheckpointError, match=r"licence .* https://huggingface\.co/owner/model, .*`hf auth login`"
    ) as e:
        fetched()
    assert "HF_TOKEN" in one_line(e)


@pytest.mark.parametrize("source", ["owner/modell", "a--b/c", "owner/.."])
def test_an_unknown_model(hub: LocalHub, source: str) -> None:
    with pytest.raises(ModelNotFoundError, match=source) as error:
        fetch(source, title=TITLE)
    one_line(error)


@pytest.mark.parametrize(
    ("refusal", "error", "says"),
    [
        ((401, "", ""), ModelNotFoundError, "There is no model 'owner/model'"),
        ((401, "GatedRepo", ""), CheckpointError, "licence"),
        ((401, "", "Invalid credentials in Authorization header"), CheckpointError, "does not accept your token"),
        ((403, "", "Access to this resource is disabled."), CheckpointError, "it answered with status 403"),
        ((503, "", ""), CheckpointError, "it answered with status 503"),
    ],
)
def test_other_answers_of_the_hub(
    hub: LocalHub, refusal: tuple[int, str, str], error: type[Exception], says: str
) -> None:
    hub.refusal = refusal
    with pytest.raises(error, match=says) as raised:
        fetched()
    one_line(raised)


@pytest.mark.parametrize("revision", ["v9", "3" * 40, "refs/pr/1"])
def test_an_unknown_revision(hub: LocalHub, revision: str) -> None:
    with pytest.raises(ModelNotFoundError, match=f"owner/model has no revision '{revision}'") as error:
        fetched(revision=revision)
    one_line(error)
    assert cached(SOURCE, revision) is None


@pytest.mark.parametrize("form", ["{}/ ", " {}// ", '"{}"', "{}/\n"])
def test_blanks_around_the_address_of_a_mirror_do_not_count(hub: LocalHub, monkeypatch: Any, form: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", form.format(hub.endpoint))
    assert (fetched() / "config.json").is_file()


def test_nobody_listens(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"mirror http://127\.0\.0\.1:9 \(set by HF_ENDPOINT\)") as error:
        fetched()
    assert "Check the network and HF_ENDPOINT" in one_line(error)


def test_without_a_mirror_none_is_spoken_of(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")
    monkeypatch.delenv("HF_ENDPOINT")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("offline: huggingface.co")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be fetched from the hub \(owner/model\): offline") as error:
        fetched()
    assert "HF_ENDPOINT" not in one_line(error)


def test_a_web_page_in_between_is_no_hub(hub: LocalHub) -> None:
    hub.portal = True
    with pytest.raises(CheckpointError, match="what answers there is no hub") as error:
        fetched()
    one_line(error)


def test_a_listed_file_that_is_gone(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    info = hub.info()
    monkeypatch.setattr(LocalHub, "info", lambda _: info)
    del hub.files["tokenizer.json"]
    with pytest.raises(CheckpointError, match="it answered with status 404") as error:
        fetched()
    one_line(error)


@pytest.mark.parametrize("absent", ["config.json", "weights"])
def test_a_repository_that_is_no_checkpoint(hub: LocalHub, absent: str) -> None:
    hub.files = {"config.json": b"{}"} if absent == "weights" else {"model.safetensors": b"", "ggml.gguf": b""}
    with pytest.raises(CheckpointError, match=f"owner/model is not a checkpoint .* no {absent}") as error:
        fetched()
    one_line(error)
    assert hub.requests == []


def test_names_that_lead_out_of_the_folder_are_left_out(hub: LocalHub, tmp_path: Path) -> None:
    outside = ["../../outside.json", "/tmp/outside.json", "..\\outside.json", "C:outside.json", "..json"]  # noqa: S108
    hub.files |= dict.fromkeys(outside, b"{}")
    assert set(contents(fetched())) == WANTED
    assert not list(tmp_path.rglob("*outside*"))


@pytest.mark.parametrize("digest", ["../../outside", "", None, "f" * 39])
def test_digests_that_lead_out_of_the_folder_are_refused(hub: LocalHub, monkeypatch: Any, digest: str | None) -> None:
    listing = hub.info()
    for sibling in listing["siblings"]:
        sibling["blobId"] = digest
    monkeypatch.setattr(LocalHub, "info", lambda _: listing)
    with pytest.raises(CheckpointError, match="no hub"):
        fetched()


# Without network


def test_offline_uses_what_is_there_and_asks_nobody(hub: LocalHub) -> None:
    folder = fetched()
    hub.requests.clear()
    hub.portal = True  # whoever asks fails
    assert fetched(offline=True) == folder
    assert hub.requests == []


def test_offline_and_not_there(hub: LocalHub) -> None:
    with pytest.raises(CheckpointError, match=r"A Model \(owner/model\) is not on this disk") as error:
        fetched(offline=True)
    assert "without --offline" in one_line(error)


@pytest.mark.parametrize("absent", ["config.json", PARTS[1]])
def test_offline_and_half_there_names_what_is_missing(hub: LocalHub, absent: str) -> None:
    folder = fetched()
    (folder / absent).unlink()
    assert cached(SOURCE) is None
    with pytest.raises(CheckpointError, match=f"is incomplete on this disk: {absent} is missing") as error:
        fetched(offline=True)
    one_line(error)


def test_offline_after_a_download_that_broke_off(hub: LocalHub) -> None:
    break_off(hub)
    with pytest.raises(CheckpointError, match=f"incomplete on this disk: {PARTS[0]} is missing"):
        fetched(offline=True)


def test_a_link_to_nothing_is_missing(hub: LocalHub) -> None:
    folder = fetched()
    (folder / PARTS[0]).resolve().unlink()
    assert cached(SOURCE) is None


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": 1}'])
def test_an_index_that_cannot_be_read_is_missing(hub: LocalHub, index: str) -> None:
    folder = fetched()
    (folder / "model.safetensors.index.json").resolve().write_text(index)
    assert cached(SOURCE) is None


def test_the_setting_of_the_hub_means_offline_too(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="nothing is fetched offline"):
        fetched()


@pytest.mark.parametrize("trouble", ["network", "portal", "gone"])
def test_a_whole_copy_does_where_the_hub_does_not(
    hub: LocalHub, trouble: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = fetched()
    if trouble == "network":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub.portal = trouble == "portal"
    hub.source = "owner/elsewhere" if trouble == "gone" else hub.source
    with caplog.at_level(logging.WARNING):
        assert fetched() == folder
    assert "Using the copy on this disk instead" in caplog.text


def test_an_older_copy_does_while_the_newer_breaks_off(hub: LocalHub, caplog: pytest.LogCaptureFixture) -> None:
    older = fetched()
    hub.commit, hub.files[PARTS[0]], hub.cut_at = "2" * 40, content(300_000, 9), {PARTS[0]: 1000}
    assert fetched() == older
    assert "was interrupted" in caplog.text
    assert cached(SOURCE) == older
    hub.cut_at = {}
    assert fetched() == older.with_name("2" * 40)


# ModelScope: with which arguments its package is called, no more


@pytest.fixture
def modelscope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in with the signatures of modelscope 1.40; writes down how it is called."""
    package = tmp_path / "packages" / "modelscope" / "hub"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "api.py").write_text(
        "class HubApi:\n"
        "    def get_model_files(self, model_id, revision=None, root=None, recursive=True, **kwargs):\n"
        "        names = ('config.json', 'model.safetensors', 'pytorch_model.bin', 'modeling.py')\n"
        "        return [{'Path': name, 'Size': 10} for name in names]\n"
    )
    (package / "snapshot_download.py").write_text(
        "from pathlib import Path\n"
        "calls = []\n"
        "def snapshot_download(model_id=None, revision=None, cache_dir=None, user_agent=None, local_files_only=False,\n"
        "                      allow_patterns=None, progress_callbacks=None):\n"
        "    folder = Path(__file__).parents[2] / 'snapshot'\n"
        "    if local_files_only:\n"
        "        if not folder.is_dir():\n"
        "            raise RuntimeError('CacheNotFound')\n"
        "        return str(folder)\n"
        "    calls.append((model_id, revision, allow_patterns))\n"
        "    folder.mkdir(exist_ok=True)\n"
        "    for name in allow_patterns:\n"
        "        callback = progress_callbacks[0](name, 10)\n"
        "        (folder / name).write_bytes(bytes(10))\n"
        "        callback.update(4)\n"
        "        callback.update(6)\n"
        "        callback.end()\n"
        "    return str(folder)\n"
    )
    for name in [name for name in sys.modules if name.split(".")[0] == "modelscope"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield tmp_path / "packages" / "snapshot"
    for name in [name for name in sys.modules if name.split(".")[0] == "modelscope"]:
        del sys.modules[name]


def test_modelscope_is_asked_for_the_same_files(modelscope: Path) -> None:
    from importlib import import_module

    reports: list[tuple[int, int]] = []
    assert cached(SOURCE, hub="modelscope") is None
    folder = fetched(hub="modelscope", revision="v1", report=lambda *report: reports.append(report))
    calls = import_module("modelscope.hub.snapshot_download").calls
    assert calls == [(SOURCE, "v1", ["config.json", "model.safetensors"])]
    assert reports == [(4, 20), (10, 20), (14, 20), (20, 20)]
    assert folder == modelscope == cached(SOURCE, hub="modelscope") == fetched(hub="modelscope", offline=True)


def test_modelscope_tells_how_far_it_is_one_thread_at_a_time(modelscope: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, alone = threading.Lock(), []
    monkeypatch.setattr(fetching.modelscope, "threading", SimpleNamespace(Lock=lambda: lock))
    fetched(hub="modelscope", report=lambda *_: alone.append(lock.locked()))
    assert alone == [True] * 4


def test_modelscope_is_asked_for_the_config_first(modelscope: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import import_module

    free(monkeypatch, 1)
    with pytest.raises(CheckpointError, match="of no use"):
        fetched(hub="modelscope", check=refuse_config)
    assert import_module("modelscope.hub.snapshot_download").calls == [(SOURCE, None, ["config.json"])]


def test_modelscope_needs_a_disk_too(modelscope: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 19)
    with pytest.raises(CheckpointError, match="set MODELSCOPE_CACHE"):
        fetched(hub="modelscope")


def test_modelscope_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "find_spec", lambda _: None)
    with pytest.raises(CheckpointError, match="pip install modelscope"):
        fetched(hub="modelscope")
    assert cached(SOURCE, hub="modelscope") is None
