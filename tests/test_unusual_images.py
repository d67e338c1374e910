"""Images and masks of every kind: bombs, sixteen bits, numbers with a point, photographs that lie on their side, several in one file."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hostile_files import png_of_size
from PIL import Image

from nandlib.data.images import as_image, load_image, load_mask, pixel_key
from nandlib.data.layouts.base import mask_values
from nandlib.data.maps import MapFolder
from nandlib.errors import DataError


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [12_000, 30_000, 50_000])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_unpacked(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_of_size(side, side))
    with pytest.raises(DataError, match=r"bomb\.png cannot be read as an image"):
        load_image(tmp_path / "bomb.png")


def test_numbers_with_a_point_are_scaled_by_their_range(tmp_path):
    for name, values, expected in (("one", [0.0, 0.5, 1.0], [0, 128, 255]), ("many", [0.0, 127.5, 255.0], [0, 128, 255])):
        tifffile.imwrite(tmp_path / f"{name}.tiff", np.array([values], np.float32))
        assert np.asarray(load_image(tmp_path / f"{name}.tiff"))[0, :, 0].tolist() == expected
    for name, values in (("wide", [0.0, 4000.0]), ("below", [-1.0, 1.0]), ("none", [np.nan, 1.0])):
        tifffile.imwrite(tmp_path / f"{name}.tiff", np.array([values], np.float32))
        with pytest.raises(
            DataError, match=rf"{name}\.tiff cannot be read as an image \(numbers from .*: scale them to 0\.\.1 or 0\.\.255"
        ):
            load_image(tmp_path / f"{name}.tiff")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = Image.new("I;16", (5, 4), 65535) if mode == "I;16" else Image.new("RGB", (5, 4), "white").convert(mode)
    image.save(tmp_path / "x.tif")
    found = load_image(tmp_path / "x.tif")
    assert found.mode == "RGB" and found.size == (5, 4) and np.asarray(found).min() > 250


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_turned_photograph_is_read_upright(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn, which viewers undo
    lying = Image.new("L", (30, 20))
    lying.paste(255, (0, 0, 15, 20))
    lying.save(tmp_path / f"x{suffix}", exif=exif)
    found = load_image(tmp_path / f"x{suffix}")
    assert found.size == (20, 30) and np.asarray(found)[2].min() > 200 > 50 > np.asarray(found)[-2].max()
    assert load_mask(tmp_path / f"x{suffix}").shape == (30, 20)
    lying.save(tmp_path / "x.tif", exif=exif)
    with pytest.raises(DataError, match=r"x\.tif cannot be read as an image \(a TIFF that lies on its side\)"):
        load_image(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("suffix", "options"), [(".png", {}), (".tif", {"compression": "tiff_lzw"}), (".tif", {"compression": "tiff_deflate"})]
)
def test_pixels_that_are_damaged_are_refused(tmp_path, suffix, options):
    path, pixels = tmp_path / f"x{suffix}", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 20] = bytes(255 - value for value in content[half : half + 20])
    path.write_bytes(content)
    for read in (load_image, load_mask):
        with pytest.raises(DataError):
            read(path)
    for given in (path, Image.open(path)):
        with pytest.raises(DataError, match=rf"x{suffix} cannot be read as an image"):
            as_image(given)


def test_what_was_made_of_a_photograph_is_taken_as_it_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 20)).save(tmp_path / "x.jpg", exif=exif)
    with Image.open(tmp_path / "x.jpg") as picture:
        assert as_image(picture).size == (20, 40)
        assert as_image(picture.crop((0, 0, 40, 20))).size == (40, 20)
        assert as_image(picture.rotate(-90, expand=True)).size == (20, 40)


def test_an_image_is_the_same_however_it_is_given(tmp_path):
    grey = np.linspace(0, 1, 20).reshape(4, 5)
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray((grey * 65535).astype(np.uint16)).save(tmp_path / "x.png")
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "x.tiff")
    Image.fromarray((grey * 255).astype(np.uint8)).save(tmp_path / "x.jpg", exif=exif)
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert pixel_key(picture) == pixel_key(path), path
    flat = (grey * 255).astype(np.uint8)
    assert pixel_key(flat[..., None]) == pixel_key(flat)
    with pytest.raises(DataError, match=r"must be \(H, W\) or \(H, W, 3\), not \(4, 5, 2\)"):
        pixel_key(np.zeros((4, 5, 2), np.uint8))


@pytest.mark.parametrize("high", [1, 3, 255, 65535])
def test_a_mask_of_sixteen_bits_marks_what_it_marks_in_eight(tmp_path, high):
    marked = np.zeros((4, 5), bool)
    marked[1:3, 2:] = True
    Image.fromarray((marked * high).astype(np.uint16)).save(tmp_path / "m.png")
    assert np.array_equal(load_mask(tmp_path / "m.png"), marked)
    assert load_mask(tmp_path / "m.png", (8, 10)).sum() == 4 * marked.sum()
    assert mask_values(tmp_path / "m.png") == [high]


def test_a_file_of_several_pictures_is_refused(tmp_path):
    pictures = [Image.new("L", (9, 8), value) for value in (0, 90, 200)]
    for name in ("pages.tif", "moving.png"):
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
        with pytest.raises(DataError, match=rf"{name} cannot be read as an image \(it holds 3\): save each as a file of its own"):
            load_image(tmp_path / name)
        with pytest.raises(DataError, match=rf"{name} cannot be read as an image \(it holds 3\)"), Image.open(tmp_path / name) as opened:
            as_image(opened)
    tifffile.imwrite(tmp_path / "map.tiff", np.ones((3, 5, 6), np.float32))
    with pytest.raises(DataError, match=r"map\.tiff"):
        MapFolder(tmp_path)([Path("map.png")])
    pictures[0].save(tmp_path / "camera.jpg", "MPO", save_all=True, append_images=pictures[1:2])  # a photograph and a smaller copy
    assert load_image(tmp_path / "camera.jpg").size == (9, 8)
