"""Files that are not what they say: an error names the file and the fix, no traceback of another library, no memory taken on a promise.

A quick sample in every test run; `make fuzz` tries more.
"""

import io
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nandlib.data.images import load_image, load_mask
from nandlib.data.maps import MapFolder, check_map
from nandlib.errors import DataError

QUICK = settings(
    max_examples=int(os.environ.get("NAND_FUZZ", "150")),
    deadline=10_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


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


def valid(kind: str) -> bytes:
    stream, image = io.BytesIO(), Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 11, 3), dtype=np.uint8))
    image.save(stream, kind)
    return stream.getvalue()


VALID = {kind: valid(kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "GIF")}


@QUICK
@given(
    kind=st.sampled_from(sorted(VALID)),
    cut=st.integers(0, 400),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
)
def test_a_damaged_image_is_read_or_refused(tmp_path, kind, cut, flips):
    content = bytearray(VALID[kind][: len(VALID[kind]) - cut] if cut < len(VALID[kind]) else b"")
    for place, value in flips:
        if content:
            content[place % len(content)] = value
    (tmp_path / "x.png").write_bytes(bytes(content))
    for read in (load_image, load_mask):
        try:
            read(tmp_path / "x.png")
        except DataError as error:
            assert "x.png" in str(error)


def npy(header: str, content: bytes = b"") -> bytes:
    head = header.encode() + b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content


MAPS = {
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }", pickle.dumps([1])),
    "a pickle": pickle.dumps(np.ones((2, 2))),
    "a lie": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
    "a wrong word": npy("{'descr': 'nothing', 'fortran_order': False, 'shape': (2, 2), }"),
    "nothing": b"",
    "half": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", b"\0" * 7),
    "text": npy("{'descr': '<U3', 'fortran_order': False, 'shape': (1, 1), }", b"\0" * 12),
    "complex": npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1, 1), }", b"\0" * 8),
}


@pytest.mark.parametrize("what", MAPS)
def test_a_map_that_is_none_is_refused(tmp_path, what):
    (tmp_path / "x.npy").write_bytes(MAPS[what])
    with pytest.raises(DataError, match=r"x\.npy"):
        MapFolder(tmp_path)([Path("x.png")])


@QUICK
@given(
    cut=st.integers(0, 200),
    flips=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=5),
    suffix=st.sampled_from([".npy", ".tiff"]),
)
def test_a_damaged_map_is_read_or_refused(tmp_path, cut, flips, suffix):
    stream, whole = io.BytesIO(), np.random.default_rng(0).random((5, 6)).astype(np.float32)
    np.save(stream, whole) if suffix == ".npy" else tifffile.imwrite(stream, whole)
    content = bytearray(stream.getvalue()[: max(0, len(stream.getvalue()) - cut)])
    for place, value in flips:
        if content:
            content[place % len(content)] = value
    folder = tmp_path / suffix[1:]
    folder.mkdir(exist_ok=True)
    (folder / f"x{suffix}").write_bytes(bytes(content))
    try:
        (found,) = MapFolder(folder)([Path("x.png")])
        assert found.ndim == 2 and found.min() >= 0
    except DataError as error:
        assert "x" in str(error)


def test_a_map_below_zero_is_refused_with_what_to_do():
    with pytest.raises(DataError, match=r"mine: the anomaly map goes down to -0\.5: only what is 0 or more can be damped \(Eq\. 6\)"):
        check_map(np.array([[0.0, -0.5]]), "mine")
