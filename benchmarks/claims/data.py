"""The data sets of the claims beside the emoji, made from packages of Debian.

    python -m benchmarks.claims.data photographs textures
    python -m benchmarks.claims.data textures --deb supertuxkart-data_1.4+dfsg-2_all.deb

`textures`: about 700 of 256×256 px from `supertuxkart-data`, stone, wood, cloth, skies, signs; of its opaque pictures
those of 256 px and more, without normal maps, plain colours and near copies. GPL-3+, CC-BY-SA and other free licences,
by the package's copyright file. `photographs`: 157 of 720×360 px from `endless-sky-data`, landscapes and cities in the
public domain by its copyright file. Without `--deb` the package is fetched by `apt-get download`. Both are split by
picture, never by crops of one.
"""

import argparse
import hashlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.claims.trainings import DATA

#: The package of each.
PACKAGES = {"photographs": "endless-sky-data", "textures": "supertuxkart-data"}
#: Textures are cut to squares of this side; smaller ones are left out.
SIDE = 256
#: The photographs' names in their package.
PLACES = (Path(__file__).parent / "photographs.txt").read_text(encoding="utf-8").split()


def unpacked(package: str, deb: Path | None, folder: Path) -> Path:
    """The files of a package, in a folder."""
    if deb is None:
        subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
        deb = next(folder.glob(f"{package}_*.deb"))
    files = folder / "files"
    subprocess.run(["dpkg-deb", "-x", str(deb), str(files)], check=True)
    return files


def photographs(files: Path) -> Iterator[tuple[str, Image.Image]]:
    """Those in the public domain, by name."""
    found = {file.stem: file for file in sorted(files.rglob("images/land/*.jpg"))}
    for place in PLACES:
        with Image.open(found[place]) as image:
            yield place, image.convert("RGB")


def textures(files: Path) -> Iterator[tuple[str, Image.Image]]:
    """Square textures; of those that look alike at 8×8 px, the first."""
    seen: set[str] = set()
    data = files / "usr/share/games/supertuxkart/data"
    for file in sorted(file for room in ("library", "textures", "tracks") for file in (data / room).rglob("*.*")):
        if file.suffix.lower() not in {".jpg", ".png"}:
            continue
        with Image.open(file) as opened:
            if min(opened.size) < SIDE:
                continue
            image = opened.convert("RGBA")
        small = np.asarray(image.resize((32, 32)))
        if not _useful(small):
            continue
        coarse = np.asarray(Image.fromarray(small[..., :3]).resize((8, 8), Image.Resampling.BOX)) // 8
        key = hashlib.sha256(coarse.tobytes()).hexdigest()
        if key not in seen:
            seen.add(key)
            yield "-".join(file.relative_to(data).with_suffix("").parts), _square(image.convert("RGB"))


def _useful(small: np.ndarray) -> bool:
    """Whether a texture is opaque, no normal map (their mean is light blue) and not of one colour."""
    colours = small[..., :3].astype(np.float64)
    red, green, blue = colours.mean(axis=(0, 1))
    normals = blue > 190 and abs(red - 128) < 30 and abs(green - 128) < 30
    return bool(small[..., 3].min() >= 250 and not normals and colours.std(axis=(0, 1)).max() >= 6)


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=PACKAGES)
    parser.add_argument("--deb", type=Path, help="the package, if it is there already")
    options = parser.parse_args()
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            files = unpacked(PACKAGES[name], options.deb, Path(folder))
            (DATA / name).mkdir(parents=True, exist_ok=True)
            made = 0
            for stem, image in (photographs if name == "photographs" else textures)(files):
                image.save(DATA / name / f"{stem}.png")
                made += 1
        print(f"{made} {name} in {DATA / name}")


if __name__ == "__main__":
    main()
