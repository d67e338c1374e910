"""Data sets of which a file or a class is missing: what is lacking is named, and the rest is told."""

import shutil

import pandas as pd
import pytest
from test_layouts import mvtec_loco, real_iad, table, visa
from typer.testing import CliRunner

from nandlib.cli import app
from nandlib.data.addresses import read
from nandlib.data.config import DataConfig
from nandlib.data.groups import Grouping
from nandlib.data.layouts import find_layout
from nandlib.data.manifest import build_manifest
from nandlib.errors import DataError
from nandlib.show.data_sheet import DataSheet


def only(root, pattern):
    (found,) = root.glob(pattern)
    return found


def test_mvtec_loco_without_its_table_is_not_taken_for_autovi(tmp_path):
    mvtec_loco(tmp_path)
    config = only(tmp_path, "*/defects_config.json")
    config.unlink()
    assert find_layout(tmp_path).name == "mvtec_loco"
    with pytest.raises(
        DataError, match=f"no class folder .left out: class '{config.parent.name}', of which .*defects_config.json is missing"
    ):
        DataSheet.of(tmp_path, progress=False)


def test_classes_without_their_file_are_named(tmp_path):
    real_iad(tmp_path / "a")
    for size in ("realiad_256", "realiad_512"):
        shutil.copytree(tmp_path / "a/plate", tmp_path / "a" / size / "plate")
    shutil.move(tmp_path / "a/plate", tmp_path / "a/realiad_256/other")
    notes = DataSheet.of(tmp_path / "a", progress=False).notes
    assert any(note.startswith("left out: class 'other', ") and note.endswith("other.json is missing") for note in notes)
    assert any("the first is read" in note for note in notes)
    visa(tmp_path / "b")
    shutil.copytree(tmp_path / "b/plate", tmp_path / "b/other")
    (tmp_path / "b/other/image_anno.csv").unlink()
    assert any("left out: class 'other'" in note for note in DataSheet.of(tmp_path / "b", progress=False).notes)


def test_one_class_that_cannot_be_used_hides_no_other(tmp_path):
    visa(tmp_path)
    shutil.copytree(tmp_path / "plate", tmp_path / "other")  # of which the split knows nothing
    found = CliRunner().invoke(app, ["data", "check", str(tmp_path)])
    assert found.exit_code == 1 and "class 'other' cannot be used: " in found.output and "color_spot" in found.output
    (tmp_path / "split_csv/1cls.csv").unlink()
    with pytest.raises(DataError, match="1cls.csv is missing"):
        DataSheet.of(tmp_path, progress=False)


def test_a_type_that_another_class_shows_may_be_named(tmp_path):
    table(tmp_path)
    path = tmp_path / "images.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    own = frame["class"].iloc[0]
    twin = frame[frame["class"] == own].assign(**{"class": "twin"})
    twin["image"] = [f"twin/{k}.png" for k in range(len(twin))]
    twin["mask"] = ""
    twin.loc[~twin["type"].isin(["good"]), "type"] = "strange"
    pd.concat([frame, twin]).to_csv(path, index=False)
    for types, message in ((("strange",), ""), (("stranger",), "no type 'stranger'")):
        config = DataConfig(root=tmp_path, layout="auto", groups="types", classes=(own,), abnormal_types=types)
        if message:
            with pytest.raises(DataError, match=message):
                build_manifest(tmp_path, config, Grouping("types", None), progress=False)
        else:
            assert len(build_manifest(tmp_path, config, Grouping("types", None), progress=False)[0])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("type", "", "no type in row 3"),
        ("class", " ", "no class in row 3"),
        ("image", "", "no image in row 3"),
        ("type", "Good", "type is 'Good' in row 3: normal images are of type 'good'"),
        ("image", "/elsewhere/0.png", "paths are relative to it, or addresses"),
    ],
)
def test_cells_of_a_table_are_named_by_their_row(tmp_path, column, value, message):
    table(tmp_path)
    frame = pd.read_csv(tmp_path / "images.csv", dtype=str, keep_default_na=False)
    frame.loc[1, column] = value
    frame.to_csv(tmp_path / "images.csv", index=False)
    with pytest.raises(DataError, match=message):
        DataSheet.of(tmp_path, progress=False)


def test_an_address_at_which_nothing_is():
    with pytest.raises(DataError, match=r"cannot be read \(nothing is there, or nobody answers\)"):
        read("http://127.0.0.1:9/download?id=5")
