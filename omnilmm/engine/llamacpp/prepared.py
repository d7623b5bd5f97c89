"""Everything short of loading a GGUF: finds the files, chooses a quantisation, downloads, and checks them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from omnilmm.catalog import ModelCard
from omnilmm.engine.events import Report
from omnilmm.engine.fetching import Hub, fetch_files, sizes_in, snapshot_of
from omnilmm.engine.llamacpp.child import Settings, physical_cores, require_package
from omnilmm.engine.llamacpp.engine import LlamaCppEngine, Sight
from omnilmm.engine.llamacpp.files import (
    WORKING_BYTES,
    Candidate,
    candidates,
    choose,
    is_gguf,
    is_mmproj,
    mmproj_of,
    parts_of,
    quant_of,
)
from omnilmm.engine.remote.dialects import LLAMA_CPP
from omnilmm.engine.remote.models import without_effect
from omnilmm.errors import CheckpointError, HardwareError, OptionsError
from omnilmm.gguf_header import Header, read_header
from omnilmm.hardware import AS_ASKED, Choice
from omnilmm.sentences import Sentence

SLOTS = 4  # answers at once; further questions wait
LONGEST = 8192  # tokens of a conversation: the KV caches of all slots are allocated at once
CPU = "cpu"


@dataclass(frozen=True)
class Files:
    """The files of a model on this disk: the language model (the first part, if it is split), and its mmproj."""

    model: Path
    mmproj: Path | None


@dataclass(frozen=True)
class PreparedGGUF:
    """A GGUF that has passed all checks short of loading it; implements `change.Loadable`.

    Attributes:
        card: the model's card.
        settings: settings of the server.
        dtype: the quantisation, and why.
        sight: how the model sees, if that is known.
        freed_bytes: memory that another model occupied meanwhile, expected to be free when this one is loaded.
    """

    card: ModelCard
    settings: Settings
    dtype: Choice
    sight: Sight | None
    freed_bytes: int = 0

    def load(self) -> LlamaCppEngine:
        """Start llama.cpp; may be called again once the engine is closed.

        Raises:
            HardwareError: Less memory is free than expected.
            OmniLMMError: It cannot load the files.
        """
        settings = self.settings
        if self.freed_bytes:  # the memory expected to be free may not be: the other model may have been on a GPU
            settings = replace(settings, slots=min(self._slots_now(), settings.slots))
        return LlamaCppEngine(settings, self.card, self.dtype, self.sight)

    def _slots_now(self) -> int:
        settings = self.settings
        files = Files(Path(settings.model), Path(settings.mmproj) if settings.mmproj else None)
        return _slots(self.card, files, read_header(files.model), settings.context, _free(0))


def prepare_gguf(
    card: ModelCard,
    device: str = "auto",
    dtype: str = "auto",
    *,
    quant: str | None = None,
    mmproj: str | None = None,
    revision: str | None = None,
    hub: Hub = "huggingface",
    offline: bool = False,
    report: Report | None = None,
    freed_bytes: int = 0,
    prefix_cache_mib: int = 1024,
) -> PreparedGGUF:
    """Find, download and check a GGUF.

    Args:
        card: the model's card.
        device: "auto" for what llama.cpp finds, or "cpu".
        dtype: "auto", or a quantisation.
        quant: quantisation; None for the best that fits.
        mmproj: file of the part that sees, where its name or place does not say it: a path, or a name in the
            repository.
        revision: commit, tag or branch of the hub.
        hub: the hub to download from.
        offline: do not access the network.
        report: called with the bytes on this disk and the total bytes during a download.
        freed_bytes: memory that another model occupies now.
        prefix_cache_mib: memory for tokens of conversations that no slot has any more.

    Raises:
        MissingPackageError: llama.cpp is not installed.
        CheckpointError: Files are missing, damaged, or do not belong together.
        HardwareError: No quantisation fits, or the one asked for does not.
        OptionsError: A dtype that is no quantisation, or another device.
    """
    require_package()
    wanted = _wanted(device, dtype, quant)
    free = _free(freed_bytes)
    place = Path(card.location).expanduser()
    if place.is_file():
        files = _with_mmproj(place, mmproj)
    elif place.is_dir():
        files = _in_folder(card, place, wanted, mmproj, free)
    else:
        files = _of_hub(card, revision, hub, offline, wanted, mmproj, free, report)
    header, sight = _check(files)
    context = min(card.context, LONGEST, int(header.of_architecture("context_length") or LONGEST))
    settings = Settings(
        str(files.model),
        str(files.mmproj or ""),
        alias=card.name,
        context=context,
        slots=_slots(card, files, header, context, free),
        threads=physical_cores(),
        cache_mib=prefix_cache_mib,
        on_cpu=device == CPU,
    )
    reason = AS_ASKED if wanted or place.is_file() else Sentence("best_quantisation_that_fits")
    found = Choice(quant_of(files.model.name) or "GGUF", reason)
    return PreparedGGUF(_card_here(card, files, header, context), settings, found, sight, freed_bytes)


def _wanted(device: str, dtype: str, quant: str | None) -> str | None:
    """Return the quantisation asked for, None for the best that fits; refuses what llama.cpp cannot be asked for."""
    if device not in ("auto", CPU):
        raise OptionsError("llama_cpp_chooses_device", device=device)
    if dtype != "auto" and not (quant_of(f"-{dtype}") and dtype.upper() not in ("BF16", "FP16", "FP32")):
        raise OptionsError("gguf_has_quantisations", dtype=dtype)
    return quant or (None if dtype == "auto" else dtype)


def _card_here(card: ModelCard, files: Files, header: Header, context: int) -> ModelCard:
    """Return the model's card with what it can do in llama.cpp, and with these files."""
    return card.model_copy(
        update={
            "context": context,
            "max_new_tokens": max(min(card.max_new_tokens, context // 2), 1),
            "pictures": files.mmproj is not None,
            "parameters": card.parameters or header.parameters,
            "beam_search": False,
            "without_effect": without_effect(LLAMA_CPP),
            "video": False,
            "max_slices": None,
        }
    )


def _free(freed_bytes: int) -> int | None:
    from omnilmm.engine.placement.device_memory import free_memory

    free = free_memory(CPU)
    return None if free is None else free + freed_bytes


def _with_mmproj(file: Path, mmproj: str | None) -> Files:
    """Return a file, and the mmproj asked for or the one in the same folder."""
    if is_mmproj(file.name) or (is_gguf(file.name) and read_header(file).is_mmproj):
        raise CheckpointError("mmproj_as_model", path=file)
    there = {path.name for path in file.parent.iterdir()}
    absent = [name for name in parts_of(file.name) if name not in there]
    if absent:
        raise CheckpointError("gguf_parts_missing", source=file.parent, missing=absent)
    first = file.with_name(parts_of(file.name)[0])
    if mmproj is not None:
        return Files(first, _given(mmproj, file.parent))
    return Files(first, _fitting_mmproj(first, [file.parent / name for name in sorted(there) if is_mmproj(name)]))


def _fitting_mmproj(model: Path, found: list[Path]) -> Path | None:
    """Return the mmproj whose features fit the model, the one with a similar name if several do."""
    if len(found) < 2:
        return found[0] if found else None
    width = read_header(model).width
    fitting = [path for path in found if read_header(path).width in (0, width)] or found
    preferred = mmproj_of("", [path.name for path in fitting])
    common = max(fitting, key=lambda path: len(_common(path.name.lower().replace("mmproj-", ""), model.name.lower())))
    alike = _common(common.name.lower().replace("mmproj-", ""), model.name.lower())
    return common if len(alike) > 3 else model.with_name(preferred or common.name)


def _common(one: str, other: str) -> str:
    count = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:count]


def _given(mmproj: str, folder: Path) -> Path:
    path = Path(mmproj).expanduser()
    for place in (path, folder / mmproj):
        if place.is_file():
            return place
    found = sorted(name.name for name in folder.iterdir() if is_mmproj(name.name))
    raise CheckpointError("no_such_mmproj", source=folder, mmproj=mmproj, found=found or [Sentence("none")])


def _in_folder(card: ModelCard, folder: Path, quant: str | None, mmproj: str | None, free: int | None) -> Files:
    from omnilmm.hub_cache import checkpoint_folder

    folder = checkpoint_folder(folder)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if is_gguf(path.name) and path.is_file()}
    seen = mmproj_of(str(folder), sizes)
    more = WORKING_BYTES + (sizes[seen] if seen else 0)
    first = folder / choose(card.title, candidates(str(folder), sizes), quant, more, free).names[0]
    if mmproj is not None:
        return Files(first, _given(mmproj, folder))
    return Files(first, _fitting_mmproj(first, [folder / name for name in sorted(sizes) if is_mmproj(name)]))


