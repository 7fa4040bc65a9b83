"""Data sets of the claims, from packages as small as can be."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.claims.data import PLACES, photographs, textures

SOME = "usr/share/games/supertuxkart/data"


def picture(kind: str) -> Image.Image:
    """A picture of 300×260 px."""
    generator = np.random.default_rng(0)
    match kind:
        case "stone":
            pixels = generator.integers(0, 255, (260, 300, 3))
        case "normals":
            pixels = np.full((260, 300, 3), (128, 128, 250)) + generator.integers(-10, 5, (260, 300, 3))
        case "plain":
            pixels = np.full((260, 300, 3), 90)
        case "leaf":
            pixels = generator.integers(0, 200, (260, 300, 4))
        case _:
            pixels = 255 - generator.integers(0, 255, (260, 300, 3))
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("kind", ["normals", "plain", "leaf"])
def test_textures_of_no_use_are_left_out(tmp_path, kind):
    folder = tmp_path / SOME / "textures"
    folder.mkdir(parents=True)
    picture("stone").save(folder / "stone.png")
    picture(kind).save(folder / "other.png")
    assert [name for name, _ in textures(tmp_path)] == ["textures-stone"]


def test_textures_are_square_and_different(tmp_path):
    folder = tmp_path / SOME / "tracks" / "cave"
    folder.mkdir(parents=True)
    picture("stone").save(folder / "a.png")
    picture("stone").save(folder / "b.png")
    picture("sand").save(folder / "c.png")
    picture("sand").resize((200, 200)).save(folder / "small.png")
    made = dict(textures(tmp_path))
    assert [*made] == ["tracks-cave-a", "tracks-cave-c"]
    assert {image.size for image in made.values()} == {(256, 256)}


def test_photographs_are_those_in_the_public_domain(tmp_path):
    folder = tmp_path / "usr/share/games/endless-sky/images/land"
    folder.mkdir(parents=True)
    for name in (*PLACES, "bwerner0"):
        Image.new("RGB", (72, 36)).save(folder / f"{name}.jpg")
    assert [name for name, _ in photographs(tmp_path)] == PLACES
    assert len(PLACES) == 157
