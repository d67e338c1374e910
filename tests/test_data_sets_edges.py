"""Images, masks, maps and data sets that would be read as something else, and are named instead."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from nandlib import add_normality
from nandlib.cli import app
from nandlib.data.config import DataConfig
from nandlib.data.groups import load_grouping
from nandlib.data.held import held
from nandlib.data.images import load_image, load_mask, marked
from nandlib.data.layouts import LAYOUTS, layout_of
from nandlib.data.manifest import build_manifest
from nandlib.data.maps import MapFolder
from nandlib.data.published import Source
from nandlib.data.sources import fetch
from nandlib.errors import DataError, PresetError


def checked(folder):
    return CliRunner().invoke(app, ["data", "check", str(folder)])


def test_a_set_without_a_protocol_is_no_study(dataset):
    found = checked(dataset(types=("dent",)))
    assert found.exit_code == 1 and "no study can be run" in found.stdout and "in a preset" not in found.stdout


def test_what_is_skipped_is_skipped_by_the_preset_too(dataset):
    root = dataset()
    assert "on_unreadable" not in checked(root).stdout
    (root / "bolt/ground_truth/dent/001_mask.png").write_bytes(b"")
    found = checked(root)
    assert found.exit_code == 0 and "on_unreadable: skip}" in found.stdout
    assert "skipped: bolt/test/dent/001.png, with its mask: " in found.stdout


def test_pictures_that_are_there_twice_and_masks_of_everything(dataset):
    root = dataset()
    for name in ("test/good/001.png", "test/dent/000.png"):
        shutil.copy(root / "bolt/train/good/000.png", root / "bolt" / name)
    Image.new("L", (48, 40), 255).save(root / "cloth/ground_truth/hair/000_mask.png")
    notes = build_manifest(root, DataConfig(root=root), load_grouping("types"), progress=False)[1]
    assert "the same picture: bolt/train/good/000.png and bolt/test/good/001.png and 1 more" in notes
    assert "everything is marked: cloth/ground_truth/hair/000_mask.png" in notes and len(notes) == 2


def test_all_that_is_wrong_is_said_at_once(dataset):
    root = dataset()
    for mask in (root / "bolt/ground_truth").rglob("*.png"):
        Image.new("L", (20, 20), 255).save(mask)
    for number, image in enumerate(sorted((root / "cloth/test/good").iterdir())):
        image.write_bytes(b"" if number else b"no image")
    with pytest.raises(DataError) as found:
        build_manifest(root, DataConfig(root=root), load_grouping("types"), progress=False)
    lines = str(found.value).splitlines()
    assert len(lines) == 6 and lines[-1] == "and 1 more" and all("is 20 x 20 pixels but its image" in line for line in lines[:4])
    assert "cloth/test/good/000.png cannot be read as an image" in lines[4]


def test_folders_beside_the_images_are_not_named_by_the_hundred(dataset):
    root = dataset()
    for k in range(30):
        (root / f"bolt/extra/{k}").mkdir(parents=True)
        shutil.copy(root / "bolt/test/good/000.png", root / f"bolt/extra/{k}")
    notes = build_manifest(root, DataConfig(root=root), load_grouping("types"), progress=False)[1]
    assert notes == ["not used: 30 images in bolt/extra"]


def test_a_folder_of_another_case_or_level_is_named(dataset):
    root = dataset()
    with pytest.raises(DataError, match=r"holds a data set in its folder 'images': give that one"):
        layout_of(root.parent, "auto")
    (root / "cloth/test/good").rename(root / "cloth/test/Good")
    with pytest.raises(DataError, match="class 'cloth': no image in .*test/good .*: rename 'Good' to 'good'"):
        build_manifest(root, DataConfig(root=root), load_grouping("types"), progress=False)


def test_a_map_is_one_images_in_later_calls_too(tmp_path):
    np.save(tmp_path / "000.npy", np.ones((4, 4)))
    maps = MapFolder(tmp_path)
    for _ in range(2):
        maps(["good/000.png"])
    with pytest.raises(DataError, match="would share the map"):
        maps(["thread/000.png"])
    for name in ("000.png", "000.jpg"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).touch()
    rooted = MapFolder(tmp_path, tmp_path / "images")
    rooted([tmp_path / "images/000.png"])
    with pytest.raises(DataError, match="would share the map .*rename one of them"):
        rooted([tmp_path / "images/000.jpg"])


@pytest.mark.parametrize(("top", "read"), [(1.0, 255), (1.001, None), (1.9, None), (2.0, 2), (200.0, 200)])
def test_numbers_that_go_a_little_beyond_one(tmp_path, top, read):
    tifffile.imwrite(tmp_path / "x.tiff", np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8))
    if read is None:
        with pytest.raises(DataError, match=r"x.tiff cannot be read as an image \(numbers from 0 to .*clip them to 0..1"):
            load_image(tmp_path / "x.tiff")
    else:
        assert np.asarray(load_image(tmp_path / "x.tiff")).max() == read


def test_white_that_is_zero(tmp_path):
    """Of 8 bits it is heeded, of 16 refused: Pillow would read a negative."""
    pixels = np.zeros((8, 8), np.uint8)
    tifffile.imwrite(tmp_path / "8.tiff", pixels, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "16.tiff", pixels.astype(np.uint16), photometric="miniswhite")
    assert np.asarray(load_image(tmp_path / "8.tiff")).min() == 255
    for read in (load_image, load_mask):
        with pytest.raises(DataError, match="16.tiff .*in which 0 is white"):
            read(tmp_path / "16.tiff")


def test_a_soft_mask_is_soft_in_16_bits():
    soft = np.array([[0, 30, 100, 255]], np.uint8)
    for mask in (soft, soft.astype(np.uint16) * 257, soft.astype(np.int32) * 257):
        assert marked(mask).tolist() == [[False, False, False, True]]
    assert marked(np.array([[0, 1, 300]], np.int32)).tolist() == [[False, True, True]]  # numbers of types


@pytest.fixture
def table(tmp_path):
    """A plain table, its header and rows as a test wants them."""
    for name in ("a", "b", "c"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{name}.png")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "m.png")

    def write(header: str = "image,class,split,type,mask", mask: str = "m.png") -> Path:
        rows = ["a.png,x ,train,good,", " b.png,x,test,good, ", f"c.png ,x,test,hole,{mask} "]
        (tmp_path / "images.csv").write_text("\n".join([header, *rows]) + "\n")
        return tmp_path

    return write


def test_blanks_in_a_table_mean_nothing(table):
    manifest, _ = build_manifest(
        table("image, class,split ,type,mask"), DataConfig(root="x", layout="table"), load_grouping("types"), False
    )
    assert set(manifest["class"]) == {"x"} and manifest.loc[manifest["type"] == "hole", "mask_area"].tolist() == [1.0]


@pytest.mark.parametrize("header", ["image,class,split,type,Mask", "image,class,split,type,image"])
def test_columns_that_would_not_be_read(table, header):
    with pytest.raises(DataError, match="images.csv: column '(Mask|image.1)' is not read"):
        LAYOUTS["table"].classes(table(header))


def test_tables_that_say_nothing_or_say_it_as_windows_does(table):
    root = table()
    (root / "images.parquet").write_bytes(b"")
    assert LAYOUTS["table"].lacking(root) == ["of images.csv and images.parquet the first is read"]
    text = (root / "images.csv").read_text()
    for own, message in (
        (text.replace("a.png", "img\\a.png"), r"image 'img\\a.png' has a backslash"),
        (text.splitlines()[0] + "\n", "no row"),
    ):
        (root / "images.csv").write_text(own)
        with pytest.raises(DataError, match=message):
            LAYOUTS["table"].classes(root)


def test_layouts_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="holds neither images.csv nor images.parquet"):
        LAYOUTS["table"].classes(tmp_path)
    with pytest.raises(DataError, match="no layout 'mvtec': did you mean"):
        layout_of(tmp_path, "mvtec")


@pytest.mark.parametrize("label", ["Normal", "good", "normal,hole"])
def test_visas_defects_are_not_called_good(tmp_path, label):
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv/1cls.csv").write_text("object,split,label,image,mask\npcb,train,normal,a.png,\n")
    (tmp_path / "pcb").mkdir()
    (tmp_path / "pcb/image_anno.csv").write_text(f'image,label,mask\na.png,normal,\nb.png,"{label}",m.png\n')
    with pytest.raises(DataError, match="is no defect: normal images have 'normal' alone"):
        LAYOUTS["visa"].items(tmp_path, "pcb")


def test_locos_defects_are_not_called_good(tmp_path):
    for place in ("train/good", "test/good", "test/logical_anomalies", "ground_truth/logical_anomalies/0"):
        (tmp_path / "box" / place).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "box" / place / "0.png")
    config = tmp_path / "box/defects_config.json"
    for name, encoding in (("lost", "utf-8-sig"), ("good", "utf-8")):
        config.write_text(json.dumps([{"defect_name": name, "pixel_value": 255}]), encoding=encoding)
        if name == "lost":
            assert [item.type for item in LAYOUTS["mvtec_loco"].items(tmp_path, "box")][-1] == "lost"
        else:
            with pytest.raises(DataError, match="'good' is no defect"):
                LAYOUTS["mvtec_loco"].items(tmp_path, "box")


@pytest.mark.parametrize("key", ["abnormal_types", "exclude_types"])
def test_good_is_no_type_that_stays_abnormal(dataset, key):
    with pytest.raises(DataError, match=f"data.{key}: 'good' is no type of defect"):
        build_manifest(dataset(), DataConfig(root="x", **{key: ("good",)}), load_grouping("types"), False)


@pytest.mark.parametrize("group", ["../x", " ", "g|h", "a\tb"])
def test_groups_have_plain_names(tmp_path, group):
    (tmp_path / "groups.yaml").write_text(json.dumps({"bolt": {group: ["dent"]}}))
    with pytest.raises(PresetError, match="names hold letters, digits"):
        load_grouping(str(tmp_path / "groups.yaml"))


def entry(**more) -> Source:
    known = {
        "name": "set",
        "title": "A set",
        "licence": "MIT",
        "urls": ["http://127.0.0.1:9/set.tar"],
        "file": "set.tar",
        "path": "data/set",
    }
    return Source.model_validate({**known, "check": {"sha256": "0" * 64}, "megabytes": 1, "install": "extract", **more})


def test_a_folder_that_nobody_named_for_it_is_passed_by(tmp_path, monkeypatch):
    (tmp_path / "elsewhere/bottle/train/good").mkdir(parents=True)
    monkeypatch.setenv("NAND_LOCAL", str(tmp_path / "elsewhere"))
    wanted = entry(images={"bottle": (209, 83)})
    with pytest.raises(DataError, match="set.tar could not be downloaded"):
        fetch(wanted, tmp_path, progress=False)
    with pytest.raises(DataError, match="bottle"):
        fetch(wanted, tmp_path, local=[tmp_path / "elsewhere"], progress=False)


def test_two_downloads_into_one_folder(tmp_path):
    with held(tmp_path / "data/downloads"), pytest.raises(DataError, match=r"process \d+ is at work there"):
        fetch(entry(), tmp_path, progress=False)


def test_a_record_that_is_none(tmp_path):
    (tmp_path / "data/set").mkdir(parents=True)
    (tmp_path / "data/sources.json").write_text("[]")
    with pytest.raises(DataError, match="sources.json is damaged"):
        fetch(entry(), tmp_path, progress=False)


def test_a_threshold_is_not_set_by_another_folders_maps(tmp_path, model):
    """The maps of ``good/000.png`` are not those of ``thread/000.png``."""
    for k in range(3):
        np.save(tmp_path / f"{k}.npy", np.full((8, 8), k + 1.0))
    adapted = add_normality(str(tmp_path), "hair", model=model)
    with pytest.warns(UserWarning, match="3 normal images"):
        adapted = adapted.calibrate([f"good/{k}.png" for k in range(3)])
    with pytest.raises(DataError, match="would share the map"):
        adapted.detector(["thread/0.png"])
