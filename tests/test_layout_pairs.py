"""Which mask belongs to which image, what is left out of a data set, and tables that are not quite ones: nothing is taken for another,
and nothing is passed over without a word."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML
from test_layout_quirks import built, groups
from test_layouts import MINIATURES, mask, picture

from nandlib.data.layouts import find_layout
from nandlib.errors import DataError
from nandlib.show.data_sheet import DataSheet


def left_out(root, **options):
    return [note for note in built(root, **options)[1] if note.startswith("not used")]


def areas(root):
    frame = built(root)[0]
    return {row["image"].rsplit("/", 1)[1]: round(row["mask_area"] * 480) for _, row in frame[frame["type"] == "hole"].iterrows()}


def test_a_mask_is_that_of_the_image_of_its_whole_name(tmp_path):
    """``0_mask.png`` may be an image, too; and AutoVI's masks lie in folders, whose names may have a point."""
    MINIATURES["mvtec_ad"](tmp_path / "ad")
    place = tmp_path / "ad/plate"
    for name, values in (("7", [255]), ("7_mask", [255, 255])):
        picture(place / f"test/hole/{name}.png")
        mask(place / f"ground_truth/hole/{name}.png", *values)
    assert areas(tmp_path / "ad") == {"000.png": 6, "001.png": 6, "7.png": 6, "7_mask.png": 12}
    MINIATURES["autovi"](tmp_path / "autovi")
    place = tmp_path / "autovi/plate"
    for name, values in (("0089.2", [255, 255]), ("0089.9", [255, 255, 255])):
        picture(place / f"test/hole/{name}.png")
        mask(place / f"ground_truth/hole/{name}/0000.png", *values)
    assert areas(tmp_path / "autovi") == {"0089.png": 6, "0089.2.png": 12, "0089.9.png": 18}


def test_a_mask_of_two_images_is_refused(tmp_path):
    MINIATURES["mvtec_ad"](tmp_path)
    shutil.copy(tmp_path / "plate/test/hole/000.png", tmp_path / "plate/test/hole/000.JPG")
    with pytest.raises(DataError, match=r"000_mask\.png could be the mask of 000\.JPG and of 000\.png in .*hole: rename all but one"):
        built(tmp_path)


def test_names_that_end_as_masks_do(tmp_path):
    MINIATURES["mvtec_ad"](tmp_path)
    images, masks = tmp_path / "plate/test/rust", tmp_path / "plate/ground_truth/rust"
    shutil.rmtree(images), shutil.rmtree(masks, ignore_errors=True)
    for name in ("000", "000_mask"):
        picture(images / f"{name}.png")
        mask(masks / f"{name}_mask.png", *([255] if name == "000" else [255, 255]))
    frame = built(tmp_path)[0]
    own = frame[frame["type"] == "rust"].set_index("image")["mask"].to_dict()
    place = "plate/ground_truth/rust"
    assert own == {f"plate/test/rust/{name}.png": f"{place}/{name}_mask.png" for name in ("000", "000_mask")}
    (masks / "000_mask_mask.png").unlink()
    with pytest.raises(DataError, match=r"000_mask\.png could be the mask of 000\.png and of 000_mask\.png"):
        built(tmp_path)
    (masks / "000_mask.png").unlink()  # masks beside their images
    with pytest.raises(DataError, match=r"rust: 000_mask is named as the mask of 000\.png: masks lie in a folder of their own"):
        built(tmp_path)


def test_an_accent_is_one_with_its_letter(tmp_path):
    MINIATURES["mvtec_ad"](tmp_path)
    picture(tmp_path / "plate/test/hole/r\u00e4.png")
    mask(tmp_path / "plate/ground_truth/hole/ra\u0308_mask.png", 255)
    assert areas(tmp_path)["r\u00e4.png"] == 6 and not left_out(tmp_path)


def test_good_is_spelt_so_and_images_lie_where_they_are_looked_for(tmp_path):
    MINIATURES["mvtec_ad"](tmp_path)
    picture(tmp_path / "plate/test/Good/000.png")
    with pytest.raises(DataError, match="type named 'Good': normal images are of type 'good'"):
        built(tmp_path)
    shutil.rmtree(tmp_path / "plate/test/Good")
    picture(tmp_path / "plate/test/dent/inner/000.png")
    with pytest.raises(DataError, match="they are in its folder 'inner': move them up"):
        built(tmp_path)


def test_another_layout_than_is_said_is_named(tmp_path):
    MINIATURES["mvtec_ad"](tmp_path)
    with pytest.raises(DataError, match="holds no class folder .*: it looks like 'mvtec_ad', which data.layout can say"):
        built(tmp_path, layout="visa")


def test_a_single_good_image_is_little_to_compare_with(tmp_path):
    MINIATURES["mvtec_ad"](tmp_path)
    for path in sorted((tmp_path / "plate/test/good").iterdir())[1:]:
        path.unlink()
    notes = DataSheet.of(tmp_path, progress=False).notes
    assert any(note.startswith("fewer than 5 good test images: ") and "plate (1)" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "marker"), [("mvtec_loco", "defects_config.json"), ("visa", "image_anno.csv"), ("ds_mvtec", "mask"), ("mvtec_3d", "train")]
)
def test_a_folder_that_is_no_class_for_the_lack_of_a_file_is_named(tmp_path, name, marker):
    MINIATURES[name](tmp_path)
    shutil.copytree(tmp_path / "plate", tmp_path / "other")
    lacking = tmp_path / "other" / marker
    shutil.rmtree(lacking) if lacking.is_dir() else lacking.unlink()
    assert set(built(tmp_path)[0]["class"]) == {"plate"}
    assert [note.split(" images in ")[1] for note in left_out(tmp_path) if "plate" not in note] == ["other, which is none of the classes"]
    assert not [note for note in left_out(tmp_path, classes=("plate",), exclude_classes=()) if "plate" not in note and "other" not in note]


