"""`nand apply` at its edges: places with dots, folders that live, runs that stop half-way, other code, copies, names too long."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner

from nandlib import add_normality
from nandlib.cli import app, asked
from nandlib.data.images import load_image
from nandlib.errors import DataError, EngineError, PresetError
from nandlib.streaming.apply import apply
from nandlib.streaming.here import Here
from nandlib.streaming.listing import Listing, find_images
from nandlib.streaming.work import How
from nandlib.study.fingerprint import file_digest
from nandlib.study.registry import read_registry
from nandlib.study.store import bring_up_to_date, is_current, load, save

FILES, SHARDS = How(overlays=False, batch=1), How(store="shards", overlays=False, batch=1)


def picture(path: Path, grey: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), (grey,) * 3).save(path)
    return path


@pytest.fixture
def images(tmp_path):
    for k in range(20):
        picture(tmp_path / f"images/{k:02d}.png", 10 * k)
    return tmp_path / "images"


@pytest.fixture(scope="session")
def adapted(model):
    def darkness(pictures):
        return [1 - np.asarray(one.convert("L"), np.float32) / 255 for one in pictures]

    return add_normality(darkness, "hair", model=model).remove("hair")


@dataclass
class Stepwise:
    """An engine that does something before every shard."""

    before: object = None
    threads: int = 1

    def __call__(self, work, shards):
        for k, shard in enumerate(shards):
            if self.before:
                self.before(k)
            yield work(shard)


def run(adapted, place, out, how=FILES, before=None):
    return apply(lambda: adapted, Listing.of([place]), out, {"of": "a test"}, how, engine=Stepwise(before))


def test_names_never_lead_out_of_their_folder(tmp_path, monkeypatch):
    own, other = picture(tmp_path / "x/sub/1.png", 0), picture(tmp_path / "other/2.png", 0)
    monkeypatch.chdir(own.parents[1])
    for places, names in (
        (["sub", "../other"], ["other/2.png", "x/sub/1.png"]),
        (["../other", "../x/../other"], ["2.png"]),
        ([Path("..")], ["other/2.png", "x/sub/1.png"]),
    ):
        listing = Listing.of(places)
        assert list(listing) == names
        assert {Path(listing.path(name)) for name in names} <= {own, other}


def test_what_a_system_puts_aside_is_no_image(tmp_path):
    kept = picture(tmp_path / "set/a/0.png", 0)
    for name in (".ipynb_checkpoints/0.png", "a/@eaDir/0.png/THUMB.jpg", ".Trash-0/files/z.png", "a/@0.png", "run/shards/x.png"):
        picture(tmp_path / "set" / name, 0)
    (tmp_path / "set/run/setting.json").write_text("{}")
    (tmp_path / "set/run/shards").mkdir(exist_ok=True)
    for place in (tmp_path / "set", f"file://{tmp_path}/set"):
        assert find_images([place]) == [kept]


def test_results_at_an_address_are_no_images():
    import fsspec

    files = fsspec.filesystem("memory")
    for name in ("a.png", "run/setting.json", "run/overlays/a.png", "run/shards/0.parquet", "run/b.png", ".hidden/c.png"):
        files.pipe(f"/edges/{name}", b"")
    assert list(Listing.of(["memory://edges"])) == ["a.png", "run/b.png"]


def test_no_map_of_another_content_is_left_by_a_run_that_stops(images, adapted, tmp_path):
    out, first, second = tmp_path / "out", images / "00.png", images / "01.png"
    run(adapted, images, out)
    expected, kept = np.load(out / "maps/00.npy"), {path: path.read_bytes() for path in (first, second)}
    picture(first, 200)
    second.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"01\.png"):
        run(adapted, images, out)
    for path, content in kept.items():
        path.write_bytes(content)
    run(adapted, images, out)
    assert np.array_equal(np.load(out / "maps/00.npy"), expected)


def test_another_image_of_the_same_name_leaves_no_map_behind(images, adapted, tmp_path):
    """Their maps are one file: ``000.png``, in its place ``000.bmp``, and ``000.png`` again."""
    out, first = tmp_path / "out", images / "00.png"
    run(adapted, images, out)
    expected, content = np.load(out / "maps/00.npy"), first.read_bytes()
    first.unlink()
    picture(images / "00.bmp", 200)
    run(adapted, images, out)
    assert not np.array_equal(np.load(out / "maps/00.npy"), expected)
    (images / "00.bmp").unlink()
    first.write_bytes(content)
    run(adapted, images, out)
    assert np.array_equal(np.load(out / "maps/00.npy"), expected)


@pytest.mark.parametrize("wrong", [{"store": "x"}, {"batch": 0}])
def test_what_is_written_and_how_is_known(wrong):
    with pytest.raises(DataError, match="'files' or 'shards', and 1 or more"):
        How(**wrong)
    for workers, threads in ((0, 1), (-1, 1), (1, 0)):
        with pytest.raises(EngineError, match="one or more of either"):
            Here(workers, threads)


def test_pictures_that_are_not_read_are_known(tmp_path):
    for name in ("a.png", "b/c.webp", "b/d.JFIF", ".hidden/e.webp", "f.txt", "out/g.gif"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert Listing.of([tmp_path], [tmp_path / "out"]).unread() == ["b/c.webp", "b/d.JFIF"]
    assert Listing.of([tmp_path / "a.png"]).unread() == []


def test_a_folder_gets_and_loses_images_while_a_run_goes_on(images, adapted, tmp_path):
    def meanwhile(k):
        if k == 2:
            picture(images / "z/new.png", 3)
            (images / "00.png").unlink()  # done already

    table = run(adapted, images, tmp_path / "out", before=meanwhile)
    assert {"00.png", "19.png"} <= set(table["image"].to_pylist()) and len(table) >= 20
    again = run(adapted, images, tmp_path / "out")
    assert "00.png" not in again["image"].to_pylist() and "z/new.png" in again["image"].to_pylist()


def test_pieces_of_a_worker_that_died_are_taken_away(images, adapted, tmp_path):
    """Its part is done by another, under a name of its own."""

    def dies(k):
        piece = tmp_path / f"out/maps/.{k:02d}.npy.99999.partial"
        piece.parent.mkdir(exist_ok=True)
        piece.write_bytes(b"x")

    run(adapted, images, tmp_path / "out", before=dies)
    run(adapted, images, tmp_path / "undisturbed")
    names = [sorted(path.name for path in (tmp_path / place).rglob("*")) for place in ("out", "undisturbed")]
    assert names[0] == names[1] and "00.npy" in names[0]


def test_a_pipe_among_the_images_is_named(images, adapted, tmp_path):
    """It would be waited for, for ever."""
    (images / "05.png").unlink()
    os.mkfifo(images / "05.png")
    with pytest.raises(DataError, match=r"05\.png cannot be read \(it is no regular file\)"):
        run(adapted, images, tmp_path / "out")
    with pytest.raises(DataError, match=r"05\.png cannot be read as an image \(it is no regular file\)"):
        load_image(images / "05.png")
    table = run(adapted, images, tmp_path / "listed", How("shards", False, 4, skip_unreadable=True))
    assert [row["image"] for row in table.to_pylist() if row["problem"]] == ["05.png"]


def test_a_folder_that_vanishes_is_passed_over(tmp_path):
    for name in ("a/0.png", "b/0.png"):
        picture(tmp_path / "set" / name, 0)
    names = iter(Listing.of([tmp_path / "set"]))
    assert next(names) == "a/0.png"
    shutil.rmtree(tmp_path / "set/b")
    assert list(names) == []


def test_which_file_holds_the_map_of_an_image(images, adapted, tmp_path):
    out = tmp_path / "out"
    run(adapted, images, out, SHARDS)
    picture(images / "00.png", 200)
    run(adapted, images, out, SHARDS)
    rows = pyarrow.csv.read_csv(out / "maps.csv").to_pylist()
    assert [row["image"] for row in rows] == sorted(path.name for path in images.glob("*.png"))
    for row in rows:
        grey = np.asarray(Image.open(images / row["image"]).convert("L"), np.float32) / 255
        np.testing.assert_array_equal(load_file(out / row["file"])[row["image"]], 1 - grey)


def test_maps_in_the_order_of_columns(images, model, tmp_path):
    fortran = add_normality(lambda some: [np.asfortranarray(np.ones((3, 5), np.float32))] * len(some), "hair", model=model)
    run(fortran, images, tmp_path / "out", SHARDS)
    stored = {name: array for path in (tmp_path / "out/shards").glob("*.safetensors") for name, array in load_file(path).items()}
    assert sorted(stored) == sorted(path.name for path in images.glob("*.png"))
    final = fortran([images / "00.png"])[0]
    assert final.shape == (3, 5) and len(np.unique(final)) > 1, "not the same in either order"
    np.testing.assert_array_equal(stored["00.png"], final)


def test_copies_beside_the_shards_are_none(images, adapted, tmp_path):
    out = tmp_path / "out"
    run(adapted, images, out)
    first = sorted((out / "shards").glob("*.parquet"))[0]
    for name in ("copy.parquet", f"{first.stem} (copy).parquet"):
        shutil.copy(first, out / "shards" / name)
    assert len(run(adapted, images, out)) == 20
    (out / "setting.json").write_text("null")
    with pytest.raises(DataError, match="no JSON object"):
        run(adapted, images, out)


def test_an_emptied_map_is_made_again(images, adapted, tmp_path):
    run(adapted, images, tmp_path / "out")
    path = tmp_path / "out/maps/00.npy"
    content = path.read_bytes()
    path.write_bytes(b"")
    run(adapted, images, tmp_path / "out")
    assert path.read_bytes() == content


def test_what_stands_in_the_way_is_said(images, adapted, tmp_path):
    (tmp_path / "out/maps/00.npy").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    for out, why in (("out", "a folder has that name"), ("file", "a file has the name")):
        with pytest.raises(DataError, match=why):
            run(adapted, images, tmp_path / out)


def test_results_of_other_code_are_another_setting(images, tmp_path, monkeypatch):
    command = ["apply", str(images), "--text", "hair", "--detector", "aprilgan", "--out", str(tmp_path / "out"), "--no-overlays"]
    assert CliRunner().invoke(app, command).exit_code == 0
    monkeypatch.setattr(asked, "_code", lambda: b"another rule")
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code and "another setting (code" in str(refused.exception)


def test_an_address_that_is_none():
    from nandlib.streaming.cluster import Cluster

    with pytest.raises(EngineError, match="nonsense cannot be reached"):
        list(Cluster("nonsense")(len, iter([[]])))


def test_damaged_files_of_a_stage_are_made_again_or_named(tmp_path):
    import torch

    path = tmp_path / "class/test_000000.safetensors"
    save(path, {"x": torch.ones(3)}, {}, "now")
    assert is_current(path, "now")
    whole = path.read_bytes()
    for content in (b"", whole[:20]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is damaged"):
            load(path.parent)
        bring_up_to_date(path, "now", lambda: ({"x": torch.ones(3)}, {}))
        assert path.read_bytes() == whole
    with pytest.raises(DataError, match=r"gone\.png cannot be read"):
        file_digest(tmp_path / "gone.png")


def test_an_empty_registry_is_named(tmp_path):
    (tmp_path / "params.yaml").write_text("")
    with pytest.raises(PresetError, match="holds no registry"):
        read_registry(tmp_path)


def test_a_run_that_reads_nothing_says_so(tmp_path):
    for k in range(2):
        (tmp_path / f"images/{k}.png").parent.mkdir(exist_ok=True)
        (tmp_path / f"images/{k}.png").write_bytes(b"none")
    words = [
        "apply",
        f"{tmp_path}/images",
        "--text",
        "hair",
        "--detector",
        "aprilgan",
        "--out",
        f"{tmp_path}/out",
        "--workers=1",
        "--skip-unreadable",
    ]
    with pytest.raises(DataError, match="none of the 2 images could be read: .*unreadable.csv says why"):
        CliRunner().invoke(app, words, catch_exceptions=False)