def _of_hub(
    card: ModelCard,
    revision: str | None,
    hub: Hub,
    offline: bool,
    quant: str | None,
    mmproj: str | None,
    free: int | None,
    report: Report | None,
) -> Files:
    """Download the two files, unless they are here."""
    local = Path(mmproj).expanduser() if mmproj and Path(mmproj).expanduser().is_file() else None
    revision = revision or card.revision
    folder = snapshot_of(card.source, revision, hub)
    here = sizes_in(folder) if folder else {}
    picked: list[str] = []

    def select(sizes: Mapping[str, int]) -> list[str]:
        seen = None if local else mmproj_of(card.source, sizes, mmproj)
        more = WORKING_BYTES + (sizes.get(seen, 0) if seen else 0)
        found = candidates(card.source, sizes)
        there = [one for one in found if all(sizes[name] == here.get(name) for name in one.names)]
        try:  # one that is here already, if it fits
            chosen = choose(card.title, there if there and quant is None else found, quant, more, free)
        except HardwareError:
            chosen = choose(card.title, found, quant, more, free)
        picked[:] = [*chosen.names, *([seen] if seen else [])]
        return picked

    folder = fetch_files(
        card.source, select, title=card.title, revision=revision, hub=hub, offline=offline, report=report
    )
    seen = local or next((folder / name for name in picked if is_mmproj(name)), None)
    return Files(folder / picked[0], seen)


