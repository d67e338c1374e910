"""What whoever brings the paper's own data and weights gets wrong is said before any long stage runs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

import nandlib.stages.manifest
import nandlib.study.needs
from nandlib.cli import app
from nandlib.data.config import DataConfig
from nandlib.data.manifest import build_manifest
from nandlib.data.published import Source, source, verify
from nandlib.data.sources import fetch, state, why_changed
from nandlib.errors import DataError, ModelError
from nandlib.models.checkpoints import unreadable
from nandlib.models.clip import load_clip
from nandlib.settings import RANDOM
from nandlib.stages.manifest import write_manifest
from nandlib.study.needs import damaged_files, leaks
from nandlib.study.preset import load_study

ROOT = Path(__file__).parents[1]

COUNTS = {"bolt": (2, 1), "nut": (1, 2), "washer": (1, 1)}
entry = partial(Source, name="thing", title="Things", licence="CC BY 4.0", urls=("http://127.0.0.1:9/",), file="thing.tar.xz")
entry = partial(entry, path=Path("data/sets/thing"), install="extract", accept=True, images=COUNTS)


@pytest.fixture
def images(tmp_path):
    """A data set in MVTec AD's layout, in the folder that its archive has."""
    folder = tmp_path / "mine/thing"
    for name, (train, test) in COUNTS.items():
        for split, count in (("train", train), ("test", test)):
            for k in range(count):
                path = folder / name / split / "good" / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4)).save(path)
    return folder


def study(root, images=Path("data/sets/thing"), **weights):
    data = DataConfig(root=images, exclude_classes=("washer",))
    config = SimpleNamespace(data=data, weight_files=lambda: {key.replace("__", "."): path for key, path in weights.items()})
    return SimpleNamespace(root=root, images=root / images, config=config, grouping=None, data=root)


def test_half_a_data_set_does_not_pass_for_the_whole(images, tmp_path, monkeypatch):
    monkeypatch.setattr(nandlib.stages.manifest, "source_of", lambda _: entry())
    monkeypatch.setattr(nandlib.stages.manifest, "build_manifest", None)  # not reached
    own = study(images.parent, Path("thing"))
    (images / "nut/test/good/1.png").unlink()
    with pytest.raises(DataError, match="class 'nut' has 1 training and 1 test images, published are 1 and 2: unpack it again"):
        write_manifest(own)
    own.config.data = own.config.data.model_copy(update={"classes": ("bolt",)})
    with pytest.raises(TypeError):  # the classes that the study takes are whole
        write_manifest(own)


def test_a_data_set_a_folder_deeper_is_named(images, tmp_path):
    with pytest.raises(DataError, match="holds a data set in its folder 'thing': give that one"):
        build_manifest(images.parent, DataConfig(root=images.parent, layout="mvtec_ad"), None, progress=False)
    (tmp_path / "p/data/sets/thing").mkdir(parents=True)
    images.rename(tmp_path / "p/data/sets/thing/thing")
    assert state(entry(), tmp_path / "p") == "changed"
    with pytest.raises(DataError, match="data/sets/thing holds it in its folder 'thing': move what is in there"):
        fetch(entry(), tmp_path / "p", progress=False)
    (tmp_path / "p/data/sets/thing/thing").rename(tmp_path / "p/data/thing")
    (tmp_path / "p/data/sets/thing").rmdir()
    (tmp_path / "p/data/thing").rename(tmp_path / "p/data/sets/thing")
    assert state(entry(), tmp_path / "p") == "verified"
    (tmp_path / "p/data/sets/thing/bolt/test/good/0.png").unlink()
    with pytest.raises(DataError, match="delete it and fetch thing again .*class 'bolt' has 2 training and 0 test images"):
        fetch(entry(), tmp_path / "p", progress=False)


def test_what_lies_deeper_or_lacks_its_first_class_is_recognised(images, tmp_path):
    assert "→" in fetch(entry(), tmp_path / "deeper", local=[tmp_path], progress=False)
    (images / "bolt").rename(tmp_path / "bolt")
    with pytest.raises(DataError, match="class 'bolt' has 0 training and 0 test images"):
        fetch(entry(), tmp_path / "lacking", local=[images], progress=False)
    with pytest.raises(DataError, match="nothing was downloaded .*bolt: neither thing.tar.xz nor what was unpacked from it"):
        fetch(entry(), tmp_path / "nothing", local=[tmp_path / "bolt"], progress=False)


def test_what_a_browser_has_numbered_is_known_by_its_hash(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "thing (1).pt")
    (tmp_path / "thing (2).pt").write_bytes(b"another")
    from nandlib.data.published import digest

    thing = entry(file="thing.pt", images=None, install="convert", path=Path("data/t.safetensors"), accept=False)
    thing = thing.model_copy(update={"check": {"sha256": digest(tmp_path / "thing (1).pt", "sha256")}})
    verify(tmp_path / "thing (1).pt", thing)
    assert "thing (1).pt" in fetch(thing, tmp_path / "p", local=[tmp_path], progress=False)


def test_weights_that_cannot_be_read_are_found_by_their_first_bytes(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "good.safetensors")
    (tmp_path / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "empty.safetensors").touch()
    whole = (tmp_path / "good.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-3])
    assert [bool(unreadable(tmp_path / f"{name}.safetensors")) for name in ("good", "pointer", "empty", "cut")] == [False, True, True, True]
    path = source("wide_resnet50_2").path
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / "pointer.safetensors").rename(tmp_path / path)
    own = study(tmp_path, patchcore__backbone_weights=path, model__weights=RANDOM, winclip__weights=Path("good.safetensors"))
    found = damaged_files(own)
    assert list(found) == ["patchcore.backbone_weights"]
    assert found["patchcore.backbone_weights"].endswith("delete it, and 'nand fetch wide_resnet50_2'")


