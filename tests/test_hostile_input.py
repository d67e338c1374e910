"""Files that are not what they say: an error names the file and the fix, no traceback of another library, no memory taken on a promise.

A quick sample in every test run; `make fuzz` tries more, and counts them in figures/fuzz.csv.
"""

import csv
import io
import json
import os
import pickle
import resource
import shutil
import struct
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests
import safetensors.torch
import tifffile
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from nandlib.data.archives import extract
from nandlib.data.config import DataConfig
from nandlib.data.groups import load_grouping
from nandlib.data.images import load_image, load_mask, pixel_key
from nandlib.data.layouts.base import mask_values
from nandlib.data.layouts.table import Table
from nandlib.data.layouts.visa import VisA
from nandlib.data.manifest import build_manifest, read_manifest
from nandlib.data.maps import MapFolder, check_map
from nandlib.errors import DataError, NandError
from nandlib.integrations.anomalib import load_module
from nandlib.method.config import PromptConfig
from nandlib.method.prompts import load_prompts, read_texts
from nandlib.models.mini import load_heads
from nandlib.show.explorer.widget import _uploaded
from nandlib.study.preset import load_study
from nandlib.study.prompt_generator import Endpoint, parse_phrases

QUICK = settings(
    max_examples=int(os.environ.get("NAND_FUZZ", "150")),
    deadline=10_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
SUMMARY = Path(__file__).parents[1] / "figures/fuzz.csv"
SECONDS, MEGABYTES = 10, 1000  # of a case, at most; of memory above what was held before
tried: dict[str, list[int]] = {}  # cases and failures, by the kind of input


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def case(kind: str, name: str, folder: Path | None = None) -> Iterator[None]:
    """One case: it works, or an error of ours names the file, in good time and without much memory; what was in the folder still is."""
    there = files(folder) if folder else {}
    counts = tried.setdefault(kind, [0, 0])
    counts[0] += 1
    counts[1] += 1  # until it has gone well
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    except NandError as error:
        assert name in str(error), error
    assert time.monotonic() - began < SECONDS
    assert not folder or there.items() <= files(folder).items()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1000 * MEGABYTES
    counts[1] -= 1


@pytest.fixture(scope="module", autouse=True)
def summary() -> Iterator[None]:
    """What a campaign has tried."""
    yield
    if "NAND_FUZZ" in os.environ:
        with SUMMARY.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("input", "cases", "failures"), *((k, *v) for k, v in tried.items())])


def damaged(content: bytes, cut: int, flips: list[tuple[int, int]]) -> bytes:
    """Without its end, and with some bytes changed."""
    changed = bytearray(content[: max(0, len(content) - cut)])
    for place, value in flips:
        if changed:
            changed[place % len(changed)] = value
    return bytes(changed)


FLIPS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6)


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
    tifffile.imwrite(tmp_path / "map.tiff", np.ones((3, 5, 6), np.float32))
    with pytest.raises(DataError, match=r"map\.tiff"):
        MapFolder(tmp_path)([Path("map.png")])
    pictures[0].save(tmp_path / "camera.jpg", "MPO", save_all=True, append_images=pictures[1:2])  # a photograph and a smaller copy
    assert load_image(tmp_path / "camera.jpg").size == (9, 8)


def valid(kind: str) -> bytes:
    stream, image = io.BytesIO(), Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 11, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 8
    image.save(stream, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "TIFF") else {}))
    return stream.getvalue()


VALID = {kind: valid(kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "GIF")}


@QUICK
@given(kind=st.sampled_from(sorted(VALID)), cut=st.integers(0, 400), flips=FLIPS)
def test_a_damaged_image_is_read_or_refused(tmp_path, kind, cut, flips):
    (tmp_path / "x.png").write_bytes(damaged(VALID[kind], cut, flips))
    for what, read in (("images", load_image), ("masks", load_mask)):
        with case(what, "x.png", tmp_path):
            read(tmp_path / "x.png")


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
@given(cut=st.integers(0, 200), flips=FLIPS, suffix=st.sampled_from([".npy", ".tiff"]))
def test_a_damaged_map_is_read_or_refused(tmp_path, cut, flips, suffix):
    stream, whole = io.BytesIO(), np.random.default_rng(0).random((5, 6)).astype(np.float32)
    np.save(stream, whole) if suffix == ".npy" else tifffile.imwrite(stream, whole)
    folder = tmp_path / suffix[1:]
    folder.mkdir(exist_ok=True)
    (folder / f"x{suffix}").write_bytes(damaged(stream.getvalue(), cut, flips))
    with case("anomaly maps", "x", tmp_path):
        (found,) = MapFolder(folder)([Path("x.png")])
        assert found.ndim == 2 and found.min() >= 0


