"""The manifest on folders of every allowed kind, and every message that bad data gets."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nandlib.data.config import DataConfig
from nandlib.data.groups import Grouping, load_grouping
from nandlib.data.images import load_image, load_mask
from nandlib.data.manifest import MANIFEST, build_manifest, read_manifest, table1
from nandlib.errors import DataError, PresetError
from nandlib.study.preset import load_study

ROOT = Path(__file__).parents[1]
TYPES = Grouping("types", None)


def build(root, grouping=TYPES, **options):
    return build_manifest(root, DataConfig(root=root, **options), grouping, progress=False)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_format_and_colour(dataset, suffix, mode):
    frame, notes = build(dataset(suffix=suffix, mode=mode))
    assert len(frame) == 2 * (2 + 2 + 4)
    assert not notes
    assert set(frame["width"]) == {48}
    assert set(frame["height"]) == {40}
    assert frame.loc[frame["type"] == "dent", "mask_area"].tolist() == pytest.approx([10 * 20 / (40 * 48)] * 4)
    assert (frame.loc[frame["type"] == "good", "mask"] == "").all()


def test_masks_may_carry_the_images_own_name(dataset):
    root = dataset()
    for path in root.glob("*/ground_truth/*/*_mask.png"):
        path.rename(path.with_name(path.name.replace("_mask", "")))
    frame, _ = build(root)
    assert (frame.loc[frame["type"] != "good", "mask"] != "").all()


def test_manifest_survives_the_disk(dataset, tmp_path):
    frame, _ = build(dataset())
    frame.to_csv(tmp_path / "m.csv", index=False)
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "m.csv"), frame)


def test_sixteen_bit_grey_is_scaled(tmp_path):
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(tmp_path / "a.png")
    assert np.asarray(load_image(tmp_path / "a.png")).min() == 255


def test_mask_is_resized_by_nearest_neighbour(dataset):
    mask = load_mask(dataset() / "bolt/ground_truth/dent/000_mask.png", (80, 96))
    assert mask.shape == (80, 96)
    assert mask.mean() == pytest.approx(10 * 20 / (40 * 48))


def test_missing_root(tmp_path):
    with pytest.raises(DataError, match=r"data.root: .*nowhere is not a folder: put the data set there"):
        build(tmp_path / "nowhere")


def test_root_without_classes(tmp_path):
    with pytest.raises(DataError, match="holds no class folder"):
        build(tmp_path)


@pytest.mark.parametrize("folder", ["train/good", "test/good", "test/hair"])
def test_empty_class(dataset, folder):
    root = dataset()
    for path in (root / "cloth" / folder).iterdir():
        path.unlink()
    with pytest.raises(DataError, match=f"class 'cloth': no image in .*{folder}"):
        build(root)


def test_missing_masks_are_allowed_and_reported(dataset, tmp_path):
    root = dataset()
    shutil.rmtree(root / "bolt/ground_truth")
    (root / "cloth/ground_truth/hair/001_mask.png").unlink()
    frame, notes = build(root)
    assert notes == [f"no masks: {what} images)" for what in ("bolt/dent (2 of 2", "bolt/hair (2 of 2", "cloth/hair (1 of 2")]
    without = (frame["type"] != "good") & (frame["mask"] == "")
    assert frame.loc[without, "image"].tolist() == [
        *(f"bolt/test/{t}/00{k}.png" for t in ("dent", "hair") for k in (0, 1)),
        "cloth/test/hair/001.png",
    ]
    assert frame.loc[without, "mask_area"].isna().all()  # not known, which is not the same as empty
    assert (frame.loc[~without, "mask_area"] > 0).tolist() == (frame.loc[~without, "type"] != "good").tolist()
    frame.to_csv(tmp_path / "m.csv", index=False)
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "m.csv"), frame)


def test_a_data_set_without_any_mask(dataset):
    root = dataset()
    for folder in root.glob("*/ground_truth"):
        shutil.rmtree(folder)
    frame, notes = build(root)
    assert (frame["mask"] == "").all()
    assert len(notes) == 4
    assert len(frame) == 16


def test_mask_of_another_size(dataset):
    root = dataset()
    Image.new("L", (10, 12)).save(root / "cloth/ground_truth/hair/001_mask.png")
    with pytest.raises(DataError, match=r"001_mask.png is 10 x 12 pixels but its image .*001.png is 48 x 40"):
        build(root)


def test_empty_mask_is_allowed_and_reported(dataset):
    root = dataset()
    Image.new("L", (48, 40)).save(root / "cloth/ground_truth/hair/001_mask.png")
    frame, notes = build(root)
    assert notes == ["empty mask: cloth/ground_truth/hair/001_mask.png"]
    assert len(frame) == 16


@pytest.mark.parametrize("damage", ["truncated", "no image"])
def test_unreadable_image_is_named_and_can_be_skipped(dataset, damage):
    root = dataset()
    path = root / "bolt/test/dent/000.png"
    path.write_bytes(path.read_bytes()[:2000] if damage == "truncated" else b"hello")
    with pytest.raises(DataError, match=r"bolt/test/dent/000.png cannot be read as an image .*data.on_unreadable to 'skip'"):
        build(root)
    frame, notes = build(root, on_unreadable="skip")
    assert len(frame) == 15
    assert len(notes) == 1
    assert "bolt/test/dent/000.png" in notes[0]


def test_unknown_class_gets_the_nearest_name(dataset):
    with pytest.raises(DataError, match=r"data.classes: no class 'blot' in .*did you mean 'bolt'\?"):
        build(dataset(), classes=("blot",))
    with pytest.raises(DataError, match=r"data.exclude_classes: no class 'clot' .*did you mean 'cloth'\?"):
        build(dataset(), exclude_classes=("clot",))


def test_class_without_groups(dataset):
    grouping = Grouping("my.yaml", {"bolt": {"dent": ["dent"], "hair": ["hair"]}})
    with pytest.raises(PresetError, match="my.yaml: no groups for class 'cloth': add them, or list the class in data.exclude_classes"):
        build(dataset(), grouping)
    frame, _ = build(dataset(), grouping, exclude_classes=("cloth",))
    assert set(frame["class"]) == {"bolt"}


def test_group_that_lists_a_type_that_is_not_there(dataset):
    grouping = Grouping("my.yaml", {"bolt": {"dent": ["dents"], "hair": ["hair"]}})
    with pytest.raises(PresetError, match=r"bolt/dent lists type 'dents', which is not in the data: did you mean 'dent'\?"):
        build(dataset(classes=("bolt",)), grouping)


def test_type_in_no_group(dataset):
    grouping = Grouping("my.yaml", {"bolt": {"dent": ["dent"]}})
    root = dataset(classes=("bolt",))
    with pytest.raises(PresetError, match="type 'hair' of class 'bolt' is in no group"):
        build(root, grouping)
    frame, _ = build(root, grouping, abnormal_types=("hair",))
    assert set(frame.loc[frame["type"] == "hair", "group"]) == {""}
    frame, _ = build(root, grouping, exclude_types=("hair",))
    assert "hair" not in set(frame["type"])


def test_class_with_one_group_only(dataset):
    _, notes = build(dataset(types=("dent",)))
    assert notes == [f"class '{c}' has one group only (dent): no protocol possible, left out of the tables" for c in ("bolt", "cloth")]


def test_table1_counts_the_images_of_the_protocol(dataset):
    frame, _ = build(dataset())
    table = table1(frame)
    assert table.columns.tolist() == ["class", "group", "type", "n_images"]
    assert table["n_images"].tolist() == [2, 2, 2, 2]


def test_combined_is_in_the_folder_and_in_no_row(dataset):
    """As the embedded study's preset has it, which is the paper's choice."""
    excluded = load_study(ROOT / "studies/mini.yaml").data
    assert (excluded.exclude_classes, excluded.exclude_types) == (("toothbrush",), ("combined",))
    root = dataset(types=("dent", "hair", "combined"))
    everything, _ = build(root)
    frame, _ = build(root, exclude_types=excluded.exclude_types)
    assert (everything["type"] == "combined").sum() == 4 and not frame["image"].str.contains("combined").any()
    assert set(table1(frame)["type"]) == {"dent", "hair"}
    pd.testing.assert_frame_equal(frame, everything[everything["type"] != "combined"].reset_index(drop=True))


def test_schema_refuses_strangers():
    with pytest.raises(Exception, match="column"):
        MANIFEST.validate(pd.DataFrame({"class": ["a"]}))


def test_groupings(tmp_path):
    mvtec = load_grouping("mvtec_ad")
    assert mvtec.group_of("carpet", "hole") == "cut"
    assert mvtec.group_of("carpet", "combined") == ""
    assert load_grouping("types").group_of("any", "thing") == "thing"
    with pytest.raises(PresetError, match=r"no groups file 'mvtec' in the package: did you mean 'mvtec_ad'\?"):
        load_grouping("mvtec")
    for text, message in (
        ("[1]", "must map class"),
        ("a: [b]", "class 'a' must map each group"),
        ("a: {b: []}", "a/b must be a list of at least one type"),
        ("a: {b: [x], c: [x]}", "a has type 'x' twice"),
        ("a: {b: [x, x]}", "a has type 'x' twice"),
        ("a: {good: [x]}", "a/good: 'good' is no group of defects"),
        ("a: {b: [good]}", "a/b: 'good' is no group of defects, nor one of its types"),
        ("a: {b: [{x: y}]}", "a/b: types are text"),
        ("a: {b: [001]}", "a/b: types are text: put what was read as 1 in quotes"),
        ("a: {b: [x", "is not valid YAML"),
    ):
        (tmp_path / "g.yaml").write_text(text)
        with pytest.raises(PresetError, match=message):
            load_grouping(str(tmp_path / "g.yaml"))


def test_numeric_class_names_stay_text(dataset, tmp_path):
    frame, _ = build(dataset(classes=("01", "02")))
    frame.to_csv(tmp_path / "m.csv", index=False)
    assert set(read_manifest(tmp_path / "m.csv")["class"]) == {"01", "02"}


def test_masks_of_zeros_and_ones(dataset):
    path = dataset() / "bolt/ground_truth/dent/000_mask.png"
    Image.fromarray((load_mask(path)).astype(np.uint8)).save(path)
    assert load_mask(path).sum() == 200


def test_always_abnormal_types_without_groups_of_ones_own(dataset):
    frame, _ = build(dataset(), abnormal_types=("hair",))
    assert set(frame.loc[frame["type"] == "hair", "group"]) == {""}
    with pytest.raises(DataError, match=r"data.exclude_types: no type 'hiar' .*did you mean 'hair'\?"):
        build(dataset(), exclude_types=("hiar",))
    grouping = Grouping("my.yaml", {"bolt": {"dent": ["dent"], "hair": ["hair"]}})
    with pytest.raises(PresetError, match="type 'hair' of class 'bolt' is in a group and in data.abnormal_types"):
        build(dataset(classes=("bolt",)), grouping, classes=("bolt",), abnormal_types=("hair",))


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "$(touch harm)", "a;b", "-rf"])
def test_names_that_are_more_than_names_are_refused(dataset, name):
    root = dataset(types=("dent", name))
    with pytest.raises(DataError, match=r"has a class or type named '.*': such names stand in tables"):
        build(root)