def test_classes_that_were_not_chosen_are_not_left_out(dataset):
    root = dataset()
    picture(root / "bolt/test/dent/x/0.png")
    assert left_out(root) == ["not used: 1 images in bolt/test/dent/x"]
    assert left_out(root, classes=("cloth",)) == []


def test_images_beside_a_table_and_in_real_iads_folders_are_noted(tmp_path):
    MINIATURES["table"](tmp_path / "table")
    picture(tmp_path / "table/all/z.png")
    assert left_out(tmp_path / "table") == ["not used: 1 images in all"]
    MINIATURES["real_iad"](tmp_path / "iad")
    (tmp_path / "iad/realiad_256").mkdir()
    shutil.move(tmp_path / "iad/plate", tmp_path / "iad/realiad_256/plate")
    picture(tmp_path / "iad/realiad_256/plate/NG/AK/S0009/b.jpg")
    assert left_out(tmp_path / "iad") == ["not used: 1 images in realiad_256/plate/NG/AK/S0009"]


def test_the_line_for_a_preset_is_yaml(tmp_path):
    MINIATURES["mvtec_ad"](tmp_path / "a, b: c")
    line = str(DataSheet.of(tmp_path / "a, b: c", progress=False)).splitlines()[-1]
    data = YAML(typ="safe").load(line.removeprefix("in a preset: "))["data"]
    assert data == {"root": str((tmp_path / "a, b: c").resolve()), "layout": "mvtec_ad", "groups": "types"}


def test_tables_with_a_comma_too_many_and_of_other_types(tmp_path):
    MINIATURES["table"](tmp_path)
    path, expected = tmp_path / "images.csv", groups(tmp_path)
    lines = path.read_text().splitlines()
    frame = pd.read_csv(path, keep_default_na=False)
    path.write_text("\n".join([lines[0], *(f"{line}," for line in lines[1:])]) + "\n")
    with pytest.raises(DataError, match=r"images\.csv: rows have more fields than the first line names: quote what holds a comma"):
        built(tmp_path)
    path.unlink()
    odd = frame.assign(mask=frame["mask"].replace("", None).astype("category"), split=frame["split"].astype("category"))
    odd = odd.assign(area=pd.array([1, None, 3, 4, 5], dtype="Int64")).set_index(pd.Index(list("vwxyz")))
    odd.to_parquet(tmp_path / "images.parquet")
    assert groups(tmp_path) == expected
    odd.assign(split="trian").to_parquet(tmp_path / "images.parquet")
    with pytest.raises(DataError, match="split is 'trian' in row 2: train or test"):
        built(tmp_path)
    for kind in ("good, rust", "ru+st"):
        frame.assign(type=frame["type"].replace("rust", kind)).to_parquet(tmp_path / "images.parquet")
        with pytest.raises(DataError, match=r"a type's name has no '\+', and 'good' stands alone"):
            built(tmp_path)


def test_a_class_without_a_good_image_to_compare_with(tmp_path):
    MINIATURES["mvtec_ad"](tmp_path)
    for path in (tmp_path / "plate/test/good").iterdir():
        path.write_bytes(b"torn")
    with pytest.raises(DataError, match="class 'plate': no good test image that can be read"):
        built(tmp_path, on_unreadable="skip")
    MINIATURES["visa"](tmp_path / "visa")
    path = tmp_path / "visa/split_csv/1cls.csv"
    path.write_text(path.read_text().replace("plate,train", "plate,test"))
    with pytest.raises(DataError, match=r"1cls\.csv names none of its images as 'train'"):
        built(tmp_path / "visa")


def test_masks_of_black_and_white_tell_no_types(tmp_path):
    """DS-MVTec's folders with MVTec AD's own masks: what is combined stays so. Nor do colours, of which several are one grey."""
    MINIATURES["ds_mvtec"](tmp_path)
    for path in sorted(tmp_path.glob("plate/mask/*/*.png")):
        Image.fromarray(255 * np.sign(np.asarray(Image.open(path)))).save(path)
    found = groups(tmp_path)
    assert found["test", "hole"] == "hole" and found["test", "rust"] == "rust" and found["test", "combined"] == ""
    coloured = np.zeros((20, 24, 3), np.uint8)
    coloured[:4, :, 0], coloured[8:12, :, 1] = 255, 130
    Image.fromarray(coloured).save(tmp_path / "plate/mask/combined/000_mask.png")
    with pytest.raises(DataError, match=r"000_mask\.png is a mask in colours"):
        built(tmp_path)


def test_autovi_is_known_by_any_of_its_folders(tmp_path):
    MINIATURES["autovi"](tmp_path)
    (tmp_path / "plate/ground_truth/hole/0001").mkdir()
    assert find_layout(tmp_path).name == "autovi"