def test_code_never_comes_with_data(tmp_path):
    """Neither as a pickle in place of safetensors, nor in a map, nor in a checkpoint of anomalib."""
    marker = tmp_path / "ran"

    class Code:
        def __reduce__(self):
            return Path.touch, (marker,)

    for name, read in (("x.safetensors", load_heads), ("x.ckpt", lambda path: load_module("Patchcore", path)), ("x.npy", _map_of)):
        (tmp_path / name).write_bytes(pickle.dumps(Code()))
        with pytest.raises(NandError, match=name):
            read(tmp_path / name)
        torch.save({"state_dict": Code()}, tmp_path / name)
        with pytest.raises(NandError, match=name):
            read(tmp_path / name)
        assert not marker.exists(), name


def _map_of(path: Path) -> np.ndarray:
    return MapFolder(path.parent)([path.with_suffix(".png")])[0]


def lines(text: str) -> bytes:
    """Of a YAML file, without comments."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")).encode()


ROOT = Path(__file__).parents[1]
TEXTS = {
    "presets": lines((ROOT / "studies/mini.yaml").read_text()),
    "prompt files": lines((ROOT / "studies/prompts/mpdd.yaml").read_text()),
    "groupings": lines((ROOT / "nandlib/resources/groups/mvtec_ad.yaml").read_text())[:2000],
}
READ = {
    "presets": load_study,
    "prompt files": lambda path: load_prompts(PromptConfig(file=str(path))),
    "groupings": lambda path: load_grouping(str(path)),
}
WORDS = st.sampled_from(
    ["", "~", "[]", "{}", "- x", "x: 1", "1e999", "&a", "*a", "!!python/object:os.system x", "\0", "\t", ": :", "🧵", "x" * 5000]
)


@QUICK
@given(
    kind=st.sampled_from(sorted(TEXTS)),
    cut=st.integers(0, 3000),
    flips=FLIPS,
    inserted=st.lists(st.tuples(st.integers(0, 200), WORDS), max_size=3),
)
def test_a_damaged_text_file_is_read_or_refused(tmp_path, kind, cut, flips, inserted):
    rows = damaged(TEXTS[kind], cut if cut < len(TEXTS[kind]) else 0, flips).split(b"\n")
    for place, word in inserted:
        rows.insert(place % (len(rows) + 1), word.encode())
    (tmp_path / "x.yaml").write_bytes(b"\n".join(rows))
    with case(kind, "x.yaml", tmp_path):
        READ[kind](tmp_path / "x.yaml")


TABLES = {
    "manifests": (
        b"class,split,type,group,image,mask,width,height,mask_area\np,train,good,good,p/0.png,,4,4,0.0\np,test,dent,dent,p/1.png,,4,4,\n"
    ),
    "tables of images": b"image,class,split,type,mask\np/0.png,p,train,good,\np/1.png,p,test,good,\np/2.png,p,test,dent,p/2m.png\n",
    "VisA's tables": b'image,label,mask\np/0.JPG,normal,\np/1.JPG,"a dent,hole",p/1.png\n',
}
READ_TABLE = {
    "manifests": ("manifest.csv", read_manifest),
    "tables of images": ("images.csv", lambda path: Table().items(path.parent, "p")),
    "VisA's tables": ("p/image_anno.csv", lambda path: VisA().items(path.parents[1], "p")),
}


@QUICK
@given(
    kind=st.sampled_from(sorted(TABLES)),
    cut=st.integers(0, 200),
    flips=FLIPS,
    inserted=st.lists(st.tuples(st.integers(0, 200), WORDS), max_size=2),
)
def test_a_damaged_table_is_read_or_refused(tmp_path, kind, cut, flips, inserted):
    rows = damaged(TABLES[kind], cut, flips).split(b"\n")
    for place, word in inserted:
        rows.insert(place % (len(rows) + 1), word.encode())
    name, read = READ_TABLE[kind]
    (tmp_path / "p").mkdir(exist_ok=True)
    (tmp_path / "split_csv").mkdir(exist_ok=True)
    (tmp_path / "split_csv/1cls.csv").write_text("object,split,image\np,train,p/0.JPG\n")
    (tmp_path / name).write_bytes(b"\n".join(rows))
    with case(kind, "p" if kind == "tables of images" else name, tmp_path):
        read(tmp_path / name)


def test_an_image_that_is_named_twice_is_named(dataset):
    root = dataset()
    shutil.copy(root / "bolt/train/good/000.png", root)
    (root / "images.csv").write_text("image,class,split,type\n000.png,p,train,good\n000.png,p,test,good\n000.png,p,test,dent\n")
    with pytest.raises(DataError, match=r"names the image '000\.png' 3 times"):
        build_manifest(root, DataConfig(root=root, groups="types", layout="table"), load_grouping("types"), progress=False)


@pytest.fixture(scope="module")
def heads_bytes() -> bytes:
    return safetensors.torch.save({"text_map": torch.eye(4), "log_temperature": torch.tensor(1.0)}, {"format": "1"})


@QUICK
@given(
    length=st.one_of(st.none(), st.integers(0, 2**64 - 1)),
    cut=st.integers(0, 300),
    flips=FLIPS,
    offsets=st.one_of(st.none(), st.tuples(st.integers(0, 2**63), st.integers(0, 2**63))),
)
def test_a_lying_safetensors_file_is_refused(tmp_path, heads_bytes, length, cut, flips, offsets):
    content = heads_bytes
    if offsets is not None:
        head = json.dumps({"text_map": {"dtype": "F32", "shape": [4, 4], "data_offsets": offsets}}).encode()
        content = struct.pack("<Q", len(head)) + head + bytes(64)
    if length is not None:
        content = struct.pack("<Q", length) + content[8:]
    (tmp_path / "x.safetensors").write_bytes(damaged(content, cut, flips))
    with case("safetensors", "x.safetensors", tmp_path):
        load_heads(tmp_path / "x.safetensors")
        raise AssertionError("no file of this size holds heads")


NAMES = st.sampled_from(["a.txt", "/abs.txt", "../out.txt", "a/../../out.txt", "link", "link/x", "a/b/c.txt", "."])
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])


@QUICK
@given(members=st.lists(st.tuples(NAMES, KINDS, NAMES), min_size=1, max_size=4), cut=st.integers(0, 700), flips=FLIPS)
def test_an_archive_writes_nothing_outside_its_folder(tmp_path, members, cut, flips):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"code") if info.size else None)
    shutil.rmtree(tmp_path / "in", ignore_errors=True)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.tar").write_bytes(damaged(stream.getvalue(), cut, flips if cut % 2 else []))
    with case("archives", "x.tar", tmp_path):
        extract(tmp_path / "in/x.tar", tmp_path / "in/folder")
        (tmp_path / "in/folder").chmod(0o755)
    outside = {path.name for path in (tmp_path / "in").iterdir()} | {path.name for path in tmp_path.iterdir()}
    assert outside <= {"x.tar", "folder", "in"} and not Path("/abs.txt").exists()


@pytest.mark.parametrize("size", [30_000_000, 1 << 40], ids=["zeros", "a promise"])
def test_an_archive_that_grows_is_not_unpacked(tmp_path, size):
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("zeros")
        info.size = size
        tar.addfile(info, io.BytesIO(bytes(size)) if size < 1 << 30 else None)
    with pytest.raises(DataError, match=r"bomb\.tar\.gz was not unpacked: unpacked it is more than 100 times as large"):
        extract(tmp_path / "bomb.tar.gz", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@QUICK
@given(words=st.lists(st.text(max_size=20), max_size=4))
def test_phrases_of_a_command_line_are_read_or_refused(words):
    with case("phrases on a command line", ""):
        assert all(phrase.strip() for phrases in read_texts(words) for phrase in phrases)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["message", "content", "refusal", "x"]), inner, max_size=3),
    max_leaves=8,
)
LINES = st.lists(
    st.text(max_size=30) | st.sampled_from(["- a hole", "2. torn edge", "here they are:", "```json", '["a", "b"]', "{}", "[" * 9000])
)
SAID = LINES.map("\n".join) | JSON.map(json.dumps)


@QUICK
@given(
    body=st.one_of(
        st.binary(max_size=60),
        st.fixed_dictionaries({"choices": st.lists(st.fixed_dictionaries({"message": JSON}) | JSON, max_size=2)}).map(
            lambda body: json.dumps(body).encode()
        ),
        SAID.map(lambda said: json.dumps({"choices": [{"message": {"content": said}}]}).encode()),
    ),
    status=st.sampled_from([200, 200, 200, 204, 404, 500]),
)
@example(body=json.dumps({"choices": [{"message": {"content": "[" * 9000}}]}).encode(), status=200)
@example(body=b'{"choices": ' + b"[" * 9000, status=200)
@example(body=b'{"choices": [{"message": "x"}]}', status=200)
@example(body=b'{"choices": [{"message": {"content": ["x"]}}]}', status=200)
def test_whatever_a_language_model_answers(monkeypatch, body, status):
    response = requests.Response()
    response._content, response.status_code = body, status
    monkeypatch.setattr(requests.Session, "post", lambda *_a, **_k: response)
    with case("answers of a language model", ""):
        phrases = parse_phrases(Endpoint("http://x/v1", "model", "key").ask("phrases?"))
        assert phrases and all(isinstance(phrase, str) and phrase.strip() for phrase in phrases)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@QUICK
@given(kind=st.sampled_from(sorted(VALID)), cut=st.integers(0, 400), flips=FLIPS, side=st.sampled_from([None, None, 12_000, 50_000]))
def test_whatever_is_dropped_on_the_explorer(kind, cut, flips, side):
    content = png_of_size(side, side) if side else damaged(VALID[kind], cut, flips)
    with case("uploads", "x.png"):
        (found,) = _uploaded([{"name": "x.png", "content": memoryview(content)}]).values()
        assert found.mode == "RGB"


def test_a_map_below_zero_is_refused_with_what_to_do():
    with pytest.raises(DataError, match=r"mine: the anomaly map goes down to -0\.5: only what is 0 or more can be damped \(Eq\. 6\)"):
        check_map(np.array([[0.0, -0.5]]), "mine")
