"""Images of folders, links and addresses, walked in order."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from nandlib.data.addresses import read
from nandlib.errors import DataError
from nandlib.streaming.listing import Listing, find_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Files by name: none of them is opened."""
    for k in range(70):
        path = tmp_path / f"images/{'ab'[k % 2]}/{k:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "images"


def test_images_are_walked_in_the_order_of_their_paths(tmp_path):
    for name in ("b.png", "a/z.png", "a-b/x.png", "a/b/c.PNG", ".hidden.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list(Listing.of([tmp_path])) == ["a/b/c.PNG", "a/z.png", "a-b/x.png", "b.png"]
    assert find_images([tmp_path]) == sorted(path for path in find_images([tmp_path / "a", tmp_path, tmp_path / "b.png"]))


def test_chained_addresses_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for name in ("im/a.png", "im/b/c.png", "d.png"):
            packed.writestr(name, name)
    for place, names in ((f"zip://im::{tmp_path}/x.zip", ["a.png", "b/c.png"]), (f"zip://im/a.png::{tmp_path}/x.zip", ["a.png"]),
                         (f"zip://::{tmp_path}/x.zip", ["d.png", "im/a.png", "im/b/c.png"])):  # fmt: skip
        listing = Listing.of([place])
        assert list(listing) == names
        inside = "" if len(names) == 3 else "im/"
        assert [read(listing.path(name)).decode() for name in names] == [inside + name for name in names]
    (tmp_path / "a::b").mkdir()
    (tmp_path / "a::b/e.png").write_bytes(b"e")
    here = Listing.of([tmp_path / "a::b"])
    assert read(here.path(next(iter(here)))) == b"e"
    with pytest.raises(DataError, match="no place was given"):
        Listing.of([])


def test_results_among_the_images_are_found_by_whatever_name(images, tmp_path, monkeypatch):
    (images / "out").mkdir()
    (images / "out/overlay.png").write_bytes((images / "a/000.png").read_bytes())
    (tmp_path / "link").symlink_to(images / "out")
    monkeypatch.chdir(images)
    for out in (Path("out"), Path(f"../{images.name}/out"), tmp_path / "link"):
        assert len(Listing.of([Path()], [out])) == 70
    assert len(Listing.of([images / "out"], [images / "out"])) == 1, "asked for"


def test_linked_folders_are_walked_and_circles_are_not(images, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a").symlink_to(images / "a")
    (images / "a/up").symlink_to(tmp_path / "set")
    (images / "a/itself").symlink_to("itself")
    (tmp_path / "out/maps").mkdir(parents=True)
    shutil.copy(images / "b/001.png", tmp_path / "out/maps")
    (images / "a/results").symlink_to(tmp_path / "out/maps")
    assert sorted(Listing.of([tmp_path / "set"], [tmp_path / "out"])) == [f"a/{path.name}" for path in sorted((images / "a").glob("*.png"))]


def test_images_that_share_nothing_but_the_root(images):
    listing = Listing(tuple(map(str, (images / "a", images / "b"))), "/")
    assert all(Path(listing.path(name)).is_relative_to("/") and "//" not in listing.path(name) for name in listing)
    assert list(Listing.of([f"file://{images}/a/000.png"])) == ["000.png"]


def test_a_name_that_no_table_can_hold_is_refused(images):
    os.rename(os.fsencode(images / "a/000.png"), os.fsencode(images / "a") + b"/caf\xe9.png")
    with pytest.raises(DataError, match=r"caf.*: the name of this image is no UTF-8: rename it"):
        list(Listing.of([images]))
