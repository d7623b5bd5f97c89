"""Every golden test runs once per case of the chosen set, named after the set's folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import goldens


def pytest_configure(config: pytest.Config) -> None:
    if not _root(config).is_dir():
        raise pytest.UsageError(f"--golden: there is no folder {_root(config)}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    root = _root(metafunc.config)
    cases = goldens.model_cases(root)
    sizes = goldens.slicing_cases(root)
    prompts = goldens.prompt_cases(root)
    folders = goldens.folders(root)
    resamplers = [folder for folder in folders if goldens.kind_of(folder) == "resampler"]
    omnilmms = [folder for folder in folders if goldens.kind_of(folder) == "omnilmm"]
    talks = goldens.omnilmm_prompts(omnilmms)
    layers = goldens.nf4_layers([folder for folder in folders if goldens.kind_of(folder) == "nf4"])
    positions = [case for case in cases if case.has_positions]
    generations = [(c, name) for c in cases for name, entry in c.expected["generation"].items() if _has_ids(entry)]
    greedy = [(case, name) for case, name in generations if case.expected["generation"][name]["num_beams"] == 1]
    choices = {
        "folder": (folders, [folder.name for folder in folders]),
        "resampler_folder": (resamplers, [folder.name for folder in resamplers]),
        "omnilmm_prompt": (talks, [f"{talk.folder.name}/{talk.name}" for talk in talks]),
        "omnilmm_folder": (omnilmms, [folder.name for folder in omnilmms]),
        "nf4_layer": (layers, [f"{layer.folder.name}/{layer.name}" for layer in layers]),
        "case": (cases, [case.id for case in cases]),
        "picture_case": ([c for c in cases if c.has_pictures], [case.id for case in cases if case.has_pictures]),
        "positions_case": (positions, [case.id for case in positions]),
        "generation": (generations, [f"{case.id}/{name}" for case, name in generations]),
        "greedy": (greedy, [f"{case.id}/{name}" for case, name in greedy]),
        "slicing": (sizes, [f"slicing.json/{number}-{_by(size)}" for number, size in enumerate(sizes)]),
        "prompt": (prompts, [f"prompts.json/{model}/{number}" for number, (model, _) in enumerate(prompts)]),
    }
    for name, (values, ids) in choices.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values, ids=ids)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A set without, say, a slicing.json has nothing to check there: no test, rather than a skipped one."""
    empty = [item for item in items if item.name.endswith("[NOTSET]") and item.path.parent == goldens.OWN]
    if empty:
        config.hook.pytest_deselected(items=empty)
        items[:] = [item for item in items if item not in empty]


def _root(config: pytest.Config) -> Path:
    given = config.getoption("--golden")
    return Path(given).expanduser().resolve() if given else goldens.OWN


def _has_ids(entry: object) -> bool:
    return isinstance(entry, dict) and "ids" in entry


def _by(size: dict[str, list[int]]) -> str:
    width, height = size["image_size"]
    return f"{width}x{height}"
