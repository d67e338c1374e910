"""At the edges of the public interface: odd models, masks, phrases and settings, copies, damaged files, several threads."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import InferenceBatch
from anomalib.models import Patchcore
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from test_trained_detectors import NORMALS, plate
from torchvision import transforms as v1
from torchvision.transforms.v2 import Compose, Normalize

from nandlib import AdaptedDetector, add_normality, fit_detector
from nandlib.data.images import as_image, load_mask
from nandlib.detectors.config import PatchCoreConfig
from nandlib.detectors.trained import TRAINED
from nandlib.errors import DataError
from nandlib.integrations.anomalib import AnomalibDetector, _as_seen, adapt_module
from nandlib.integrations.sklearn import NormalityDetector
from nandlib.method.examples import Example
from nandlib.method.threshold import Threshold
from nandlib.models.base import whole_float32

IMAGES = NORMALS["narrow"]


def bright(images):
    """A detector that is alarmed by brightness."""
    return [np.asarray(as_image(image).convert("L"), np.float32) / 255 for image in images]


@pytest.fixture(scope="module")
def patchcore(model):
    return fit_detector("patchcore", model=model, normals=IMAGES)


@pytest.fixture
def adapted(patchcore, model):
    shown = Example(NORMALS["wide"][0], box=(10, 10, 60, 60))
    return add_normality(patchcore, "loose thread", model=model).add(name="stripes", examples=[shown])


def test_a_floor_makes_maps_of_what_may_be_negative(tmp_path):
    module = Patchcore(backbone="resnet18", layers=["layer2"], pre_trained=False)
    module.model.forward = lambda batch: InferenceBatch(pred_score=torch.zeros(1), anomaly_map=torch.tensor([[[[-2.0, 1.0], [3.0, -5.0]]]]))
    assert AnomalibDetector(module, floor=-2.0)(IMAGES[:1])[0].tolist() == [[0, 3], [5, 0]]


@pytest.mark.parametrize(
    "wrap",
    [lambda step: Compose([step]), lambda step: v1.Compose([step]), torch.nn.Sequential, lambda step: step],
    ids=["v2", "v1", "sequential", "alone"],
)
@pytest.mark.parametrize("kind", [Normalize, v1.Normalize])
def test_normalisation_is_taken_back_however_it_is_written(wrap, kind):
    picture = torch.linspace(0, 1, 3 * 8 * 8).reshape(3, 8, 8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    seen = _as_seen(kind(mean, std)(picture), SimpleNamespace(transform=wrap(kind(mean, std))))
    assert np.abs(np.asarray(seen) / 255 - picture.permute(1, 2, 0).numpy()).max() < 1 / 255


def test_what_is_set_on_an_adapted_module_stays_there(model):
    module = Patchcore(backbone="resnet18", layers=["layer2"], pre_trained=False)
    before = module.post_processor
    adapted = adapt_module(module, "hair", model=model)
    adapted.post_processor = None
    assert module.post_processor is before is not None and adapted.model is module.model


@pytest.mark.parametrize("name", ["patchcore", "aprilgan_1", "winclip_0", "uniad", "hetnet_style", "fader_style"])
def test_detectors_are_copied_and_pickled(model, name):
    kind = TRAINED.get(name)
    detector = kind.fit(IMAGES[:2], model, kind.config_type(epochs=1)) if kind else fit_detector(name, model=model, normals=IMAGES)
    maps = detector(IMAGES[:2])
    for other in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        np.testing.assert_array_equal(other(IMAGES[:2]), maps)
    if name == "patchcore":  # each image without its own descriptors, in a copy too
        assert torch.equal(copy.deepcopy(detector).normal_maps(), detector.normal_maps())


def test_an_adapted_module_is_copied_and_pickled(model):
    module = Patchcore(backbone="resnet18", layers=["layer2"], pre_trained=False)
    adapted = adapt_module(module, "loose thread", model=model)
    for other in (copy.copy(adapted), copy.deepcopy(adapted), pickle.loads(pickle.dumps(adapted))):
        assert isinstance(other, Patchcore) and other.normality.names == ["loose thread"] and type(other).forward is type(adapted).forward
        for (name, own), (same, theirs) in zip(adapted.named_parameters(), other.named_parameters(), strict=True):
            assert name == same and torch.equal(own, theirs)


def test_a_fitted_estimator_is_pickled(model):
    estimator = NormalityDetector("patchcore", ["oil"], model=model).fit(IMAGES)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(estimator)).score_samples(IMAGES[:2]), estimator.score_samples(IMAGES[:2]))


def test_leave_one_out_beside_predictions(patchcore):
    alone, maps = patchcore.normal_maps(), patchcore(IMAGES)
    with ThreadPoolExecutor(3) as pool:
        several = [pool.submit(patchcore.normal_maps) for _ in range(2)]
        asked = [pool.submit(patchcore, IMAGES) for _ in range(4)]
        assert all(torch.equal(one.result(), alone) for one in several)
        assert all(np.array_equal(one.result(), maps) for one in asked)


def test_settings_of_torch_are_put_back_whoever_leaves_last():
    cudnn = torch.backends.cudnn
    before, first, second = (cudnn.conv.fp32_precision, cudnn.deterministic), whole_float32(), whole_float32()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # as another thread does, in whatever order
    assert cudnn.deterministic
    second.__exit__(None, None, None)
    assert (cudnn.conv.fp32_precision, cudnn.deterministic) == before


def test_a_threshold_of_what_was_added_goes_with_it(adapted):
    before, after = Threshold(1.0, 0.05, 20), Threshold(1.0, 0.05, 80, 0.95)
    assert replace(adapted, threshold=before).remove("loose thread").threshold == before
    assert replace(adapted, threshold=after).remove("loose thread").threshold is None
    high, accepted = Threshold(1e6, 0.05, 80, 0.95), NORMALS["wide"][1:]
    fresh = [plate(k, 2) for k in range(30, 35)]
    own, none = (one.check(fresh, accepted=accepted) for one in (replace(adapted, threshold=high), adapted))
    assert own.overkill_before == none.overkill_before
    lasting = replace(adapted, threshold=replace(high, confidence=None))
    assert own.overkill_before != lasting.check(fresh, accepted=accepted).overkill_before


def test_a_soft_mask_marks_the_same_as_a_file_and_in_memory(tmp_path):
    square = np.zeros((96, 96), np.uint8)
    square[30:60, 30:60] = 255
    soft = np.asarray(Image.fromarray(square).resize((64, 64), Image.Resampling.BICUBIC).resize((96, 96), Image.Resampling.BICUBIC))
    Image.fromarray(soft).save(tmp_path / "mask.png")
    found = [Example(IMAGES[0], mask=mask).where((96, 96)) for mask in (soft, soft / 255, soft > 127)]
    assert all(np.array_equal(one, load_mask(tmp_path / "mask.png")) for one in found) and 800 < found[0].sum() < 1000
    assert Example(IMAGES[0], mask=(square > 0).astype(int)).where((96, 96)).sum() == 900


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"mask": np.full((96, 96), 7.5)}, "0..1"),
        ({"mask": "m.png"}, "must be an array"),
        ({"box": 5}, "four numbers"),
        ({"box": "abcd"}, "four numbers"),
        ({"point": 5}, "two numbers"),
        ({"point": (5,)}, "two numbers"),
    ],
)
def test_what_says_no_place_is_refused(given, why):
    with pytest.raises(DataError, match=why):
        Example(IMAGES[0], **given).where((96, 96))


def test_phrases_and_detectors_that_are_none(model):
    once = add_normality(bright, "loose thread", model=model)
    for text, why in (
        (None, "said in words"),
        (5, "said in words"),
        ([None], "said in words"),
        ("  ", "not empty"),
        (["word " * 45 + "scratch"], "too long"),
        ("Loose  Thread", "damped twice"),
        (["hair", " loose thread"], "damped twice"),
    ):
        with pytest.raises(DataError, match=why):
            once.add(text, "other")
    for detector, options, why in (
        (5, {}, "cannot be called"),
        (None, {}, "cannot be called"),
        ("patchcore", {}, "fit_detector"),
        (bright, {"noun": None}, "noun must be text"),
        (bright, {"name": 5}, "name must be text"),
        (bright, {"examples": Example(IMAGES[0])}, "must be a sequence"),
    ):
        with pytest.raises(DataError, match=why):
            add_normality(detector, "hair", model=model, **options)
    for image in (torch.zeros(3, 8, 8), None, (IMAGES[0], None), b"png"):
        with pytest.raises(DataError, match="a path, a PIL image or a uint8 array"):
            once([image])
    with pytest.raises(DataError, match="one of the normal images"):
        add_normality(bright, examples=[Example(IMAGES[0], box=(10, 10, 60, 60))], model=model, normals=IMAGES)


def test_a_normal_image_is_no_example_whatever_the_memory_holds(model, tmp_path):
    paths = [tmp_path / f"{k}.png" for k in range(6)]
    for path, image in zip(paths, (*NORMALS["narrow"], *NORMALS["wide"]), strict=False):
        image.save(path)
    shown = Example(str(paths[2]), box=(10, 10, 60, 60))
    few = fit_detector("patchcore", model=model, normals=paths, patchcore=PatchCoreConfig(coreset_ratio=0.01))
    for detector, more in ((few, {}), (bright, {"normals": paths})):
        with pytest.raises(DataError, match="2.png is one of the normal images"):
            add_normality(detector, examples=[shown], model=model, **more)


def test_the_detectors_own_map_is_never_given_away(model):
    kept = [np.ones((4, 4), np.float32)]
    nothing = add_normality(lambda images: kept, "hair", model=model).remove("hair")
    nothing(IMAGES[:1])[0][:] = 7
    assert kept[0].max() == 1


def damaged(folder, change):
    tensors = load_file(folder / "adapted.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapted.safetensors")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.pop("shown.stripes"), "lacks the examples of 'stripes'"),
        (lambda t: t["shown.stripes"].fill_(float("nan")), "'shown.stripes' holds no features"),
        (lambda t: t["texts"].fill_(float("nan")), "'texts' holds no features"),
        (lambda t: t.update({"shown.stripes": t["shown.stripes"].half()}), "'shown.stripes' holds no features"),
        (lambda t: t.update({"shown.stripes": torch.zeros(0, 4)}), "'shown.stripes' holds no features"),
        (lambda t: t.update({"normal_patches": torch.ones(3, 4)}), "several widths"),
    ],
)
def test_a_damaged_file_is_refused(adapted, patchcore, model, tmp_path, change, why):
    folder = adapted.save(tmp_path / "saved")
    np.testing.assert_array_equal(AdaptedDetector.load(folder, patchcore, model)(IMAGES[:1])[0], adapted(IMAGES[:1])[0])
    damaged(folder, change)
    with pytest.raises(DataError, match=why):
        AdaptedDetector.load(folder, patchcore, model)


def test_a_threshold_that_is_no_number_is_refused(adapted, patchcore, model, tmp_path):
    folder = replace(adapted, threshold=Threshold(1.0, 0.05, 20)).save(tmp_path / "saved")
    content = YAML(typ="safe").load((folder / "adapted.yaml").read_text())
    content["threshold"]["value"] = float("nan")
    with (folder / "adapted.yaml").open("w") as file:
        YAML().dump(content, file)
    with pytest.raises(DataError, match=r"threshold\.value"):
        AdaptedDetector.load(folder, patchcore, model)


@pytest.mark.parametrize(
    ("options", "images", "why"),
    [
        ({}, np.zeros((96, 96, 3), np.uint8), "X must be a sequence"),
        ({"texts": None}, IMAGES, "texts must be a sequence"),
        ({"examples": Example(IMAGES[0])}, IMAGES, "examples must be a sequence"),
        ({"method": "foo"}, IMAGES, "method is 'foo'"),
        ({"detector": lambda images: [np.full((4, 4), np.nan)] * len(images)}, IMAGES, "NaN"),
        ({"detector": lambda images: [np.ones((4, 4))]}, IMAGES, "1 map"),
        ({"detector": lambda images: [-np.ones((4, 4))] * len(images)}, IMAGES, "goes down to"),
    ],
)
def test_an_estimator_refuses_what_means_nothing(model, options, images, why):
    with pytest.raises(DataError, match=why):
        NormalityDetector(**{"detector": bright, "model": model, **options}).fit(images)
