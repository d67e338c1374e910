"""What would go wrong in silence is refused, or right."""

import pickle
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
from anomalib.models import Padim
from anomalib.pre_processing import PreProcessor
from PIL import Image
from test_examples import BARS, NORMALS, SQUARES
from torchvision.transforms.v2 import CenterCrop, Compose, Resize

from nandlib import AdaptedDetector, add_normality, fit_detector, load_model
from nandlib.detectors.aprilgan import AprilGan
from nandlib.errors import DataError, ModelError, PresetError
from nandlib.integrations.anomalib import AnomalibDetector
from nandlib.integrations.onnx import export_onnx
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.method.plus import find_regions
from nandlib.method.prompts import load_prompts
from nandlib.models import Placement
from nandlib.models.mini import MiniModel, load_heads, save_heads


def contrast(images):
    """A detector."""
    grey = [np.asarray(image, np.float32).mean(-1) for image in images]
    return [np.abs(single - np.median(single)) for single in grey]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("normal")
    for k, image in enumerate(NORMALS):
        image.save(folder / f"{k}.png")
    return sorted(folder.iterdir())


def test_weights_that_are_no_numbers(heads_file, tmp_path):
    heads = load_heads(heads_file)
    heads.projections[0].weight.data[0, 0] = float("nan")
    save_heads(heads, tmp_path / "broken.safetensors")
    with pytest.raises(ModelError, match=r"broken.safetensors: 'projections.0.weight' holds NaN or infinity"):
        load_model("mini", tmp_path / "broken.safetensors")


def test_a_threshold_is_not_set_on_what_the_detector_knows(model, files):
    adapted = add_normality(fit_detector("patchcore", model, normals=files[:4]), "hair", model=model)
    for ask in (lambda: adapted.calibrate(files[3:]), lambda: adapted.recalibrate(files[3:], 0.5)):
        with pytest.raises(DataError, match="a threshold is set on images that the detector was not trained on"):
            ask()
    opened = add_normality(fit_detector("patchcore", model, normals=[Image.open(path) for path in files[:4]]), "hair", model=model)
    with pytest.raises(DataError, match="a threshold is set on images that the detector was not trained on"):
        opened.calibrate(files[3:])
    for one in (files[0], NORMALS[0], np.asarray(NORMALS[0])):
        for ask in (adapted.calibrate, adapted.recalibrate):
            with pytest.raises(DataError, match="images must be a sequence of images, not one"):
                ask(one)
    shown = add_normality(contrast, examples=SQUARES[:1], model=model, normals=NORMALS)
    with pytest.raises(DataError, match="images that are no examples"):
        shown.recalibrate([*NORMALS, np.asarray(SQUARES[0])], 0.5)
    with pytest.warns(UserWarning, match="2 normal images"):
        assert adapted.calibrate(files[4:]).threshold is not None


def test_a_map_that_is_coarser_than_the_patches():
    """A pixel's patches all count, as those of the same map in finer pixels do."""
    coarse = torch.from_numpy(np.random.default_rng(0).random((1, 8, 8)).astype(np.float32))
    coarse[0, 4, 4] = 3
    regions = find_regions(coarse, (40, 40))
    rows, columns = np.nonzero(regions.weights[0][regions.labels[0, 4, 4]].numpy().reshape(40, 40) > 1e-3)
    assert set(range(20, 25)) <= set(rows) and set(range(20, 25)) <= set(columns)
    whole = torch.stack([weights.sum(0) for weights in regions.weights])
    assert (whole > 0).all()  # no patch is nobody's
    weights = find_regions(coarse, (8, 8)).weights[0]
    assert torch.allclose(regions.weights[0].reshape(-1, 8, 5, 8, 5).sum((2, 4)).flatten(1), weights, atol=1e-6)
    odd = find_regions(coarse, (11, 13)).weights[0]
    assert odd.shape == (len(weights), 143) and torch.allclose(odd.sum(1), torch.ones(len(odd)))


def test_half_precision_around_changes_nothing(model, tmp_path):
    own = add_normality(contrast, "hair", examples=SQUARES[:1], model=model, normals=NORMALS)
    expected = own(BARS)
    with torch.autocast("cpu", torch.bfloat16):
        added = add_normality(contrast, "hair", examples=SQUARES[:1], model=model, normals=NORMALS)
        assert added.texts.dtype == torch.float32
        for found in (added(BARS), own(BARS)):
            np.testing.assert_array_equal(found, expected)
    AdaptedDetector.load(added.save(tmp_path / "saved"), contrast, model)


