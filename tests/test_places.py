"""Where things lie: masks of equal names, maps of equal names, folders that are links, and working directories that change."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nandlib import Example, add_normality, fit_detector
from nandlib.cli.asked import Setting, masks_by_image
from nandlib.data.addresses import below, local_path
from nandlib.data.maps import MapFolder
from nandlib.errors import DataError
from nandlib.method.adapt import AdaptedDetector
from nandlib.method.threshold import Threshold
from nandlib.streaming.listing import Listing
from nandlib.streaming.map_files import map_folder

RNG = np.random.default_rng(5)


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
    return path


def mask(path: Path, row: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    marked = np.zeros((32, 32), np.uint8)
    marked[row] = 255
    Image.fromarray(marked).save(path)
    return path


def anomaly_map(path: Path, value: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.full((8, 8), value, np.float32))


def asked(accept: Path, masks: Path) -> Setting:
    return Setting([], [accept], "object", "patchcore", None, None, None, "nand", None, accept_masks=masks)


def test_masks_of_equal_names_go_by_their_folders(tmp_path):
    """As in MVTec AD: ``test/<type>/000.png`` and ``ground_truth/<type>/000_mask.png``."""
    for row, name in enumerate(("blue/000", "blue/001", "red/000")):
        image(tmp_path / f"test/{name}.png")
        mask(tmp_path / f"truth/{name}_mask.png", row)
    found = asked(tmp_path / "test", tmp_path / "truth").examples()
    assert [int(np.flatnonzero(one.mask.any(1))[0]) for one in found] == [0, 1, 2]
    # one type's images, with the masks of all: those of the other type are of no image
    with pytest.raises(DataError, match="red/000_mask.png is the mask of no image of --accept"):
        asked(tmp_path / "test/blue", tmp_path / "truth").check()
    for path in (tmp_path / "truth").rglob("*.png"):
        path.rename(tmp_path / "truth" / path.name)  # of two 000 one stays
    with pytest.raises(DataError, match="000_mask.png is the mask of several images of --accept, .*blue/000.png and .*red/000.png"):
        asked(tmp_path / "test", tmp_path / "truth").check()


def test_the_record_of_a_run_knows_which_image_a_mask_is_of(tmp_path):
    first, second = (image(tmp_path / f"test/{name}.png") for name in "ab")
    mask(tmp_path / "truth/a.png", 3)
    setting = asked(tmp_path / "test", tmp_path / "truth")
    before = setting.record()
    assert masks_by_image([first, second], tmp_path / "truth") == {first: tmp_path / "truth/a.png"}
    assert masks_by_image([first, second], tmp_path / "truth/a.png") == {first: tmp_path / "truth/a.png"}, "a mask alone"
    (tmp_path / "truth/a.png").rename(tmp_path / "truth/b.png")
    assert setting.record() != before and setting.record() == setting.record()


def test_an_example_does_not_take_the_map_of_an_image_of_the_same_name(tmp_path):
    shown, other = image(tmp_path / "shown/000.png"), image(tmp_path / "images/sub/000.png")
    image(tmp_path / "images/sub/001.png")
    for name in ("000", "001"):
        anomaly_map(tmp_path / f"maps/{name}.npy", 1)
    listing = Listing.of([tmp_path / "images"])
    assert map_folder(tmp_path / "maps", listing).path_of(other).is_file()
    with pytest.raises(DataError, match="several images share a name"):
        map_folder(tmp_path / "maps", listing, [shown])
    assert map_folder(tmp_path / "maps", listing, [other]).path_of(other).is_file()


def test_one_image_finds_its_map_where_a_whole_folder_does(tmp_path):
    one = image(tmp_path / "test/red/000.png")
    image(tmp_path / "test/blue/000.png")
    anomaly_map(tmp_path / "maps/red/000.npy", 1)
    anomaly_map(tmp_path / "maps/blue/000.npy", 3)
    anomaly_map(tmp_path / "maps/000.npy", 2)  # of an image that has gone
    whole, single = (map_folder(tmp_path / "maps", Listing.of([place])) for place in (tmp_path / "test", one))
    assert whole.path_of(one) == single.path_of(one) == tmp_path / "maps/red/000.npy"


def test_a_change_of_the_working_directory_changes_nothing(model, tmp_path, monkeypatch):
    normals = [image(tmp_path / f"good/{k}.png").relative_to(tmp_path) for k in range(3)]
    anomaly_map(tmp_path / "maps/0.npy", 1)
    monkeypatch.chdir(tmp_path)
    detector, maps = fit_detector("patchcore", model, normals=normals), MapFolder("maps", "good")
    adapted, mapped = add_normality(detector, "hair", model=model), add_normality(maps, "hair", model=model)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert adapted.calibrate().threshold is not None
    assert mapped.scores([tmp_path / "good/0.png"]) == pytest.approx(1, abs=1)
    with pytest.raises(DataError, match="not trained on"):
        adapted.check(["../good/0.png"], [image(tmp_path / "bad.png")])
    mapped.save("saved")
    assert AdaptedDetector.load("saved", model=model).detector.folder == tmp_path / "maps"
    # the same file in two spellings is one image
    assert len(MapFolder(tmp_path / "maps")(["../good/0.png", tmp_path / "good/0.png"])) == 2


def test_a_saved_detector_is_found_through_a_link(model, tmp_path):
    anomaly_map(tmp_path / "mine/maps/0.npy", 1)
    add_normality(MapFolder(tmp_path / "mine/maps"), "hair", model=model).save(tmp_path / "mine/models/v1")
    (tmp_path / "links").mkdir()
    os.symlink(tmp_path / "mine/models/v1", tmp_path / "links/latest")
    assert AdaptedDetector.load(tmp_path / "links/latest", model=model).detector.folder.samefile(tmp_path / "mine/maps")
    (tmp_path / "mine/maps").rename(tmp_path / "gone")
    with pytest.raises(DataError, match=r"adapted.yaml: maps: there is no folder .*maps: load\(folder, FOLDER_OF_MAPS\)"):
        AdaptedDetector.load(tmp_path / "links/latest", model=model)


def test_addresses_with_a_cache_before_them_and_those_of_a_file():
    assert below("simplecache::s3://bucket/a", "b.png") == "simplecache::s3://bucket/a/b.png"
    assert below("zip://folder::https://host/x.zip", "b.png") == "zip://folder/b.png::https://host/x.zip"
    place = Path("/nowhere/a b/ü")
    assert local_path(place.as_uri()) == place


def test_a_threshold_of_what_was_added_does_not_outlive_more_examples(model, tmp_path):
    """What is said and shown weighs otherwise than what is said alone: scores may rise."""
    shown = image(tmp_path / "0.png")
    anomaly_map(tmp_path / "maps/0.npy", 1)
    said = add_normality(MapFolder(tmp_path / "maps"), "hair", model=model, normals=[image(tmp_path / "good.png")])
    (tmp_path / "maps/good.npy").write_bytes((tmp_path / "maps/0.npy").read_bytes())
    example = Example(shown, np.eye(32, dtype=bool))
    for fresh, stays in ((Threshold(2.0, 0.05, 59, 0.95), False), (Threshold(2.0, 0.05, 59), True)):
        held = replace(said, threshold=fresh)
        assert (held.add(name="hair", examples=[example]).threshold is not None) == stays
        assert held.add("thread").threshold == fresh  # which lowers scores alone


def test_adapted_detectors_are_told_apart_by_themselves(model, tmp_path):
    anomaly_map(tmp_path / "maps/0.npy", 1)
    adapted = add_normality(MapFolder(tmp_path / "maps"), "hair", model=model)
    assert {adapted: 1}[adapted] == 1 and adapted != adapted.add("thread")
