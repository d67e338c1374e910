"""`add_normality`: Eq. 6 by plain steps, any kind of detector, several normalities, and taking them back."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from nandlib import add_normality
from nandlib.data.maps import MapFolder
from nandlib.errors import DataError, PresetError
from nandlib.method.adapt import AdaptedDetector
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.method.prompts import load_prompts

IMAGES = [Image.fromarray(np.random.default_rng(k).integers(0, 255, (60, 80, 3), dtype=np.uint8)) for k in range(2)]
BASE = np.random.default_rng(9).random((2, 30, 45)).astype(np.float32)


def detector(images):
    return BASE[: len(images)]


def test_equation_6_by_plain_steps(model):
    adapted = add_normality(detector, ["thread on carpet", "loose thread"], model=model, noun="carpet")
    prompts = load_prompts(PromptConfig(file="aprilgan"))
    add, nor = (
        F.normalize(F.normalize(model.encode_text(s), dim=-1).mean(0), dim=-1)
        for s in (prompts.fill(["thread on carpet", "loose thread"]), prompts.normal("carpet"))
    )
    for k, final in enumerate(adapted(IMAGES)):
        tokens = model.encode_image(model.preprocess(IMAGES[k])[None]).tokens[0]
        sup = torch.zeros(30, 45)
        for layer in range(4):
            logits = model.temperature * torch.stack([tokens[layer] @ add, tokens[layer] @ nor]).reshape(1, 2, 40, 40)
            sup += F.interpolate(logits, size=(30, 45), mode="bilinear", align_corners=True).softmax(1)[0, 0] / 4
        assert np.allclose(final, BASE[k] * (1 - sup.numpy()), atol=1e-5)
    assert adapted.scores(IMAGES) == pytest.approx([final.max() for final in adapted(IMAGES)])


def test_several_normalities_in_any_order_and_back(model):
    one = add_normality(detector, "thread", model=model)
    both = add_normality(one, "color stain")
    other = add_normality(detector, "color stain", model=model).add("thread")
    for a, b in zip(both(IMAGES), other(IMAGES), strict=True):
        assert np.allclose(a, b, atol=1e-6)
    for a, b in zip(both.remove("color stain")(IMAGES), one(IMAGES), strict=True):
        assert np.array_equal(a, b)
    for a, b in zip(one.remove("thread")(IMAGES), BASE, strict=True):
        assert np.array_equal(a, b)
    assert list(one.normalities) == ["thread"]
    assert (both(IMAGES)[0] <= one(IMAGES)[0]).all()


def test_maps_on_disk(model, tmp_path):
    for k, image in enumerate(IMAGES):
        image.save(tmp_path / f"{k}.png")
        np.save(tmp_path / f"{k}.npy", BASE[k])
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    from_disk = add_normality(tmp_path, "thread", model=model)(paths)
    direct = add_normality(detector, "thread", model=model)(IMAGES)
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(from_disk, direct, strict=True))


def test_maps_of_images_in_folders_are_found_again(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for k, place in enumerate(("cut", ".")):  # of one name, in two folders
        for root in ("images", "maps"):
            (tmp_path / root / place).mkdir(parents=True, exist_ok=True)
        IMAGES[k].save(tmp_path / "images" / place / "0.png")
        np.save(tmp_path / "maps" / place / "0.npy", BASE[k])
    adapted = add_normality(MapFolder("maps", "images"), "thread", model=model)
    loaded = AdaptedDetector.load(adapted.save("saved"), model=model)
    for image in ("images/cut/0.png", tmp_path / "images/0.png"):
        assert np.array_equal(adapted([image])[0], loaded([image])[0])
    with pytest.raises(DataError, match="is not inside image_root"):
        loaded(["0.png"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert loaded(["../images/cut/0.png"])[0].shape == BASE[0].shape


def test_nothing_given_is_nothing_or_said(model):
    adapted = add_normality(lambda images: np.stack([BASE[0] for _ in images]), "thread", model=model)
    assert adapted([]) == [] and adapted.scores([]).shape == (0,)
    for ask in (lambda: adapted.calibrate([]), lambda: adapted.recalibrate([])):
        with pytest.raises(DataError, match=r"a threshold needs .*: none were given"):
            ask()
    for level in (0, 1, 5):
        with pytest.raises(DataError, match=f"between 0 and 1, not {level}"):
            adapted.check(IMAGES, level=level)
    stacked = np.stack([np.asarray(image) for image in IMAGES])
    assert adapted.calibrate(stacked).threshold == adapted.calibrate(IMAGES).threshold
    plus = add_normality(detector, "thread", model=model, method="nand_plus", normals=stacked)
    assert np.array_equal(plus(IMAGES)[0], add_normality(detector, "thread", model=model, method="nand_plus", normals=IMAGES)(IMAGES)[0])


def test_detectors_that_return_tensors_or_batches(model):
    class Batch:
        anomaly_map = torch.from_numpy(BASE)[:, None]

    expected = add_normality(detector, "thread", model=model)(IMAGES)
    for kind in (lambda _: torch.from_numpy(BASE), lambda _: Batch(), lambda _: list(BASE)):
        assert all(np.array_equal(a, b) for a, b in zip(add_normality(kind, "thread", model=model)(IMAGES), expected, strict=True))


def test_maps_of_several_sizes_in_one_batch(model):
    """Every image keeps its own features and its own map."""
    images = [Image.fromarray(np.random.default_rng(k).integers(0, 255, (60, 80, 3), dtype=np.uint8)) for k in range(5)]
    shapes = [(30, 45), (30, 45), (20, 10), (20, 10), (30, 45)]
    maps = [np.random.default_rng(k).random(shape).astype(np.float32) for k, shape in enumerate(shapes)]
    known = {image.tobytes(): single for image, single in zip(images, maps, strict=True)}
    adapted = add_normality(lambda some: [known[image.tobytes()] for image in some], "thread", model=model)
    together = adapted(images)
    assert [final.shape for final in together] == shapes
    for image, final in zip(images, together, strict=True):
        np.testing.assert_allclose(final, adapted([image])[0], atol=1e-5)


def test_parameters_reach_the_operators(model):
    options = [
        {}, {"temperature": 1.0}, {"layers": (3,)}, {"layer_aggregation": "max"}, {"softmax_against": ("normal", "abnormal")},
        {"softmax_against": ("abnormal",)}, {"resize": "probabilities"}, {"align_corners": False}, {"layer_aggregation": "clipped_sum"},
    ]  # fmt: skip
    maps = [add_normality(detector, "thread", model=model, nand=NandConfig(**o)).suppression_maps(IMAGES[:1])["thread"][0] for o in options]
    assert all(m.shape == (256, 256) and m.min() >= 0 and m.max() <= 1 + 1e-6 for m in maps)
    for k in range(1, len(maps)):
        assert np.abs(maps[k] - maps[0]).max() > 1e-5, options[k]
    top = add_normality(detector, "thread", model=model, nand=NandConfig(image_score="topk_mean", top_fraction=0.5))
    assert (top.scores(IMAGES) < add_normality(detector, "thread", model=model).scores(IMAGES)).all()


def test_messages(model):
    adapted = add_normality(detector, "thread", model=model)
    with pytest.raises(DataError, match="'thread' is added already"):
        adapted.add("thread")
    with pytest.raises(DataError, match=r"no normality 'thred' to take back: did you mean 'thread'\?"):
        adapted.remove("thred")
    for empty in ("", " ", []):
        with pytest.raises(DataError, match="at least one phrase"):
            adapted.add(empty)
    broken = add_normality(lambda images: np.full((len(images), 4, 4), np.nan), "thread", model=model)
    with pytest.raises(DataError, match="function, image 0: the anomaly map holds 16 NaN"):
        broken(IMAGES)
    with pytest.raises(DataError, match="returned 1 maps for 2 images"):
        add_normality(lambda images: BASE[:1], "thread", model=model)(IMAGES)
    for maps, message in (
        (BASE[:1], "base returned 1 maps for 2 images"),
        (-BASE - 1, "what is 0 or more can be damped"),
        (BASE * np.nan, "NaN"),
    ):
        for damped in (adapted.damp, adapted.suppression_maps):
            with pytest.raises(DataError, match=message):
                damped(IMAGES, maps)
    with pytest.raises(DataError, match="images must be a sequence of images, in an order"):
        adapted.damp(iter(IMAGES), BASE)
    assert [single.dtype for single in adapted.damp(IMAGES, torch.tensor(BASE).double())] == [np.float32] * 2
    for name in (3, "a\x85", "\ud800"):
        with pytest.raises(DataError, match="the name of a normality is printable text"):
            adapted.add("hole", name)


def test_what_has_no_meaning_is_refused(model):
    adapted = add_normality(detector, "thread", model=model)
    with pytest.raises(DataError, match="give the text alone"):
        add_normality(adapted, "hole", model=model)
    with pytest.raises(DataError, match="belong to a study"):
        add_normality(detector, "thread", model=model, nand=NandConfig(image_score="max_plus_image"))
    with pytest.raises(DataError, match=r"others must be a sequence of defects, not one: \['hole'\]"):
        add_normality(detector, "thread", model=model, others="hole")
    with pytest.raises(PresetError, match="the model has the layers 0 to 3, not 9"):
        add_normality(detector, "thread", model=model, nand=NandConfig(layers=(9,)))(IMAGES)
