"""Every layout on a miniature built from its documentation (none of these data sets was at hand), by the manifest that studies use."""

import json
import re
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_project import ROOT
from typer.testing import CliRunner

from nandlib.cli import app
from nandlib.data.config import DataConfig
from nandlib.data.groups import Grouping, load_grouping
from nandlib.data.images import load_mask
from nandlib.data.layouts import LAYOUTS, find_layout
from nandlib.data.manifest import build_manifest
from nandlib.errors import DataError
from nandlib.method.prompts import load_prompts
from nandlib.show.data_sheet import DataSheet
from nandlib.study.preset import load_study

SIZE = (24, 20)  # width, height


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(str(path))).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)).save(path)


def mask(path: Path, *values: int) -> None:
    """A column of pixels for every value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    for k, value in enumerate(values):
        drawn[4:10, 3 * k] = value
    Image.fromarray(drawn).save(path)


def mvtec_ad(root: Path) -> None:
    for split, kind in (("train", "good"), ("test", "good"), ("test", "hole"), ("test", "rust")):
        for k in range(2):
            picture(root / f"plate/{split}/{kind}/{k:03d}.png")
            if kind != "good":
                mask(root / f"plate/ground_truth/{kind}/{k:03d}_mask.png", 255)


def visa(root: Path) -> None:
    rows = [("Normal/0.JPG", "normal", ""), ("Normal/1.JPG", "normal", ""), ("Anomaly/0.JPG", "color spot", "0.png")]
    rows += [("Anomaly/1.JPG", "hole", "1.png"), ("Anomaly/2.JPG", "hole, color spot", "2.png")]
    table = []
    for image, label, name in rows:
        picture(root / f"plate/Data/Images/{image}")
        place = f"plate/Data/Masks/Anomaly/{name}" if name else ""
        if name:
            mask(root / place, 1, 2)
        table.append((f"plate/Data/Images/{image}", label, place))
    pd.DataFrame(table, columns=["image", "label", "mask"]).to_csv(root / "plate/image_anno.csv", index=False)
    (root / "split_csv").mkdir()
    split = [("plate", "train" if "Normal/0" in image else "test", label, image, place) for image, label, place in table]
    pd.DataFrame(split, columns=["object", "split", "label", "image", "mask"]).to_csv(root / "split_csv/1cls.csv", index=False)


def mvtec_loco(root: Path) -> None:
    for split in ("train", "validation", "test"):
        picture(root / f"plate/{split}/good/000.png")
    for kind, k, values in (("structural", 0, [255]), ("structural", 1, [254]), ("logical", 0, [253]), ("logical", 1, [255, 253])):
        picture(root / f"plate/test/{kind}_anomalies/{k:03d}.png")
        for number, value in enumerate(values):
            mask(root / f"plate/ground_truth/{kind}_anomalies/{k:03d}/{number:03d}.png", value)
    names = [("hole", 255), ("rust", 254), ("missing_nut", 253)]
    content = [
        {"defect_name": name, "pixel_value": value, "saturation_threshold": 10, "relative_saturation": False} for name, value in names
    ]
    (root / "plate/defects_config.json").write_text(json.dumps(content))


def mvtec_3d(root: Path) -> None:
    for split, kind in (
        ("train", "good"),
        ("validation", "good"),
        ("test", "good"),
        ("test", "hole"),
        ("test", "rust"),
        ("test", "combined"),
    ):
        picture(root / f"plate/{split}/{kind}/rgb/000.png")
        (root / f"plate/{split}/{kind}/xyz").mkdir()
        mask(root / f"plate/{split}/{kind}/gt/000.png", 255)


def ds_mvtec(root: Path) -> None:
    picture(root / "plate/train/good/000.png")
    picture(root / "plate/image/good/000.png")
    for kind, k, values in (
        ("hole", 0, [1]),
        ("hole", 1, [1]),
        ("rust", 0, [2]),
        ("combined", 0, [2]),
        ("combined", 1, [1, 2]),
        ("combined", 2, [7]),
    ):
        picture(root / f"plate/image/{kind}/{k:03d}.png")
        mask(root / f"plate/mask/{kind}/{k:03d}_mask.png", *values)


def real_iad(root: Path) -> None:
    content: dict[str, list[dict[str, str | None]]] = {"train": [], "test": []}
    for split, kind, sample in (("train", "OK", 1), ("test", "OK", 2), ("test", "AK", 3), ("test", "HS", 4)):
        image = f"OK/S000{sample}/a_OK_C1.jpg" if kind == "OK" else f"NG/{kind}/S000{sample}/a_{kind}_C1.jpg"
        picture(root / "plate" / image)
        place = None if kind == "OK" else image.replace(".jpg", ".png")
        if place:
            mask(root / "plate" / place, 255)
        content[split].append({"category": "plate", "anomaly_class": kind, "image_path": image, "mask_path": place})
    (root / "realiad_jsons").mkdir()
    (root / "realiad_jsons/plate.json").write_text(json.dumps({"meta": {"prefix": "plate/", "normal_class": "OK"}, **content}))


def autovi(root: Path) -> None:
    for split, kind in (("train", "good"), ("test", "good"), ("test", "hole"), ("test", "rust")):
        picture(root / f"plate/{split}/{kind}/0089.png")
        if kind != "good":
            mask(root / f"plate/ground_truth/{kind}/0089/0000.png", 255)


def table(root: Path) -> None:
    rows = [("a.png", "train", "good", ""), ("b.png", "test", "good", ""), ("c.png", "test", "hole", "c_mask.png")]
    rows += [("d.png", "test", "rust", ""), ("e.png", "test", "rust, hole", "")]
    for name, _, _, place in rows:
        picture(root / "all" / name)
        if place:
            mask(root / "all" / place, 255)
    content = [(f"all/{name}", "plate", split, kind, place and f"all/{place}") for name, split, kind, place in rows]
    pd.DataFrame(content, columns=["image", "class", "split", "type", "mask"]).to_csv(root / "images.csv", index=False)


MINIATURES = {own.__name__: own for own in (mvtec_ad, visa, mvtec_loco, mvtec_3d, ds_mvtec, real_iad, autovi, table)}
GROUPS = {  # split, type, group, images
    "mvtec_ad": [("train", "good", "good", 2), ("test", "good", "good", 2), ("test", "hole", "hole", 2), ("test", "rust", "rust", 2)],
    "visa": [
        *(("train", "good", "good", 1), ("test", "good", "good", 1), ("test", "color_spot", "color_spot", 1)),
        *(("test", "color_spot+hole", "", 1), ("test", "hole", "hole", 1)),
    ],
    "mvtec_loco": [
        *(("train", "good", "good", 1), ("test", "good", "good", 1), ("test", "hole", "hole", 1), ("test", "hole+missing_nut", "", 1)),
        *(("test", "missing_nut", "missing_nut", 1), ("test", "rust", "rust", 1)),
    ],
    "mvtec_3d": [
        *(("train", "good", "good", 1), ("test", "good", "good", 1), ("test", "combined", "", 1)),
        *(("test", "hole", "hole", 1), ("test", "rust", "rust", 1)),
    ],
    "ds_mvtec": [
        *(("train", "good", "good", 1), ("test", "good", "good", 1), ("test", "combined", "", 2)),
        *(("test", "hole", "hole", 2), ("test", "rust", "rust", 2)),
    ],
    "real_iad": [("train", "good", "good", 1), ("test", "good", "good", 1), ("test", "AK", "AK", 1), ("test", "HS", "HS", 1)],
    "autovi": [("train", "good", "good", 1), ("test", "good", "good", 1), ("test", "hole", "hole", 1), ("test", "rust", "rust", 1)],
    "table": [
        *(("train", "good", "good", 1), ("test", "good", "good", 1), ("test", "hole", "hole", 1)),
        *(("test", "hole+rust", "", 1), ("test", "rust", "rust", 1)),
    ],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_miniature_is_found_and_read(tmp_path, name):
    MINIATURES[name](tmp_path)
    assert find_layout(tmp_path).name == name and set(MINIATURES) == set(LAYOUTS)
    for layout in (name, "auto"):
        frame, _ = build_manifest(tmp_path, DataConfig(root=tmp_path, layout=layout), Grouping("types", None), progress=False)
        counted = frame.groupby(["split", "type", "group"], sort=False).size()
        assert sorted((*key, count) for key, count in counted.items()) == sorted(GROUPS[name])
        marked = frame[frame["mask"] != ""]
        assert (marked["mask_area"] > 0).all() and len(marked) >= 1 and (marked["type"] != "good").all()
        assert set(frame["class"]) == {"plate"} and all((tmp_path / image).is_file() for image in frame["image"])


def test_a_grouping_need_not_name_what_shows_several(tmp_path):
    visa(tmp_path)
    grouping = Grouping("some", {"plate": {"spots": ("color_spot",), "holes": ("hole",)}})
    frame, _ = build_manifest(tmp_path, DataConfig(root=tmp_path, layout="visa"), grouping, progress=False)
    assert frame.set_index("type")["group"].to_dict() == {"good": "good", "color_spot": "spots", "color_spot+hole": "", "hole": "holes"}


def test_masks_of_a_folder_count_together_and_numbers_of_types_are_no_grey(tmp_path):
    mask(tmp_path / "parts/0.png", 255)
    mask(tmp_path / "parts/1.png", 0, 255)
    mask(tmp_path / "types.png", 1, 7)
    assert load_mask(tmp_path / "parts").sum() == 12 == load_mask(tmp_path / "types.png").sum()
    Image.new("L", (3, 3)).save(tmp_path / "parts/2.png")
    with pytest.raises(DataError, match="3 masks of several sizes"):
        load_mask(tmp_path / "parts")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="none: 0 masks: it must hold one or more"):
        load_mask(tmp_path / "none")


BROKEN = {
    "no split": ("visa", lambda root: (root / "split_csv/1cls.csv").unlink(), r"1cls\.csv is missing: VisA's own folder has it"),
    "no label": ("visa", lambda root: (root / "plate/image_anno.csv").write_text("image,mask\na,b\n"), "has no column 'label'"),
    "an unknown value": (
        "mvtec_loco",
        lambda root: mask(root / "plate/ground_truth/logical_anomalies/000/000.png", 9),
        "pixels of value 9",
    ),
    "no masks": (
        "mvtec_loco",
        lambda root: (root / "plate/ground_truth/logical_anomalies/000/000.png").unlink(),
        "holds no mask with a marked pixel: it alone",
    ),
    "no list": ("mvtec_loco", lambda root: (root / "plate/defects_config.json").write_text("{}x"), "is no list of defects"),
    "a torn file": ("real_iad", lambda root: (root / "realiad_jsons/plate.json").write_text('{"train": ['), "is not what Real-IAD's JSON"),
    "no training images": ("ds_mvtec", lambda root: (root / "plate/train/good/000.png").unlink(), "no image in .*train/good"),
    "another split": ("table", lambda root: _replace(root / "images.csv", "train", "trian"), "split is 'trian' in row 2: train or test"),
    "no good image": ("table", lambda root: _replace(root / "images.csv", "test,good", "test,hole"), "no row of .* with split 'test'"),
    "a way out": ("table", lambda root: _replace(root / "images.csv", "all/c.png", "../c.png"), r"image '\.\./c\.png' leaves the folder"),
    "no type": ("table", lambda root: _replace(root / "images.csv", "split,type", "split,kind"), "has no column 'type'"),
}


def _replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_named(tmp_path, what):
    name, breaking, message = BROKEN[what]
    MINIATURES[name](tmp_path)
    breaking(tmp_path)
    with pytest.raises(DataError, match=message):
        build_manifest(tmp_path, DataConfig(root=tmp_path, layout=name), Grouping("types", None), progress=False)


def test_a_table_may_be_parquet(tmp_path):
    table(tmp_path)
    pd.read_csv(tmp_path / "images.csv").to_parquet(tmp_path / "images.parquet")  # where nothing stands, it holds None
    expected = LAYOUTS["table"].items(tmp_path, "plate")
    (tmp_path / "images.csv").unlink()
    assert LAYOUTS["table"].items(tmp_path, "plate") == expected


def test_images_of_a_table_may_lie_elsewhere(tmp_path, monkeypatch):
    """Each is fetched once; two of one name from two addresses are two."""
    table(tmp_path / "own")
    host = fsspec.filesystem("memory")
    frame = pd.read_csv(tmp_path / "own/images.csv", keep_default_na=False)
    for column in ("image", "mask"):
        for k, place in enumerate(frame[column]):
            if place:
                host.pipe(f"/{column}/{k}/x.png", (tmp_path / "own" / place).read_bytes())
                frame.loc[k, column] = f"memory://{column}/{k}/x.png"
    (tmp_path / "far").mkdir()
    frame.to_csv(tmp_path / "far/images.csv", index=False)
    grouping = Grouping("types", None)
    near, far = (
        build_manifest(folder, DataConfig(root=folder, layout="table"), grouping, progress=False)[0]
        for folder in (tmp_path / "own", tmp_path / "far")
    )
    shown = ["class", "split", "type", "group"]
    assert sorted(map(tuple, far[shown].to_numpy())) == sorted(map(tuple, near[shown].to_numpy()))
    hole = far.query("type == 'hole'").iloc[0]
    assert (tmp_path / "far" / hole["image"]).read_bytes() == (tmp_path / "own/all/c.png").read_bytes()
    assert (tmp_path / "far" / hole["mask"]).read_bytes() == (tmp_path / "own/all/c_mask.png").read_bytes()
    host.rm("/", recursive=True)
    assert far.equals(build_manifest(tmp_path / "far", DataConfig(root=tmp_path / "far", layout="table"), grouping, progress=False)[0])
    shutil.rmtree(tmp_path / "far/fetched")
    with pytest.raises(DataError, match="memory://image/0/x.png cannot be read"):
        LAYOUTS["table"].items(tmp_path / "far", "plate")
    assert not [path for path in (tmp_path / "far").rglob("*") if path.is_file() and path.name != "images.csv"]


def test_the_data_sheet(tmp_path):
    table(tmp_path / "mine")
    Image.new("L", SIZE).save(tmp_path / "mine/all/c_mask.png")
    (tmp_path / "mine/all/d.png").write_bytes(b"torn")
    sheet = DataSheet.of(tmp_path / "mine", progress=False)
    assert sheet.counts["images"].sum() == 4 and sheet.counts["masks"].sum() == 1
    said = CliRunner().invoke(app, ["data", "check", str(tmp_path / "mine"), "--sheet", str(tmp_path / "out/sheet.html")]).stdout
    for words in (
        "layout table",
        "skipped: ",
        "replace the file",
        "empty mask: all/c_mask.png",
        "draw it anew",
        "fewer than 5",
        "always abnormal",
    ):
        assert words in said, words
    page = (tmp_path / "out/sheet.html").read_text()
    assert page.count("<img") == 4 and not re.search(r'src="(?!data:)', page) and "always abnormal" in page
    with pytest.raises(DataError, match=r"looks like no data set that is known here \(table: images\.csv"):
        CliRunner().invoke(app, ["data", "check", str(tmp_path / "out")], catch_exceptions=False)
    with pytest.raises(DataError, match="no layout 'visaa': did you mean 'visa'"):
        CliRunner().invoke(app, ["data", "check", str(tmp_path), "--layout", "visaa"], catch_exceptions=False)


@pytest.mark.parametrize(("name", "classes"), [("visa", 12), ("mpdd", 6)])
def test_presets_have_texts_for_every_type(name, classes):
    study = load_study(ROOT / f"studies/{name}.yaml")
    prompts = load_prompts(study.prompts)
    assert len(prompts.phrases) == classes and "names of class and type alone" in (ROOT / f"studies/prompts/{name}.yaml").read_text()
    for class_name, types in prompts.phrases.items():
        for kind, texts in types.items():
            assert len(texts) == 5 == len(set(texts)) and prompts.group_phrases(class_name, kind, [kind]) == texts
            assert not any("_" in text for text in texts)
    assert study.figures.group in prompts.phrases[study.figures.class_name]


def test_an_image_that_is_named_twice_is_named(dataset):
    root = dataset()
    shutil.copy(root / "bolt/train/good/000.png", root)
    (root / "images.csv").write_text("image,class,split,type\n000.png,p,train,good\n000.png,p,test,good\n000.png,p,test,dent\n")
    with pytest.raises(DataError, match=r"names the image '000\.png' 3 times"):
        build_manifest(root, DataConfig(root=root, groups="types", layout="table"), load_grouping("types"), progress=False)


def test_a_mask_means_the_same_at_every_size(tmp_path):
    """Soft edges count where the whole mask says so, however small it is asked for."""
    soft = np.full((64, 64), 0, np.uint8)
    soft[20:40, 20:40], soft[30, 30] = 100, 255
    Image.fromarray(soft).save(tmp_path / "soft.png")
    assert load_mask(tmp_path / "soft.png").sum() == 1 and load_mask(tmp_path / "soft.png", (16, 16)).sum() <= 1
