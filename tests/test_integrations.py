"""Added normalities inside anomalib, scikit-learn and ONNX."""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from anomalib import PrecisionType
from anomalib.data import Folder, InferenceBatch, PredictDataset
from anomalib.engine import Engine
from anomalib.models import Padim, Patchcore
from lightning import seed_everything
from PIL import Image
from sklearn.base import clone
from sklearn.utils.validation import NotFittedError
from torchvision.transforms.v2.functional import resize
from typer.testing import CliRunner

from nandlib import add_normality
from nandlib.cli import app
from nandlib.detectors.config import FaderConfig
from nandlib.detectors.fader import FaderStyle
from nandlib.detectors.fit import fit_detector
from nandlib.errors import DataError, ModelError
from nandlib.integrations.anomalib import AnomalibDetector, adapt_module, load_module
from nandlib.integrations.onnx import _Graph, export_detector, export_onnx
from nandlib.integrations.sklearn import NormalityDetector
from nandlib.method.adapt import AdaptedDetector
from nandlib.method.config import NandConfig, PlusConfig
from nandlib.method.examples import Example
from nandlib.method.operators import suppress
from nandlib.method.threshold import Threshold
from nandlib.models.mini import IMAGE_SIZE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class in MVTec AD layout; smooth images, so that resizing hardly changes them."""
    root, rng = tmp_path_factory.mktemp("anomalib"), np.random.default_rng(0)
    for part, count in (("train/good", 4), ("test/good", 2), ("test/hair", 2)):
        (root / part).mkdir(parents=True)
        for k in range(count):
            small = Image.fromarray(rng.integers(60, 200, (6, 6, 3), dtype=np.uint8))
            small.resize((96, 80), Image.Resampling.BICUBIC).save(root / part / f"{k:03d}.png")
    return root


@pytest.fixture(scope="module")
def patchcore(folder: Path) -> Patchcore:
    """anomalib's PatchCore, trained by its own Engine; random backbone: nothing can be downloaded."""
    seed_everything(0, verbose=False)  # numpy's generator too: anomalib draws the coreset's projection from it
    module = Patchcore(backbone="resnet18", layers=["layer2"], pre_trained=False, coreset_sampling_ratio=0.5)
    data = Folder(name="cloth", root=folder, normal_dir="train/good", normal_test_dir="test/good", abnormal_dir="test/hair",
                  train_batch_size=2, eval_batch_size=2, num_workers=0)  # fmt: skip
    engine = engine_of(folder)
    engine.fit(module, datamodule=data)
    engine.trainer.save_checkpoint(folder / "model.ckpt")
    return module


def engine_of(folder: Path) -> Engine:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu", "barebones": False}
    return Engine(default_root_dir=folder / "runs", **quiet)


def predict(module, folder: Path) -> list:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return engine_of(folder).predict(module, dataset=PredictDataset(folder / "test"))


def seen_by(adapted, folder: Path) -> tuple[list, list[np.ndarray]]:
    """What an adapted model predicts, and the images that its normality was given."""
    damp, seen = AdaptedDetector.damp, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdaptedDetector, "damp", lambda self, images, maps: (seen.extend(images), damp(self, images, maps))[1])
        return predict(adapted, folder), [np.asarray(image) for image in seen]


