"""Files that are not what they say: an error names the file and the fix, no traceback of another library, no memory taken on a promise.

A quick sample in every test run; `make fuzz` tries more, and counts them in figures/fuzz.csv.
"""

import csv
import io
import json
import mmap
import os
import pickle
import shutil
import struct
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests
import safetensors.torch
import tifffile
import torch
from hostile_files import png_of_size
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from nandlib.cli import app
from nandlib.data.archives import extract
from nandlib.data.groups import load_grouping
from nandlib.data.images import load_image, load_mask
from nandlib.data.layouts.table import Table
from nandlib.data.layouts.visa import VisA
from nandlib.data.manifest import read_manifest
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
SLOW = settings(QUICK, max_examples=max(20, QUICK.max_examples // 10))
SUMMARY = Path(__file__).parents[1] / "figures/fuzz.csv"
SECONDS, MEGABYTES = 10, 1000  # of a case, at most; of memory above what was held before
tried: dict[str, list[int]] = {}  # cases and failures, by the kind of input


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def case(kind: str, name: str, folder: Path | None = None) -> Iterator[None]:
    """One case: it works, or an error of ours names the file, in good time and without much memory; what was in the folder still is.

    Args:
        kind: Of input.
        name: Of the file, or the word that an error must say; "" where any words will do.
        folder: What must be left as it was.
    """
    there = files(folder) if folder else {}
    counts = tried.setdefault(kind, [0, 0])
    counts[0] += 1
    counts[1] += 1  # until it has gone well
    before, began = peak_memory(anew=True), time.monotonic()
    try:
        yield
    except NandError as error:
        assert str(error).strip() and name in str(error), error
    assert time.monotonic() - began < SECONDS
    assert not folder or there.items() <= files(folder).items()
    assert peak_memory() - before < MEGABYTES
    counts[1] -= 1


def peak_memory(anew: bool = False) -> float:
    """The most megabytes that this process has held, since it was last asked for `anew`; nothing where no system tells."""
    if not Path("/proc/self/clear_refs").exists():
        return 0.0
    if anew:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
    return next(int(line.split()[1]) / 1000 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))


def test_memory_that_is_taken_and_given_back_is_noticed():
    def take(megabytes: int) -> None:
        with mmap.mmap(-1, megabytes * 1_000_000) as memory:  # which the system has back at once, as an array's it may not
            memory.write(b"1" * len(memory))

    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell the peak of a process")
    take(300)
    held = peak_memory(anew=True)
    assert peak_memory() - held < 50, "the peak of before is forgotten"
    take(200)
    assert peak_memory() - held > 180


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


def with_lines(content: bytes, inserted: list[tuple[int, str]]) -> bytes:
    """With some lines more, each at its place."""
    rows = content.split(b"\n")
    for place, word in inserted:
        rows.insert(place % (len(rows) + 1), word.encode())
    return b"\n".join(rows)


FLIPS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6)


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


@pytest.fixture(scope="module")
def checkpoint_bytes() -> bytes:
    stream, state = io.BytesIO(), {"model.memory_bank": torch.ones(3, 4)}
    own = {"hyper_parameters": {"backbone": "resnet18", "pre_trained": False}, "pytorch-lightning_version": "2.5.0"}
    torch.save({"state_dict": state, "epoch": 0, "global_step": 0} | own, stream)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore")
@SLOW
@given(cut=st.integers(0, 2000), flips=FLIPS, name=st.sampled_from(["Patchcore", "Padim"]))
@example(cut=0, flips=[(100, 0xFF)], name="Padim")
def test_a_damaged_checkpoint_is_refused(tmp_path, checkpoint_bytes, cut, flips, name):
    (tmp_path / "x.ckpt").write_bytes(damaged(checkpoint_bytes, cut if cut < len(checkpoint_bytes) else 0, flips))
    with case("anomalib's checkpoints", "x.ckpt", tmp_path):
        load_module(name, tmp_path / "x.ckpt")
        raise AssertionError("it has not all of a model's weights")


COMMANDS = ["apply", "explain", "check", "export", "data check", "use", "study run", "study list", "study compare", "numbers", "manifest",
            "report", "notebook", "generate-prompts", "model compare", "selection", "surface", "signals", "harm"]  # fmt: skip
GIVEN = ["", "x.png", "d", ".", "x.yaml", "no/such", "\0", "🧵", "-t", "--detector", "--normals", "-o", "--json", "--maps", "--accept",
         "--noun", "--level", "1e999", "-1", "patchcore", "mini", "--engine", "ray", "--batch", "0", "--store", "shards"]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@SLOW
@given(command=st.sampled_from(COMMANDS), words=st.lists(st.sampled_from(GIVEN) | st.text(max_size=6), max_size=6))
def test_whatever_stands_on_a_command_line(tmp_path, monkeypatch, command, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir(exist_ok=True)
    for name, content in (("x.png", b"no image"), ("d/y.png", b""), ("x.yaml", b"a: [1")):
        (tmp_path / name).write_bytes(content)
    with case("command lines", "", tmp_path):
        ended = CliRunner().invoke(app, [*command.split(), *words])
        if ended.exception and not isinstance(ended.exception, SystemExit):
            raise ended.exception


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
    content = damaged(TEXTS[kind], cut if cut < len(TEXTS[kind]) else 0, flips)
    (tmp_path / "x.yaml").write_bytes(with_lines(content, inserted))
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
    name, read = READ_TABLE[kind]
    (tmp_path / "p").mkdir(exist_ok=True)
    (tmp_path / "split_csv").mkdir(exist_ok=True)
    (tmp_path / "split_csv/1cls.csv").write_text("object,split,image\np,train,p/0.JPG\n")
    (tmp_path / name).write_bytes(with_lines(damaged(TABLES[kind], cut, flips), inserted))
    with case(kind, "p" if kind == "tables of images" else name, tmp_path):
        read(tmp_path / name)


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
