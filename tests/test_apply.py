"""`nand apply`, `nand explain` and `nand study compare`, as scripts call them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner

from nandlib import add_normality, fit_detector
from nandlib.cli import app
from nandlib.cli.asked import Setting, adapted_detector
from nandlib.errors import DataError, ModelError, NandError
from nandlib.models import Placement
from nandlib.models.mini import Heads, MiniModel, save_heads
from nandlib.settings import RANDOM
from nandlib.show.explain import explain
from nandlib.streaming.overlay import overlay

runner = CliRunner()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two folders with an image of the same name each, and maps for them in the same layout."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(("good/000", "hair/000", "hair/001")):
        for folder in ("images", "maps"):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(tmp_path / f"images/{name}.png")
        np.save(tmp_path / f"maps/{name}.npy", np.full((20, 30), k + 1, np.float32))
    return tmp_path


def normals(folder: Path, seed: int) -> Path:
    """A folder of two normal images."""
    folder.mkdir()
    for k, pixels in enumerate(np.random.default_rng(seed).integers(100, 140, (2, 40, 60, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return folder


def nand(*words: object) -> str:
    result = runner.invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_apply_writes_what_the_library_computes(pictures, heads_file, model):
    out = pictures / "out"
    said = json.loads(
        nand("apply", pictures / "images", "-t", "hair; stray hair", "-t", "dust", "--noun", "cloth", "--maps", pictures / "maps",
             "--model", heads_file, "-o", out, "--json")
    )  # fmt: skip
    names = ["good/000", "hair/000", "hair/001"]
    base = [np.load(pictures / f"maps/{name}.npy") for name in names]
    images = [pictures / f"images/{name}.png" for name in names]
    adapted = add_normality(lambda _: base, ["hair", "stray hair"], model=model, noun="cloth").add("dust")
    table = pd.read_csv(out / "scores.csv")
    assert table["image"].tolist() == [f"{name}.png" for name in names]
    for name, expected, before, row in zip(names, adapted(images), base, table.to_dict("records"), strict=True):
        written = np.load(out / f"maps/{name}.npy")
        assert written.dtype == np.float32
        np.testing.assert_allclose(written, expected, rtol=1e-5)
        assert row["score_before"] == before.max()
        assert row["score_after"] == pytest.approx(expected.max(), rel=1e-5)
        assert row["removed"] == pytest.approx(100 * (1 - expected.sum() / before.sum()), rel=1e-4)
        with Image.open(out / f"overlays/{name}.png") as strip:
            assert strip.size == (3 * 60 + 8, 40)
    assert said["normalities"] == {"hair": ["hair", "stray hair"], "dust": ["dust"]}
    assert [row["image"] for row in said["images"]] == table["image"].tolist()


@pytest.mark.parametrize("detector", ["aprilgan", "winclip_0", "winclip_1", "aprilgan_1", "patchcore"])
def test_every_detector_is_one_command(pictures, heads_file, detector):
    normals = ["--normals", pictures / "images/good"] if detector[-1] not in "n0" or detector == "patchcore" else []
    method = ["--method", "nand_plus"] if normals else []
    out = pictures / "out"
    said = nand("apply", pictures / "images/hair", "-t", "hair", "--detector", detector, *normals, *method, "--model", heads_file,
                "-o", out, "--no-overlays")  # fmt: skip
    assert said.startswith("2 images: mean score")
    assert not (out / "overlays").exists()
    table = pd.read_csv(out / "scores.csv")
    assert (table["score_after"] <= table["score_before"] + 1e-6).all() and len(table) == 2


def test_maps_are_found_by_name_alone_where_the_folders_differ(pictures, heads_file):
    flat = pictures / "flat"
    flat.mkdir()
    np.save(flat / "000.npy", np.ones((8, 8)))
    np.save(flat / "001.npy", np.ones((8, 8)))
    nand("apply", pictures / "images/hair", "-t", "hair", "--maps", flat, "--model", heads_file, "-o", pictures / "out")
    (flat / "001.npy").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images have no map, the first is .*001.png: expected .*flat/001"):
        nand("apply", pictures / "images/hair", "-t", "hair", "--maps", flat, "--model", heads_file, "-o", pictures / "out")


def test_a_map_that_is_written_anew_is_looked_at_again(pictures, heads_file):
    words = ["apply", pictures / "images", "-t", "hair", "--maps", pictures / "maps", "--model", heads_file, "-o", pictures / "out"]
    nand(*words)
    before = pd.read_csv(pictures / "out/scores.csv", index_col="image")
    np.save(pictures / "maps/hair/000.npy", np.full((20, 30), 7, np.float32))
    nand(*words)
    after = pd.read_csv(pictures / "out/scores.csv", index_col="image")
    assert after["score_before"].to_dict() == {**before["score_before"], "hair/000.png": 7}
    assert after.drop("hair/000.png").equals(before.drop("hair/000.png"))
    assert after.loc["hair/000.png", "score_after"] == pytest.approx(3.5 * before.loc["hair/000.png", "score_after"])


def test_an_example_belongs_to_the_one_text_that_is_said(pictures, heads_file):
    good, shown = normals(pictures / "normals", 1), pictures / "images/hair/000.png"
    for texts, names, of in (
        (["hair"], ["hair"], "hair"),
        (["hair", "dust"], ["hair", "dust", "example"], "example"),
        ([], ["example"], "example"),
    ):
        adapted = adapted_detector(Setting(texts, [shown], "cloth", "patchcore", None, None, good, "nand", heads_file), None)
        assert adapted.names == names and list(adapted.shown.examples) == [of] and list(adapted.normalities) == texts
    with pytest.raises(DataError, match="holds nothing but normal image 0: give two normal images or more"):
        adapted_detector(Setting([], [shown], "cloth", "patchcore", None, None, pictures / "images/good", "nand", heads_file), None)


def test_every_option_is_part_of_the_setting(pictures, heads_file, tmp_path):
    """Results of one setting are never taken for those of another."""
    given = {"text": "hair", "noun": "cloth", "method": "nand", "normals": normals(pictures / "normals", 1), "model": heads_file,
             "detector": "patchcore", "accept": pictures / "images/hair/000.png"}  # fmt: skip

    def apply(**changed):
        words = [f"--{name}={value}" for name, value in (given | changed).items()]
        return nand("apply", pictures / "images", *words, "-o", pictures / "out", "--no-overlays")

    assert apply().startswith("3 images")
    torch.manual_seed(1)
    save_heads(Heads(), tmp_path / "other.safetensors")
    changes = {"text": "dust", "noun": "paper", "method": "nand_plus", "normals": normals(pictures / "others", 2), "detector": "aprilgan",
               "model": tmp_path / "other.safetensors", "accept": pictures / "images/hair/001.png"}  # fmt: skip
    for name, value in changes.items():
        key = {"text": "texts"}.get(name, name)
        with pytest.raises(DataError, match=rf"another setting \(.*{key}"):
            apply(**{name: value})
    assert apply().startswith("3 images")


def test_how_many_at_once_and_where_the_maps_lie(pictures, heads_file, monkeypatch):
    seen = []

    def look(model, batch):
        seen.append((len(batch), torch.get_num_threads()))
        return encode(model, batch)

    encode, before = MiniModel.encode_image, torch.get_num_threads()
    monkeypatch.setattr(MiniModel, "encode_image", look)
    words = ["--maps", pictures / "maps", "--model", heads_file, "--store", "shards", "--batch", 2, "--threads", 2, "-o", pictures / "out"]
    nand("apply", pictures / "images", "-t", "hair", *words)
    assert seen == [(2, 2), (1, 2)] and torch.get_num_threads() == before
    assert not (pictures / "out/maps").exists() and not (pictures / "out/overlays").exists()
    rows = pd.read_csv(pictures / "out/maps.csv")
    assert rows["image"].tolist() == ["good/000.png", "hair/000.png", "hair/001.png"]
    assert all(row.image in load_file(pictures / "out" / row.file) for row in rows.itertuples())


def test_a_picture_of_both_maps(pictures):
    """The image, the map before and the map after, in this order: what is taken away is hot in the second panel alone."""
    before, after = np.zeros((2, 40, 60), np.float32)
    before[10, 20] = 1
    panels = np.asarray(overlay(Image.new("RGB", (60, 40), "white"), before, after), int)
    image, hot, cold = (panels[:, start : start + 60] for start in (0, 64, 128))
    assert (image == 255).all() and (cold == cold[0, 0]).all()
    (row, column), where = np.unravel_index(np.abs(hot - cold).sum(-1).argmax(), (40, 60)), np.abs(hot - cold).sum(-1) > 60
    assert (row, column) == (10, 20) and 0 < where.sum() < 30


def test_images_that_share_a_name_never_share_a_map(pictures, heads_file):
    """Ten images in each of two folders, one flat folder of ten maps: more than a batch."""
    for folder in ("a", "b"):
        (pictures / "twins" / folder).mkdir(parents=True)
        for k in range(10):
            shutil.copy(pictures / "images/good/000.png", pictures / f"twins/{folder}/{k:03d}.png")
    (pictures / "flat").mkdir()
    for k in range(10):
        np.save(pictures / f"flat/{k:03d}.npy", np.ones((8, 8)))
    words = ["-t", "hair", "--maps", pictures / "flat", "--model", heads_file, "-o", pictures / "out"]
    with pytest.raises(DataError, match="several images share a name, so the folders must be the same"):
        nand("apply", pictures / "twins", *words)
    nand("apply", pictures / "twins/a", *words)
    (pictures / "twins/a/x.webp").touch()
    assert '"not_read": [\n    "x.webp"\n  ]' in nand("apply", pictures / "twins/a", *words, "--json")


def test_results_and_maps_among_the_images_are_not_images(pictures, heads_file, monkeypatch):
    monkeypatch.chdir(pictures / "images")
    shutil.move(pictures / "maps", pictures / "images/maps")
    tifffile.imwrite(pictures / "images/maps/extra.tiff", np.ones((8, 8), np.float32))
    words = ["apply", ".", "-t", "hair", "--maps", "maps", "--model", heads_file, "-o", "adapted"]
    assert nand(*words).startswith("3 images") and nand(*words).startswith("3 images")
    shutil.rmtree("adapted")
    for path in Path("maps").rglob("*.npy"):
        shutil.copy(path, path.relative_to("maps"))
    shutil.rmtree("maps")  # they lie beside the images now
    assert nand("apply", ".", "-t", "hair", "--maps", ".", "--model", heads_file, "-o", "beside").startswith("3 images")


def test_files_from_anywhere_have_a_common_root(pictures, heads_file, monkeypatch):
    monkeypatch.chdir(pictures / "images/hair")
    nand(
        "apply", pictures / "images/good/000.png", "001.png", "-t", "hair", "--maps", "../../maps", "--model", heads_file, "-o", "../../out"
    )
    assert pd.read_csv(pictures / "out/scores.csv")["image"].tolist() == ["good/000.png", "hair/001.png"]


@pytest.mark.parametrize("name", ["000.npy", "000.tiff"])
def test_a_corrupt_map_is_named(pictures, heads_file, name):
    (pictures / "flat").mkdir()
    (pictures / "flat" / name).write_bytes(b"not a map")
    with pytest.raises(DataError, match=rf"{name} cannot be read as an anomaly map"):
        nand("apply", pictures / "images/good", "-t", "a", "--maps", pictures / "flat", "--model", heads_file, "-o", pictures / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-t", " ; "], "--text is empty"),
        (["-t", "hair"], "whose anomaly maps"),
        (["-t", "hair", "--detector", "aprilgan", "--maps", "."], "not both"),
        (["-t", "hair", "--detector", "patchcore"], r"patchcore needs 1 normal image\(s\), not 0"),
        (["-t", "hair", "--detector", "winclip_3"], r"winclip_3 needs 3 normal"),
        (["-t", "hair", "--detector", "pathcore"], "did you mean 'patchcore'"),
        (["-t", "hair", "--detector", "aprilgan", "--method", "nad"], "nand or nand_plus"),
        (["-t", "hair", "--detector", "aprilgan", "--method", "nand_plus"], "calibrated on normal images"),
        (["-t", "hair", "--detector", "Patchcor", "--checkpoint", "x.ckpt"], "anomalib has no model 'Patchcor': did you mean 'Patchcore'"),
        (["-t", "hair", "--detector", "Patchcore", "--checkpoint", "x.ckpt"], "x.ckpt does not exist"),
        (["-t", "hair", "--checkpoint", "x.ckpt"], "--detector must name what it is"),
        (["-t", "w " * 50, "--detector", "aprilgan"], "too long"),
        (["-t", "hair", "--detector", "aprilgan", "--normals", "nowhere"], "nowhere does not exist"),
    ],
)
def test_what_is_wrong_is_said(pictures, heads_file, words, message):
    with pytest.raises(NandError, match=message):
        nand("apply", pictures / "images", "--model", heads_file, "-o", pictures / "out", *words)


def test_usage_and_missing_weights(pictures):
    assert runner.invoke(app, ["apply", str(pictures / "images")]).exit_code == 2
    assert runner.invoke(app, ["aply"]).exit_code == 2
    with pytest.raises(ModelError, match=r"none.safetensors is missing: leave model.weights \(--model\) out to take the heads"):
        nand("apply", pictures / "images", "-t", "a", "--detector", "aprilgan", "--model", pictures / "none.safetensors", "-o", pictures)
    with pytest.raises(DataError, match=r"nothing does not exist"):
        nand("apply", pictures / "nothing", "-t", "a", "--detector", "aprilgan", "-o", pictures)
    (pictures / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes.txt is no image"):
        nand("apply", pictures / "notes.txt", "-t", "a", "--detector", "aprilgan", "-o", pictures)


def test_explain_shows_one_image(pictures, heads_file, model):
    image, out = pictures / "images/hair/000.png", pictures / "why.png"
    words = ["explain", image, "-t", "hair", "-t", "dust", "--noun", "cloth", "--model", heads_file, "-o", out]
    said = json.loads(nand(*words, "--json"))
    adapted = add_normality(lambda _: [np.load(pictures / "maps/hair/000.npy")], "hair", model=model, noun="cloth").add("dust")
    with Image.open(out) as figure:
        assert figure.width > 400 and np.asarray(figure.convert("L")).std() > 10
    assert set(said["suppression_max"]) == {"hair", "dust"}
    assert 0 < said["score_after"] < said["score_before"]
    mine = json.loads(nand(*words, "--maps", pictures / "maps/hair", "--json"))
    assert mine["score_before"] == 2
    assert mine["score_after"] == pytest.approx(adapted([image])[0].max(), rel=1e-5)
    assert "score 2.000 before" in nand(*words, "--maps", pictures / "maps/hair")
    with pytest.raises(DataError, match="not both"):
        nand(*words, "--maps", pictures / "maps/hair", "--detector", "patchcore")
    with pytest.raises(DataError, match="is a folder"):
        nand("explain", pictures / "images", "-t", "hair", "--model", heads_file)
    with pytest.raises(DataError, match="the figure is a .png"):
        nand("explain", image, "-t", "hair", "-o", "why.pdf", "--model", heads_file)


def test_without_a_normality_there_is_nothing_to_explain(pictures, model):
    adapted = add_normality(fit_detector("aprilgan", model), "hair", model=model).remove("hair")
    with pytest.raises(DataError, match="no normality is added"):
        explain(adapted, pictures / "images/good/000.png")


def test_a_device_and_the_papers_model(pictures, monkeypatch):
    """Here without a GPU: what is asked for reaches the model, and what cannot be is said in one line."""
    common = ("apply", pictures / "images", "-t", "hair", "--maps", pictures / "maps", "-o", pictures / "out")
    with pytest.raises(DataError, match="--device cuda:77 cannot be used here .*leave it out"):
        nand(*common, "--device", "cuda:77")
    with pytest.raises(DataError, match="--device gpu cannot be used here"):
        nand(*common, "--device", "gpu")
    with pytest.raises(DataError, match="--workers 2 with --device meta: .* leave --workers out"):
        nand(*common, "--device", "meta", "--workers", 2)
    with pytest.raises(DataError, match="--clip random: --model must name the projections"):
        nand(*common, "--clip", "random")
    asked = []

    def load_model(*given):
        asked.append(given)
        raise ModelError("stop here")

    monkeypatch.setattr("nandlib.models.load_model", load_model)
    with pytest.raises(ModelError, match="stop here"):
        nand(*common, "--device", "meta", "--clip", "random", "--model", "random")
    assert asked == [("clip", RANDOM, Placement("meta"), RANDOM)]
