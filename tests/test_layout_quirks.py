"""What real data sets have beside their documented layout: other files, other spellings, labels that stand in combinations alone."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from test_layouts import MINIATURES, SIZE, mask, picture
from tiny_project import ROOT

from nandlib.data.config import DataConfig
from nandlib.data.groups import Grouping
from nandlib.data.images import load_mask
from nandlib.data.layouts import find_layout
from nandlib.data.manifest import build_manifest
from nandlib.errors import DataError, PresetError
from nandlib.study.preset import load_study
from nandlib.study.registry import presets, register

TYPES = Grouping("types", None)


def built(root, **options):
    return build_manifest(root, DataConfig(root=root, **({"layout": "auto"} | options)), TYPES, progress=False)


def groups(root, **options):
    return {(row["split"], row["type"]): row["group"] for _, row in built(root, **options)[0].iterrows()}


@pytest.mark.parametrize("name", [path.stem for path in presets(ROOT)])
def test_no_study_writes_into_its_own_images(name):
    """DVC refuses a folder that is read and written by one stage, and with it every other study."""
    study = load_study(ROOT / f"studies/{name}.yaml")
    assert not (ROOT / "data" / name).is_relative_to(ROOT / study.data.root)


@pytest.mark.parametrize("linked", [False, True])
def test_nor_can_such_a_study_be_registered(tmp_path, linked):
    (tmp_path / "studies").mkdir()
    (tmp_path / "params.yaml").write_text("studies: {}\n")
    text = (ROOT / "studies/pcb.yaml").read_text().replace("root: data/pcb_ad", f"root: data/{'elsewhere' if linked else 'pcb'}")
    (tmp_path / "studies/pcb.yaml").write_text(text)
    (tmp_path / "data/pcb").mkdir(parents=True)
    (tmp_path / "data/elsewhere").symlink_to(tmp_path / "data/pcb")
    with pytest.raises(PresetError, match=r"holds data/pcb, which the study itself writes to: .* data/sets/pcb for example"):
        register(tmp_path / "studies/pcb.yaml", tmp_path)
    assert (tmp_path / "params.yaml").read_text() == "studies: {}\n"


def test_a_label_that_stands_in_combinations_alone_may_be_kept_abnormal(tmp_path):
    MINIATURES["visa"](tmp_path)
    table = tmp_path / "plate/image_anno.csv"
    table.write_text(table.read_text().replace('"hole, color spot"', '"hole,other"'))
    assert groups(tmp_path, abnormal_types=("other",))["test", "hole+other"] == ""
    with pytest.raises(DataError, match="no type 'othr' .*: did you mean 'other'"):
        built(tmp_path, abnormal_types=("othr",))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_real_iad_as_it_is_published(tmp_path, nested, inside):
    MINIATURES["real_iad"](tmp_path / "made")
    (tmp_path / "set/realiad_1024").mkdir(parents=True)
    shutil.move(tmp_path / "made/plate", tmp_path / "set/realiad_1024/plate")
    target = tmp_path / "set/realiad_jsons"
    shutil.move(tmp_path / "made/realiad_jsons", target / "realiad_jsons" if nested else target)
    (tmp_path / "set/realiad_jsons_sv").mkdir()
    frame, _ = built(tmp_path / "set/realiad_1024" if inside else tmp_path / "set")
    assert len(frame) == 4 and (frame["mask"] != "").sum() == 2


def test_autovi_has_locos_table_and_a_folder_of_several(tmp_path):
    MINIATURES["autovi"](tmp_path)
    (tmp_path / "plate/defects_config.json").write_text(json.dumps([{"defect_name": "hole", "pixel_value": 255}]))
    picture(tmp_path / "plate/test/multiple/0090.png")
    assert find_layout(tmp_path).name == "autovi" and groups(tmp_path)["test", "multiple"] == ""


def test_what_shows_two_types_is_in_no_group_whatever_its_folder(tmp_path):
    MINIATURES["ds_mvtec"](tmp_path)
    for name, values in (("hole/002", [1, 2]), ("rust/001", [2])):
        picture(tmp_path / f"plate/image/{name}.png")
        mask(tmp_path / f"plate/mask/{name}_mask.png", *values)
    frame = built(tmp_path)[0].set_index("image")["group"]
    assert frame["plate/image/hole/002.png"] == "" and frame["plate/image/hole/001.png"] == "hole"
    (tmp_path / "plate/train/good/000.png").unlink()
    with pytest.raises(DataError, match="copy MVTec AD's own plate/train/good there"):
        built(tmp_path)


def test_a_defect_is_not_trained_on(tmp_path):
    MINIATURES["table"](tmp_path)
    table = tmp_path / "images.csv"
    table.write_text(table.read_text().replace("d.png,plate,test,rust", "d.png,plate,train,rust"))
    with pytest.raises(DataError, match=r"class 'plate' has 1 training images of type 'rust' .*d\.png.*: training is on good images alone"):
        built(tmp_path)


def test_what_is_excluded_may_lie_anywhere(tmp_path):
    MINIATURES["table"](tmp_path)
    table = tmp_path / "images.csv"
    table.write_text(table.read_text().replace("d.png,plate,test,rust", "d.png,plate,train,rust"))
    assert ("train", "rust") not in groups(tmp_path, exclude_types=("rust",))
    MINIATURES["visa"](tmp_path / "visa")
    kinds = tmp_path / "visa/plate/image_anno.csv"
    kinds.write_text(kinds.read_text().replace('"hole, color spot"', '"hole,other"'))
    with pytest.raises(DataError, match=r"data\.exclude_types: no type 'other'"):
        built(tmp_path / "visa", exclude_types=("other",))


def test_files_of_a_system_are_no_images(dataset, tmp_path):
    root = dataset()
    for place in ("bolt/test/dent/._000.png", "bolt/train/good/._x.png", ".ipynb_checkpoints/a.png", "bolt/test/@eaDir/a.png"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(b"Mac OS X")
    frame, notes = built(root)
    assert len(frame) == 16 and not notes
    mask(tmp_path / "masks/0.png", 255)
    (tmp_path / "masks/._0.png").write_bytes(b"Mac OS X")
    assert load_mask(tmp_path / "masks").sum() == 6


def test_images_that_are_left_out_are_named(dataset):
    root = dataset()
    for place in ("bolt/test/dent/002.webp", "bolt/test/dent/003.gif", "bolt/test/dent/cam2/000.png", "bolt/train/dent/000.png"):
        picture(root / place)
    notes = built(root)[1]
    assert [note for note in notes if note.startswith("not used")] == [
        "not used: 2 images in bolt/test/dent",
        "not used: 1 images in bolt/test/dent/cam2",
        "not used: 1 images in bolt/train/dent",
    ]


def test_a_data_set_of_which_nothing_can_be_read(tmp_path):
    MINIATURES["table"](tmp_path)
    table = tmp_path / "images.csv"
    table.write_text(table.read_text().replace("all/a.png", "all/z.png"))
    with pytest.raises(DataError, match="class 'plate': none of its training images can be read; skipped: "):
        built(tmp_path, on_unreadable="skip")


def test_one_file_is_one_image_however_it_is_spelled(tmp_path):
    MINIATURES["table"](tmp_path)
    table = tmp_path / "images.csv"
    table.write_text(table.read_text() + "./all/c.png,plate,test,rust,\n")
    with pytest.raises(DataError, match=r"names the image 'all/c\.png' 2 times"):
        built(tmp_path)


@pytest.mark.parametrize(("content", "why"), [(b"image;class;split;type", "parted by commas"), (b"image,class\xe4", "in UTF-8")])
def test_a_table_in_another_form(tmp_path, content, why):
    (tmp_path / "images.csv").write_bytes(content)
    with pytest.raises(DataError, match=f"{why}"):
        built(tmp_path)


def test_an_accent_beside_its_letter(tmp_path):
    MINIATURES["mvtec_ad"](tmp_path)
    (tmp_path / "plate").rename(tmp_path / "Tra\u0308ger")
    with pytest.raises(DataError, match="Unicode's form NFC"):
        built(tmp_path)
    (tmp_path / "Tra\u0308ger").rename(tmp_path / "Tr\u00e4ger")
    assert set(built(tmp_path)[0]["class"]) == {"Tr\u00e4ger"}


def test_masks_in_colours_and_greys_mark_all_that_they_show(tmp_path):
    drawn = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for k in range(3):
        drawn[2:6, 5 * k : 5 * k + 3, k] = 255
    Image.fromarray(drawn).save(tmp_path / "colours.png")
    Image.fromarray(drawn).quantize(4).save(tmp_path / "palette.png")
    grey = np.select([drawn[..., k] > 0 for k in range(3)], [50, 100, 150]).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "greys.png")
    shown = np.dstack([np.full_like(drawn, 255), drawn.max(2)])
    Image.fromarray(shown, "RGBA").save(tmp_path / "white_on_nothing.png")
    shown[..., 3], shown[..., :3] = 0, drawn.max(2)[..., None]
    Image.fromarray(shown, "RGBA").save(tmp_path / "nothing_is_opaque.png")
    for path in sorted(tmp_path.iterdir()):
        assert np.array_equal(load_mask(path), drawn.any(2)), path.name


def test_noise_of_a_soft_mask_is_no_mark(tmp_path):
    soft = np.random.default_rng(0).integers(0, 40, (40, 40)).astype(np.uint8)
    soft[10:20, 10:20] = 200
    Image.fromarray(soft).save(tmp_path / "soft.png")
    assert load_mask(tmp_path / "soft.png").sum() == 100