def _check(files: Files) -> tuple[Header, Sight | None]:
    """Refuse files that are cut off or do not belong together, before llama.cpp reads them."""
    header = read_header(files.model)
    for part in parts_of(files.model.name)[1:]:
        read_header(files.model.with_name(part))
    if files.mmproj is None:
        return header, None
    seeing = read_header(files.mmproj)
    if not seeing.is_mmproj:
        raise CheckpointError("no_mmproj", path=files.mmproj)
    if seeing.width and header.width and seeing.width != header.width:
        raise CheckpointError(
            "mmproj_of_another",
            mmproj=files.mmproj.name,
            name=files.model.name,
            width=seeing.width,
            expected=header.width,
        )
    return header, Sight.of(seeing)


def _slots(card: ModelCard, files: Files, header: Header, context: int, free: int | None) -> int:
    """Return how many answers at once fit the memory, and check that one does."""
    whole = [files.model.with_name(name) for name in parts_of(files.model.name)]
    size = sum(path.stat().st_size for path in [*whole, *([files.mmproj] if files.mmproj else [])])
    each = header.kv_bytes_per_token() * context
    if free is None:
        return SLOTS
    one = Candidate(quant_of(files.model.name), (files.model.name,), size)
    choose(card.title, [one], None, WORKING_BYTES, free)
    return max(min((free - size - WORKING_BYTES) // max(each, 1), SLOTS), 1)