def resized(path: Path, side: int) -> np.ndarray:
    """An image as anomalib's pre-processor resizes it, uint8."""
    pixels = torch.from_numpy(np.asarray(Image.open(path))).permute(2, 0, 1) / 255
    small = resize(pixels, [side, side], antialias=True)
    return (small * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def test_predict_of_an_adapted_model_is_damped(folder, patchcore, model):
    detector = AnomalibDetector(patchcore)
    paths = sorted((folder / "test").rglob("*.png"))
    raw = [single.numpy() for single in detector(paths)]
    adapted = adapt_module(patchcore, "hair", model=model, noun="cloth")
    assert isinstance(adapted, Patchcore) and adapted is not patchcore
    adapted.post_processor.enable_normalization = patchcore.post_processor.enable_normalization = False
    try:
        before, (after, seen) = predict(patchcore, folder), seen_by(adapted, folder)
    finally:
        patchcore.post_processor.enable_normalization = True
    library = add_normality(lambda _: raw, "hair", model=model, noun="cloth")
    for path, pixels, base, final, one, other in zip(paths, seen, raw, library(seen), before, after, strict=True):
        np.testing.assert_allclose(pixels.astype(int), resized(path, 256).astype(int), atol=1)  # one grey level, where 8 bits are rounded
        assert one.image_path == [str(path)]
        np.testing.assert_allclose(one.anomaly_map[0].squeeze(), base, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(other.anomaly_map[0].squeeze(), final, rtol=1e-3)
        assert (other.anomaly_map < one.anomaly_map).all()
        share = other.anomaly_map.max() / one.anomaly_map.max()
        assert other.pred_score[0] == pytest.approx(float(one.pred_score[0] * share), rel=1e-4)


def test_thresholds_stay_and_forward_is_damped_too(folder, patchcore, model):
    adapted = adapt_module(patchcore, "hair", model=model, noun="cloth")
    twice = adapt_module(adapted, "dust")
    assert set(twice.normality.normalities) == {"hair", "dust"} and set(adapted.normality.normalities) == {"hair"}
    assert adapted.post_processor.image_threshold == patchcore.post_processor.image_threshold
    engine_of(folder).test(patchcore, datamodule=data_of(folder), verbose=False)  # an Engine leaves its methods with what it ran
    after_it = adapt_module(patchcore, "hair", model=model, noun="cloth")
    for part in (after_it.post_processor, after_it.evaluator):
        assert part.log.__self__ is after_it
    predict(after_it, folder)
    assert adapt_module(after_it, "dust").evaluator.log.__self__ is not after_it
    adapted.post_processor.image_sensitivity = 0.9
    assert patchcore.post_processor.image_sensitivity == twice.post_processor.image_sensitivity == 0.5  # each model decides for itself
    before, after, least = ([float(p.anomaly_map.max()) for p in predict(m, folder)] for m in (patchcore, adapted, twice))
    assert all(b >= a >= c for b, a, c in zip(before, after, least, strict=True)) and sum(before) > sum(after) > sum(least)
    batch = torch.rand(1, 3, 80, 96)
    with torch.no_grad():
        assert (adapted(batch).anomaly_map <= patchcore(batch).anomaly_map).all()
        assert adapted(batch).anomaly_map.sum() < patchcore(batch).anomaly_map.sum()
    assert [r["image_AUROC"] for r in engine_of(folder).test(adapted, datamodule=data_of(folder), verbose=False)]


def test_a_saved_normality_is_put_back_into_its_module(folder, patchcore, model, tmp_path):
    adapted = adapt_module(patchcore, "hair", model=model, noun="cloth")
    own = adapted.normality.save(tmp_path / "saved")
    again = adapt_module(patchcore, AdaptedDetector.load(own, AnomalibDetector(patchcore), model))
    batch = torch.rand(1, 3, 80, 96)
    with torch.no_grad():
        assert torch.equal(again(batch).anomaly_map, adapted(batch).anomaly_map)
    for wrong, options in ((again.normality, {"noun": "cloth"}), (add_normality(lambda _: [], "hair", model=model), {})):
        with pytest.raises(ModelError, match="loaded for this very module"):
            adapt_module(patchcore, wrong, **options)
    with pytest.raises(DataError, match=r"AnomalibDetector as base detector .*AnomalibDetector\(module\) is one.*, not with Patchcore"):
        AdaptedDetector.load(own, patchcore, model)


def test_an_adapted_model_is_not_trained_and_leaves_the_other_as_it_is(folder, patchcore, model):
    memory = patchcore.model.memory_bank.clone()
    with warnings.catch_warnings(), pytest.raises(ModelError, match="train the model that was adapted"):
        warnings.simplefilter("ignore")
        engine_of(folder).fit(adapt_module(patchcore, "hair", model=model, noun="cloth"), datamodule=data_of(folder))
    assert torch.equal(patchcore.model.memory_bank, memory)


def test_maps_below_zero_are_refused_by_whoever_damps_them(folder, patchcore, model, monkeypatch):
    """As a flow's are: to damp them would lift them."""
    adapted, plain = adapt_module(patchcore, "hair", model=model, noun="cloth"), patchcore.model.forward
    monkeypatch.setattr(patchcore.model, "forward", lambda batch: (found := plain(batch))._replace(anomaly_map=found.anomaly_map - 1e6))
    with torch.no_grad(), pytest.raises(DataError, match=r"maps or scores of Patchcore go down to -1e\+06, .* floor="):
        adapted(torch.rand(1, 3, 80, 96))


def test_an_example_damps_what_anomalib_predicts(folder, patchcore, model):
    """As `add_normality` on the same maps; the example's own region is damped most."""
    paths, normals = sorted((folder / "test").rglob("*.png")), sorted((folder / "train/good").glob("*.png"))
    shown = {"examples": [Example(paths[-1], box=(20, 20, 60, 60))], "model": model, "normals": normals}
    adapted = adapt_module(patchcore, **shown)
    raw = [single.numpy() for single in AnomalibDetector(patchcore)(paths)]
    adapted.post_processor.enable_normalization = False
    predictions, seen = seen_by(adapted, folder)
    after = [np.asarray(prediction.anomaly_map[0].squeeze()) for prediction in predictions]
    for final, expected, base in zip(after, adapted.normality.damp(seen, raw), raw, strict=True):
        assert np.abs((final - expected) / base).max() < 1e-3  # of A_sup
    kept = [final.sum() / base.sum() for final, base in zip(after, raw, strict=True)]
    assert kept[-1] < 0.97 < 0.99 < min(kept[:-1])


def data_of(folder: Path) -> Folder:
    return Folder(name="cloth", root=folder, normal_dir="train/good", normal_test_dir="test/good", abnormal_dir="test/hair", num_workers=0)


def test_a_checkpoint_is_adapted_without_training(folder, patchcore, model):
    loaded = load_module("Patchcore", folder / "model.ckpt")
    paths = sorted((folder / "test").rglob("*.png"))
    for one, other in zip(AnomalibDetector(loaded)(paths), AnomalibDetector(patchcore)(paths), strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(ModelError, match="not a checkpoint of anomalib's Padim"):
        load_module("Padim", folder / "model.ckpt")


class Asked:
    """Written into a checkpoint as ``getattr(kind, name)``, as Python 3.11.0 to 3.11.3 write a member of an enumeration."""

    def __init__(self, kind, name):
        self.kind, self.name = kind, name

    def __reduce__(self):
        return getattr, (self.kind, self.name)


def test_a_checkpoint_of_python_3_11_2_may_name_members_and_nothing_else(folder, patchcore, tmp_path):
    saved = torch.load(folder / "model.ckpt", map_location="cpu", weights_only=False)
    saved["hyper_parameters"]["precision"] = Asked(PrecisionType, "FLOAT32")
    torch.save(saved, tmp_path / "old.ckpt")
    (path, *_) = sorted((folder / "test").rglob("*.png"))
    loaded = load_module("Patchcore", tmp_path / "old.ckpt")
    torch.testing.assert_close(AnomalibDetector(loaded)([path])[0], AnomalibDetector(patchcore)([path])[0])
    saved["hyper_parameters"]["precision"] = Asked(PrecisionType, "__init_subclass__")
    torch.save(saved, tmp_path / "door.ckpt")
    with pytest.raises(ModelError, match="asks for '__init_subclass__' of .*PrecisionType.* which is no member"):
        load_module("Patchcore", tmp_path / "door.ckpt")


def test_foreign_checkpoints_and_exports_are_refused(folder, patchcore, model, tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match="x.ckpt is not a checkpoint of anomalib's Patchcore"):
        load_module("Patchcore", tmp_path / "x.ckpt")
    adapted = adapt_module(patchcore, "hair", model=model)
    for export in (adapted.to_onnx, adapted.to_torch, adapted.to_openvino):
        with pytest.raises(ModelError, match="cannot be exported by anomalib"):
            export(tmp_path)


def test_a_crop_is_damped_where_the_model_looks(folder, model):
    """The pre-processor crops: A_sup must be that of the crop, not of the whole file."""
    torch.manual_seed(0)
    processor = Patchcore.configure_pre_processor(image_size=(96, 96), center_crop_size=(48, 48))
    module = Patchcore(backbone="resnet18", layers=["layer2"], pre_trained=False, pre_processor=processor)
    module.model.memory_bank = torch.randn(8, 128)
    adapted = adapt_module(module.eval(), "hair", model=model, noun="cloth")
    (path, *_) = sorted((folder / "test").rglob("*.png"))
    framed = AnomalibDetector(module)([path])[0].numpy()
    raw = framed[24:72, 24:72]
    assert (
        framed.shape == (96, 96) and np.count_nonzero(framed) == np.count_nonzero(raw) > 0
    )  # the map of the whole image: nothing around the crop
    crop = resized(path, 96)[24:72, 24:72]
    expected = add_normality(lambda _: [raw], "hair", model=model, noun="cloth")([crop])[0]
    with torch.no_grad():
        batch = module.pre_processor(torch.from_numpy(np.asarray(Image.open(path))).permute(2, 0, 1)[None] / 255)
        final = adapted._damped(batch, module.model(batch)).anomaly_map[0, 0].numpy()
    np.testing.assert_allclose(final, expected, rtol=0.02)  # one grey level
    whole = add_normality(lambda _: [raw], "hair", model=model, noun="cloth")([path])[0]
    assert np.abs(final - whole).max() > 5 * np.abs(final - expected).max()
    plain = add_normality(AnomalibDetector(module), "hair", model=model, noun="cloth")([path])[0]  # A_sup of the whole, on its map
    np.testing.assert_array_equal(plain, add_normality(lambda _: [framed], "hair", model=model, noun="cloth")([path])[0])


def test_scores_and_maps_as_a_plain_pair():
    """So AnomalyVFM's network gives them."""
    module = Padim(backbone="resnet18", layers=["layer1"], pre_trained=False, n_features=10)
    module.model.forward = lambda batch: (torch.ones(len(batch)), torch.full((len(batch), 1, 4, 4), 0.5))
    (found,) = AnomalibDetector(module)([Image.new("RGB", (32, 32))])
    assert found.shape == (4, 4) and (found == 0.5).all()
    damped = adapt_module(module, "hair", noun="cloth")(torch.rand(2, 3, 32, 32))
    assert damped.anomaly_map.shape == (2, 1, 4, 4) and float(damped.anomaly_map.max()) < 0.5
    np.testing.assert_allclose(damped.pred_score, 2 * damped.anomaly_map.amax((1, 2, 3)), rtol=1e-5)


def test_a_model_without_maps_is_refused():
    module = Padim(backbone="resnet18", layers=["layer1"], pre_trained=False, n_features=10)
    module.model.forward = lambda batch: InferenceBatch(pred_score=torch.zeros(1))
    with pytest.raises(ModelError, match="Padim yields no anomaly maps"):
        AnomalibDetector(module)([np.zeros((8, 8, 3), np.uint8)])


def images(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.asarray(Image.fromarray(rng.integers(60, 200, (6, 6, 3), dtype=np.uint8)).resize((64, 64))) for _ in range(count)]


def test_estimator_follows_scikit_learn(model):
    normals, others = images(5, 0), images(3, 1)
    estimator = NormalityDetector(texts=["hair"], noun="cloth", model=model, contamination=0.2)
    with pytest.raises(NotFittedError):
        estimator.predict(others)
    assert estimator.fit(normals) is estimator
    scores = estimator.score_samples(others)
    assert scores.shape == (3,)
    np.testing.assert_array_equal(estimator.predict(others), np.where(scores - estimator.offset_ < 0, -1, 1))
    np.testing.assert_allclose(estimator.decision_function(others), scores - estimator.offset_)
    np.testing.assert_allclose(scores, [-single.max() for single in estimator.anomaly_maps(others)])
    assert clone(estimator).get_params()["texts"] == ["hair"] and not hasattr(clone(estimator), "detector_")
    np.testing.assert_array_equal(np.stack(others), np.stack(others))
    np.testing.assert_allclose(estimator.score_samples(np.stack(others)), scores)


def test_a_text_never_moves_the_threshold(model):
    normals = images(5, 0)
    plain, added = (NormalityDetector(texts=texts, noun="cloth", model=model).fit(normals) for texts in ([], ["hair", "dust"]))
    assert plain.offset_ == added.offset_
    assert (added.score_samples(images(3, 1)) > plain.score_samples(images(3, 1))).all()
    own = fit_detector("patchcore", model, normals=normals).normal_maps(range(5))
    scores = -own.flatten(1).amax(1).numpy()
    assert plain.offset_ == pytest.approx(scores.min())  # one of five would be more than 5 %
    with pytest.raises(DataError, match="X must be a sequence of images, not one"):
        plain.predict(normals[0])
    with pytest.raises(DataError, match="give a list of images, or an array of uint8"):
        plain.predict(np.array(normals[:2], dtype=object))
    for table in (pd.DataFrame({"path": ["a.png"]}), np.array([["a.png"]])):
        with pytest.raises(DataError, match="X is a table: give its one column of images"):
            plain.predict(table)
    trained = fit_detector("patchcore", model, normals=normals)
    for given in (trained, add_normality(trained, "hair", model=model)):
        with pytest.raises(DataError, match="trained on some of these images"):
            NormalityDetector(given, **({"model": model} if given is trained else {})).fit(normals)


@pytest.mark.parametrize("share", [0, 0.05, 0.2, 0.5])
def test_no_more_than_that_share_is_an_outlier(model, share):
    """Of the very images of fit."""

    def heights(pictures):
        return np.stack([np.full((4, 4), np.asarray(picture, np.float32).mean(), np.float32) for picture in pictures])

    for count in (2, 5, 10, 21):
        normals = images(count, 0)
        found = NormalityDetector(heights, model=model, contamination=share).fit(normals)
        assert (found.predict(normals) == -1).sum() <= share * count


def test_estimator_takes_a_trained_detector_and_refuses_nonsense(model):
    fixed = lambda pictures: np.stack([np.full((8, 8), k, np.float32) for k in range(len(pictures))])
    estimator = NormalityDetector(fixed, model=model, contamination=0.5).fit(images(3, 0))
    assert estimator.offset_ == -1
    plus = NormalityDetector(fixed, ["hair"], model=model, method="nand_plus").fit(images(3, 0))
    assert plus.detector_.normal_token is not None
    for wrong, message in (
        ({"texts": "hair"}, r'texts=\["hair"\] or texts=\(\), not \'hair\''),
        ({"texts": None}, "not None"),
        ({"texts": (text for text in ["hair"])}, "not <generator"),
        ({"contamination": 0.7}, "between 0 and 0.5"),
        ({"contamination": "auto"}, "not 'auto'"),
    ):
        with pytest.raises(DataError, match=message):
            NormalityDetector(fixed, model=model, **wrong).fit(images(2, 0))
    with pytest.raises(DataError, match="must be a sequence"):
        NormalityDetector(fixed, model=model).fit("image.png")
    adapted = add_normality(fixed, "hole", model=model, noun="board")
    assert NormalityDetector(adapted, ["hair"]).fit(images(2, 0)).detector_.noun == "board"
    for more in ({"noun": "carpet"}, {"method": "nand_plus"}, {"model": model}):
        with pytest.raises(DataError, match="adapted already and keeps its noun, method and model"):
            NormalityDetector(adapted, ["hair"], **more).fit(images(2, 0))
    for few in ([], np.zeros((0, 8, 8, 3), np.uint8)):
        with pytest.raises(DataError, match="one or more"):
            NormalityDetector(fixed, model=model).fit(few)
    with pytest.raises(DataError, match="two or more for PatchCore"):
        NormalityDetector(model=model).fit(images(1, 0))


def test_estimator_fits_an_array(model):
    stacked = np.stack(images(3, 0))
    one, other = (NormalityDetector("aprilgan", ["hair"], model=model, method="nand_plus").fit(x) for x in (stacked, list(stacked)))
    np.testing.assert_array_equal(one.score_samples(stacked), other.score_samples(stacked))


@pytest.mark.parametrize("name", ["aprilgan", "patchcore"])
def test_onnx_agrees_with_python(name, model, heads_file, tmp_path):
    detector = fit_detector(name, model, noun="cloth", normals=images(3, 0))
    adapted = add_normality(detector, ["hair", "stray hair"], model=model, noun="cloth").add("dust")
    path = tmp_path / "adapted.onnx"
    if name == "aprilgan":  # by the command
        words = ["export", str(path), "-t", "hair; stray hair", "-t", "dust", "--noun", "cloth", "--model", str(heads_file)]
        assert CliRunner().invoke(app, words).stdout.strip() == str(path)
    else:
        adapted = adapted.calibrate(level=0.3)
        export_onnx(adapted, path)
    session = onnxruntime.InferenceSession(str(path))
    for image in images(2, 1):
        pixels = np.asarray(Image.fromarray(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC), np.float32)
        base, sup, final, score = session.run(None, {"image": pixels.transpose(2, 0, 1)[None]})
        before, after = detector([image])[0], adapted([image])[0]
        scale = before.max() if name == "patchcore" else 1  # distances of up to some dozens; APRIL-GAN's maps reach 4
        assert np.abs(base[0] - before).max() <= 1e-4 * scale
        assert np.abs(final[0] - after).max() <= 1e-4 * scale
        assert np.abs(suppress(torch.from_numpy(before), torch.from_numpy(sup[0])).numpy() - after).max() <= 1e-4 * scale
        assert abs(score[0] - after.max()) <= 1e-4 * scale
        assert after.max() < 0.999 * before.max()
    said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert said["input"].startswith("one RGB image, float32 from 0 to 255, squashed to 320 x 320")
    assert json.loads(said["normalities"]) == {"hair": ["hair", "stray hair"], "dust": ["dust"]} and said["noun"] == "cloth"
    assert ("threshold" in said) == (adapted.threshold is not None) == (name == "patchcore")
    if adapted.threshold is not None:
        assert Threshold(**json.loads(said["threshold"])) == adapted.threshold


def test_an_exported_score_is_the_detectors(model):
    nand = NandConfig(image_score="topk_mean", top_fraction=0.01)
    adapted = add_normality(fit_detector("aprilgan", model), "hair", model=model, nand=nand)
    image = images(1, 1)[0]
    pixels = np.asarray(Image.fromarray(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC), np.float32)
    with torch.no_grad():
        *_, final, score = _Graph(adapted, model, adapted.detector)(torch.from_numpy(pixels.transpose(2, 0, 1)[None]))
    assert score.item() == pytest.approx(adapted.scores([image])[0], rel=1e-5) and score.item() < final.max()


def test_onnx_refuses_what_it_cannot_hold(model, tmp_path):
    detector = fit_detector("aprilgan", model)
    plus = NandConfig(method="nand_plus", plus=PlusConfig(calibrate=False))
    for adapted, message in (
        (add_normality(lambda _: [], "hair", model=model), "only APRIL-GAN, PatchCore and FADeR-style"),
        (add_normality(fit_detector("winclip_0", model), "hair", model=model), "only APRIL-GAN, PatchCore and FADeR-style"),
        (add_normality(detector, "hair", model=model, nand=plus), "watershed"),
    ):
        with pytest.raises(ModelError, match=message):
            export_onnx(adapted, tmp_path / "x.onnx")


def test_a_small_detector_is_exported_alone_and_adapted(model, tmp_path):
    images = [Image.fromarray(np.random.default_rng(k).integers(60, 90, (64, 64, 3), dtype=np.uint8)) for k in range(3)]
    config = FaderConfig(side=64, widths=(4, 6, 8), epochs=1, gate_epochs=1, versions=1)
    detector = FaderStyle.fit(images, None, config)
    size = (320, 320)
    pixels = np.asarray(images[0].resize(size, Image.Resampling.BICUBIC), np.float32).transpose(2, 0, 1)[None]
    alone = onnxruntime.InferenceSession(export_detector(detector, tmp_path / "alone.onnx"))
    found, score = alone.run(None, {"image": pixels})
    np.testing.assert_allclose(found, detector(images[:1]), atol=5e-3)
    assert score[0] == found.max() and (tmp_path / "alone.onnx").stat().st_size < 1e6
    adapted = add_normality(detector, "thread", model=model, noun="plate")
    graph = onnxruntime.InferenceSession(export_onnx(adapted, tmp_path / "adapted.onnx"))
    base, _, final, _ = graph.run(None, {"image": pixels})
    np.testing.assert_allclose(base, found, atol=1e-4)
    assert (final <= base + 1e-6).all()
    with pytest.raises(ModelError, match="only FADeR-style is exported alone, not PatchCore"):
        export_detector(fit_detector("patchcore", model, normals=images), tmp_path / "x.onnx")