def test_what_is_encoded_is_known_by_how_it_is_averaged(model):
    first = add_normality(contrast, "hair", model=model)
    raw = replace(first.prompts, config=PromptConfig(file="aprilgan", average="raw_mean"))
    other = replace(first, prompts=raw)
    assert not torch.equal(other.texts, first.texts)
    assert torch.equal(other.texts, add_normality(contrast, "hair", model=model, prompts=raw).texts)


def test_pictures_that_are_overwritten_afterwards(model):
    buffers = [np.array(image) for image in NORMALS]
    adapted = add_normality(contrast, "hair", model=model, normals=buffers)
    for buffer in buffers:
        buffer[:] = 0
    kept = add_normality(contrast, "hair", model=model, normals=NORMALS)
    np.testing.assert_array_equal(adapted.add(examples=SQUARES[:1])(BARS), kept.add(examples=SQUARES[:1])(BARS))


def test_any_sequence_of_images(model):
    adapted = add_normality(contrast, examples=SQUARES[:1], model=model, normals=NORMALS)
    np.testing.assert_array_equal(adapted(deque(BARS)), adapted(BARS))


class Otherwise(MiniModel):
    """The same network, which sees images otherwise."""

    def preprocess(self, image):
        return super().preprocess(image) / 2


def test_graphs_see_what_the_detector_sees(model, heads_file, tmp_path):
    other = Otherwise.load(heads_file)
    adapted = add_normality(AprilGan(other, load_prompts(PromptConfig(file="aprilgan")), "cloth"), "hair", model=model)
    with pytest.raises(ModelError, match="a AprilGan with another model cannot be exported"):
        export_onnx(adapted, tmp_path / "x.onnx")
    copied = pickle.loads(pickle.dumps(fit_detector("patchcore", model, normals=NORMALS[:2])))
    assert export_onnx(add_normality(copied, "hair", model=model), tmp_path / "x.onnx").is_file()


def test_a_crop_that_is_resized():
    """The map lies where the crop was."""
    module = Padim(backbone="resnet18", layers=["layer1"], pre_trained=False, n_features=10)
    module.pre_processor = PreProcessor(transform=Compose([Resize((64, 64)), CenterCrop(48), Resize((24, 24))]))
    module.model.forward = lambda batch: (torch.zeros(len(batch)), torch.ones(len(batch), 1, *batch.shape[-2:]))
    (found,) = AnomalibDetector(module)([Image.new("RGB", (64, 64))])
    assert found.shape == (64, 64) and (found[8:56, 8:56] == 1).all() and found.sum() == 48 * 48


def test_options_that_mean_nothing(model, tmp_path):
    with pytest.raises(ModelError, match="precision is 'bf16': 'float32' or 'autocast'"):
        Placement(precision="bf16")
    with pytest.raises(ModelError, match="has no CLIP: leave clip_weights out"):
        load_model("mini", clip_weights=tmp_path / "clip.pt")
    with pytest.raises(ModelError, match="device 'nowhere' cannot be used here"):
        load_model("mini", placement=Placement("nowhere"))
    for more, message in (
        ({"nand": "nand_plus"}, "nand must be a NandConfig, not 'nand_plus'"),
        ({"prompts": "aprilgan"}, "prompts must be a PromptSet"),
        ({"model": "mini"}, "as load_model gives it, not 'mini'"),
        ({"noun": " "}, "noun is empty"),
        ({"others": None, "nand": NandConfig()}, "others must be a sequence of defects"),
        ({"normals": None}, "normals is None: leave it out"),
    ):
        with pytest.raises(DataError, match=message):
            add_normality(contrast, "hair", **{"model": model, **more})
    with pytest.raises(DataError, match="is a class: give one that is fitted"):
        add_normality(Otherwise, "hair", model=model)
    with pytest.raises(DataError, match="holds what cannot be printed"):
        add_normality(contrast, "a\x00b", model=model)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file cannot be a folder"):
        add_normality(contrast, "hair", model=model).save(tmp_path / "file")


def test_prompt_files_with_numbers_and_without_phrases(tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text("base: aprilgan\nclasses:\n  carpet:\n    1: [a hair]\n")
    assert load_prompts(PromptConfig(file=str(path))).group_phrases("carpet", "1", ["1"]) == ["a hair"]
    path.write_text("base: aprilgan\nclasses:\n  carpet:\n")
    with pytest.raises(PresetError, match="class 'carpet' has no phrases"):
        load_prompts(PromptConfig(file=str(path)))
