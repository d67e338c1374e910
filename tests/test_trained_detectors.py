"""UniAD, OneNIP, PBAS and PRADOT as detectors: trained, kept, resumed, asked, and refused what they cannot do."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from nandlib import add_normality, fit_detector, load_model, open_study
from nandlib.cli import app
from nandlib.detectors.config import OneNipConfig, PbasConfig, PradotConfig, UniAdConfig
from nandlib.detectors.fit import TRAINED
from nandlib.detectors.onenip import OneNip, synthetic_image
from nandlib.detectors.pbas import Pbas
from nandlib.detectors.pradot import Pradot
from nandlib.detectors.training import Run
from nandlib.detectors.uniad import UniAd
from nandlib.errors import DataError, ModelError
from nandlib.stages.detectors import write_detectors

SIDE = 96
SMALL = {"width": 32, "heads": 2, "feedforward": 32, "layers": (1, 1), "window": (5, 5), "epochs": 4, "batch_size": 3}
CONFIGS = {
    "uniad": UniAdConfig(**SMALL),
    "onenip": OneNipConfig(**SMALL, refiner=8, versions=1),
    "pbas": PbasConfig(width=32, hidden=16, epochs=8, stages=(3, 4), batch_size=3),
    "pradot": PradotConfig(epochs=6, batch_size=3, stages=(3,), per_cell=0.5),
}
MULTI = ("uniad", "onenip")


def plate(seed: int, period: float, mark: bool = False) -> Image.Image:
    """Stripes of a period, with noise; a dark square if marked."""
    rng = np.random.default_rng(seed)
    stripes = 140 + 30 * np.sin((np.arange(SIDE) + rng.integers(9)) / period)
    pixels = stripes[None, :, None] + rng.normal(0, 4, (SIDE, SIDE, 3))
    if mark:
        row, column = rng.integers(10, 60, 2)
        pixels[row : row + 22, column : column + 22] = 30
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


NORMALS = {"narrow": [plate(k, 2) for k in range(5)], "wide": [plate(k, 6) for k in range(10, 15)]}
UNSEEN, MARKED = [plate(k, 2) for k in (50, 51, 52)], [plate(k, 2, mark=True) for k in (60, 61, 62)]


@pytest.fixture(scope="module")
def model():
    return load_model("mini")


def fit(name, model, run=Run(), **changes):
    images = NORMALS if name in MULTI else NORMALS["narrow"]
    return TRAINED[name].fit(images, model, CONFIGS[name].model_copy(update=changes), run)


@pytest.fixture(scope="module")
def trained(model):
    return {name: fit(name, model) for name in TRAINED}


@pytest.fixture(params=list(TRAINED))
def name(request):
    return request.param


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def of(detector):
    return detector.of_class("narrow") if detector.name in MULTI else detector


def test_maps_lie_above_the_floor_and_show_what_is_wrong(trained, name):
    detector = of(trained[name])
    normal, marked = detector(UNSEEN), detector(MARKED)
    assert normal.shape == (3, 320, 320) and normal.dtype == np.float32
    assert normal.min() == 0 and np.isfinite(normal).all()
    assert marked.max((1, 2)).min() > normal.max((1, 2)).max()


def test_the_floor_is_the_median_of_what_is_normal(trained, name, model):
    detector = of(trained[name])
    batch = torch.stack([detector.preprocess(image) for image in NORMALS["narrow"]])
    with torch.no_grad():
        raw = detector.raw_maps(detector.describe(detector.features.layers(batch)))
    assert float(raw.median()) == pytest.approx(detector.fitted.floors[detector.class_name], rel=1e-4)
    torch.testing.assert_close(detector.maps(batch), (raw - detector.fitted.floors[detector.class_name]).clamp_min(0))
    as_published = replace(detector.fitted, config=CONFIGS[name].model_copy(update={"official": True}))
    official = type(detector)(detector.features, detector.tensors, as_published, detector.class_name)
    if name != "pradot":  # whose official maps are scaled by each image
        torch.testing.assert_close(official.maps(batch), raw)
    else:
        assert (official.maps(batch) - raw).abs().max() > 1e-3


def test_the_official_score_is_not_the_maximum_of_the_map(trained, name):
    detector = of(trained[name])
    scores, highest = detector.image_scores(MARKED), detector(MARKED).max((1, 2)) + detector.fitted.floors[detector.class_name]
    if name == "pradot":
        np.testing.assert_allclose(scores, highest, rtol=1e-5)
    elif name == "pbas":
        assert (scores > highest).all(), "before smoothing"
    else:
        assert (scores < highest).all(), "after an average pool"


def test_one_seed_gives_the_same_bytes_and_so_does_a_training_that_was_stopped(trained, name, model, tmp_path, monkeypatch):
    whole = trained[name].tensors
    assert same(fit(name, model).tensors, whole)
    assert not same(fit(name, model, seed=1).tensors, whole)
    save, saved = torch.save, []

    def stop(*given):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(save(*given))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch, "save", stop)
        fit(name, model, Run(tmp_path / "state.pt"))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["epoch"] == 2
    assert same(fit(name, model, Run(tmp_path / "state.pt")).tensors, whole)
    with pytest.raises(DataError, match="belongs to another training than this one"):
        fit(name, model, Run(tmp_path / "state.pt"), batch_size=2)


def test_kept_on_disk_and_adapted(trained, name, model, tmp_path):
    path = trained[name].save(tmp_path / "state.safetensors")
    loaded = type(trained[name]).load(path, model, "narrow" if name in MULTI else None)
    np.testing.assert_array_equal(loaded(MARKED), of(trained[name])(MARKED))
    adapted = add_normality(loaded, "square", model=model, noun="plate")
    assert (adapted(MARKED[:1])[0] <= loaded(MARKED[:1])[0]).all()
    adapted = add_normality(loaded, examples=MARKED[:1], model=model, normals=NORMALS["narrow"])
    assert adapted(MARKED[1:2])[0].max() < loaded(MARKED[1:2])[0].max()


def rewritten(path, tmp_path, **changes):
    """The same state with other words about it."""
    with safe_open(path, "pt") as file:
        tensors, said = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    other = tmp_path / "other.safetensors"
    save_file(tensors, other, said | changes)
    return other


def test_states_that_do_not_fit_are_refused(trained, model, tmp_path):
    path = trained["pbas"].save(tmp_path / "state.safetensors")
    for place, message in (
        (tmp_path / "none.safetensors", "is missing: train a pbas"),
        (rewritten(path, tmp_path, format="0"), "is of version 0, this is version 1: train it again"),
    ):
        with pytest.raises(ModelError, match=message):
            Pbas.load(place, model)
    with pytest.raises(ModelError, match="was trained on the features 'mini:0', not on 'mini:3,4'"):
        Pbas.load(rewritten(path, tmp_path, features="mini:0"), model)
    with pytest.raises(ModelError, match="holds pbas, not pradot"):
        Pradot.load(path, model)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="holds no state of a detector"):
        UniAd.load(tmp_path / "x.safetensors", model)


def test_what_cannot_be_trained_or_asked_is_refused(trained, model):
    with pytest.raises(DataError, match="PRADOT is trained on normal images: none were given"):
        Pradot.fit({}, model)
    with pytest.raises(DataError, match="class 'a' has none"):
        UniAd.fit({"a": []}, model)
    with pytest.raises(DataError, match="PBAS is trained on one class at a time, not on 2: narrow, wide"):
        Pbas.fit(NORMALS, model)
    with pytest.raises(DataError, match=r"uniad: the loss is (nan|inf) in epoch \d: lower the learning rate"):
        fit("uniad", model, rate=1e30)
    with pytest.raises(DataError, match="knows no class 'narow': did you mean 'narrow'"):
        trained["uniad"].of_class("narow")
    with pytest.raises(DataError, match=r"was trained on 2 classes: say which images these are, of_class\(name\)"):
        trained["onenip"](MARKED)
    with pytest.raises(DataError, match="was trained on images of 320 x 320 pixels, not 256 x 256"):
        trained["onenip"].maps(torch.zeros(1, 3, 256, 256))
    with pytest.raises(ModelError, match="the embedded model's features"):
        UniAd.fit(NORMALS, None)


def test_fewer_images_than_a_batch_train_all_the_same(model):
    one = fit("pradot", model, batch_size=64)
    assert not same(one.tensors, fit("pradot", model, batch_size=64, epochs=1).tensors)


def test_prompts_and_synthetic_images(trained):
    prompts = [trained["onenip"].tensors[f"prompt.{name}"] for name in NORMALS]
    assert not torch.equal(*prompts)
    made = [synthetic_image(k, NORMALS["narrow"], 0, 64) for k in range(5)]
    for k, (pixels, mask) in enumerate(made):
        normal = np.asarray(NORMALS["narrow"][k].resize((64, 64), Image.Resampling.BICUBIC))
        assert (pixels[~mask] == normal[~mask]).all()
        assert 0 < mask.mean() < 0.7 and (pixels[mask] != normal[mask]).any()
    again = synthetic_image(0, NORMALS["narrow"], 0, 64)
    assert np.array_equal(again[0], made[0][0]) and isinstance(trained["onenip"], OneNip)


def test_by_name(model):
    detector = fit_detector("pradot", model, normals=NORMALS["narrow"])
    assert isinstance(detector, Pradot) and detector.fitted.config == PradotConfig()
    assert detector(MARKED).max((1, 2)).min() > detector(UNSEEN).max((1, 2)).max()


def test_on_a_whole_study(project, monkeypatch):
    """`nand detectors`: PatchCore's rows are those of the study itself, and every number follows from the scores beside it."""
    monkeypatch.chdir(project)
    study = open_study("tiny", project)
    table = write_detectors(study, ["uniad", "pbas"], progress=False).set_index("detector")
    own = {name: pd.read_csv(study.figures / f"detectors/{name}.csv") for name in ("deltas", "base_auroc", "detectors", "cost")}
    assert list(table.index) == ["uniad", "pbas", "patchcore"] and set(own["detectors"]["rule"]) == {"nand", "nand_plus"}
    columns = ["class", "group", "auroc_before", "auroc_after", "auroc_others"]
    here, there = (frame[frame["detector"] == "patchcore"][columns].reset_index(drop=True) for frame in (own["deltas"], study.deltas))
    pd.testing.assert_frame_equal(here, there, rtol=1e-6)
    means = own["base_auroc"].groupby("detector")["auroc"].mean()
    assert table["auroc_map"].to_dict() == pytest.approx(means.to_dict())
    assert (table[["train_s", "image_ms", "backbone_ratio", "state_mb"]] > 0).all(axis=None)
    assert {path.name for path in (study.data / "detectors").glob("*.safetensors")} >= {"uniad.safetensors", "pbas_carpet.safetensors"}
    result = CliRunner().invoke(app, ["detectors", "tiny", "--only", "unaid"])
    assert "--only unaid: did you mean 'uniad'" in str(result.exception)