def test_projections_are_not_used_on_the_images_that_trained_them():
    path = source("aprilgan_mvtec").path
    found = leaks(study(Path(), source("mvtec_ad").path, model__weights=path))
    assert list(found) == ["model.weights"] and "was trained on mvtec_ad, the images of this study" in found["model.weights"]
    assert not leaks(study(Path(), source("visa_typed").path, model__weights=path))
    assert not leaks(study(Path(), Path("data/mine"), model__weights=path))
    for name in ("visa", "visa_typed"):
        own = study(Path(), source(name).path, model__weights=source("aprilgan_visa").path)
        assert f"was trained on {name}" in leaks(own)["model.weights"]


def test_clip_weights_of_half_precision_fit_and_damaged_ones_do_not(tmp_path, monkeypatch, caplog):
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
    config = {"embed_dim": 32, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}, "text_cfg": text}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-clip", config)
    whole = {name: tensor.clone() for name, tensor in open_clip.create_model("tiny-clip", pretrained=None).state_dict().items()}
    save_file({name: tensor.half() for name, tensor in whole.items()}, tmp_path / "half.safetensors")
    caplog.clear()
    clip = load_clip("tiny-clip", tmp_path / "half.safetensors", force_image_size=64)
    assert not caplog.records  # open_clip would say that it is random
    assert {parameter.dtype for parameter in clip.parameters()} == {torch.float32}
    assert torch.equal(clip.visual.conv1.weight, whole["visual.conv1.weight"].half().float())
    assert clip.visual.positional_embedding.shape == (17, 64)
    broken = {**whole, "visual.conv1.weight": torch.full_like(whole["visual.conv1.weight"], torch.nan)}
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(ModelError, match=r"broken.safetensors: 'visual.conv1.weight' holds NaN or infinity: it is damaged"):
        load_clip("tiny-clip", tmp_path / "broken.safetensors")

    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "archive.pt")
    with pytest.raises(ModelError, match="archive.pt is a TorchScript archive, .*'nand fetch' verifies and converts"):
        load_clip("tiny-clip", tmp_path / "archive.pt")


def test_the_commands_say_what_is_damaged_and_need_no_class_that_is_left_out(tmp_path, monkeypatch):
    for name in ("dvc.yaml", "params.yaml", "studies/mvtec_ad.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    data, projections = source("mvtec_ad"), source("aprilgan_visa")
    for name, counts in data.images.items():
        for split, count in zip(("train", "test"), counts, strict=True):
            folder = tmp_path / data.path / name / split / "good"
            folder.mkdir(parents=True)
            for k in range(count if name != "toothbrush" else 0):
                (folder / f"{k:03d}.png").touch()
    for key, path in load_study(tmp_path / "studies/mvtec_ad.yaml").weight_files().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        save_file({key: torch.zeros(1)}, tmp_path / path)
    assert CliRunner().invoke(app, ["doctor", "mvtec_ad"]).exit_code == 0
    assert "nothing to fetch" in CliRunner().invoke(app, ["fetch", "--study", "mvtec_ad"]).stdout

    (tmp_path / data.path / "cable/test/good/000.png").unlink()
    (tmp_path / projections.path).write_text("version https://git-lfs.github.com/spec/v1")
    found = CliRunner().invoke(app, ["doctor", "mvtec_ad", "--json"])
    problem = json.loads(found.stdout)["studies"]["mvtec_ad"]["problem"]
    for words in (
        "data.root: data/sets/mvtec_ad is not what was fetched, or is incomplete: delete it and fetch mvtec_ad again",
        "class 'cable' has 224 training and 149 test images, published are 224 and 150",
        "model.weights: data/models/aprilgan/visa.safetensors holds no weights that can be read",
    ):
        assert words in problem
        for command in (["fetch", "--study", "mvtec_ad"], ["use", "mvtec_ad"]):
            assert words.partition(": ")[2] in str(CliRunner().invoke(app, command).exception)
    told = CliRunner().invoke(app, ["doctor"]).stdout
    assert found.exit_code == 1 and "is not what was fetched" in told and "holds no weights that can be read" in told


def test_of_a_source_in_parts_the_one_is_named_that_is_wrong(tmp_path, monkeypatch):
    whole = entry(name="many", images=None, parts={"one.zip": "", "two.zip": ""}, file="", path=Path("data/sets/many"))
    monkeypatch.setattr(nandlib.study.needs, "source_of", lambda path: whole if path == whole.path else None)
    own = study(tmp_path, whole.path)
    (tmp_path / whole.path / "one").mkdir(parents=True)
    assert damaged_files(own) == {"data.root": "data/sets/many lacks 'two': nand fetch many"}
    (tmp_path / whole.path / "two").mkdir()
    assert not damaged_files(own)  # brought by hand
    (tmp_path / "data/sources.json").write_text(json.dumps({"many/two": {"installed": "7 files"}}))
    (why,) = damaged_files(own).values()
    assert why == "data/sets/many holds 'two', which is not what was fetched, or is incomplete: delete it and fetch many again"


def test_a_file_or_a_closed_folder_in_a_data_sets_place_is_no_data_set(tmp_path):
    place = tmp_path / entry().path
    place.parent.mkdir(parents=True)
    place.touch()
    assert state(entry(), tmp_path) == "changed"
    with pytest.raises(DataError, match="is not what was fetched, or is incomplete"):
        fetch(entry(), tmp_path, progress=False)
    assert "get it again from http://127" in why_changed(entry(install="by_hand"), tmp_path)
