"""Normality by example, by plain steps and through `add_normality`."""

import json
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from typer.testing import CliRunner

from nandlib import add_normality, fit_detector, load_model
from nandlib.cli import app
from nandlib.data.images import turned
from nandlib.errors import DataError, ModelError
from nandlib.integrations.onnx import export_onnx
from nandlib.integrations.sklearn import NormalityDetector
from nandlib.method.adapt import AdaptedDetector
from nandlib.method.config import ExampleConfig, NandConfig, PlusConfig
from nandlib.method.descriptors import Descriptors
from nandlib.method.examples import (
    Example,
    both,
    directions,
    example_suppression,
    example_weights,
    positions,
    residuals,
    shown_directions,
)
from nandlib.method.plus import find_regions

SIDE = 96


def plate(seed, *marks):
    """A striped plate with noise, and marks: dark squares ``s``, bright bars ``b``, at (row, column)."""
    rng = np.random.default_rng(seed)
    stripes = 140 + 30 * np.sin((np.arange(SIDE) + rng.integers(9)) / 3)
    pixels = stripes[None, :, None] + rng.normal(0, 4, (SIDE, SIDE, 3))
    for kind, row, column in marks:
        if kind == "s":
            pixels[row : row + 14, column : column + 14] = 30
        else:
            pixels[row : row + 4, column : column + 30] = [250, 250, 120]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


NORMALS = [plate(k) for k in range(6)]
SQUARES = [plate(20 + k, ("s", 15 + 12 * k, 50 - 7 * k)) for k in range(4)]
BARS = [plate(40 + k, ("b", 20 + 13 * k, 10 + 9 * k)) for k in range(4)]


@pytest.fixture(scope="module")
def model():
    return load_model("mini")


@pytest.fixture(scope="module")
def patchcore(model):
    return fit_detector("patchcore", model, normals=NORMALS)


def test_a_residual_is_what_differs_from_the_nearest_normal():
    normal = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    assert residuals(torch.tensor([[1.0, 2.0], [8.0, -1.0]]), normal).tolist() == [[1.0, 2.0], [-2.0, -1.0]]


@pytest.mark.parametrize("several", ["odds", "nearest"])
def test_equations_by_plain_steps(several):
    generator = torch.Generator().manual_seed(0)
    base, descriptors = torch.rand(1, 24, 24, generator=generator), torch.randn(1, 5, 4, 4, generator=generator)
    normal, examples = torch.randn(7, 5, generator=generator), F.normalize(torch.randn(3, 5, generator=generator), dim=1)
    regions = find_regions(base, (4, 4))
    config = ExampleConfig(similarity=0.3, sharpness=7, several=several)
    sup = example_suppression(directions(descriptors, normal, regions), examples, regions, config)
    for row, column in ((0, 0), (5, 17), (23, 23)):
        region, mean = int(regions.labels[0, row, column]), torch.zeros(5)
        for patch in range(16):
            own = descriptors[0, :, patch // 4, patch % 4]
            nearest = min(normal, key=lambda n, own=own: float((own - n).norm()))
            mean += regions.weights[0][region, patch] * (own - nearest)
        odds = [np.exp(7 * (float(F.cosine_similarity(mean, example, dim=0)) - 0.3)) for example in examples]
        together = max(odds) if several == "nearest" else np.mean(odds)
        assert sup[0, row, column] == pytest.approx(together / (1 + together), abs=1e-5)


def test_one_half_changes_nothing_and_odds_multiply():
    said = torch.tensor([0.2, 0.8, 0.5])
    assert torch.allclose(both(said, torch.full((3,), 0.5), 1), said)
    assert torch.allclose(both(said, torch.tensor([0.8, 0.8, 0.1]), 1), torch.tensor([0.5, 16 / 17, 0.1]))
    assert torch.allclose(both(torch.tensor([0.2]), torch.tensor([0.5]), 0.5), torch.tensor([1 / 3]))  # odds 1/4, their root
    assert torch.allclose(both(said, torch.tensor([0.8, 0.8, 0.1]), 0), torch.tensor([0.8, 0.8, 0.1]))
    assert both(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0])).tolist() == [0.0, 0.0]
    for weight in (0.0, 0.1, 0.25, 1.0):
        sure = both(torch.linspace(0, 1, 101), torch.ones(101), weight)
        assert sure.max() <= 1 and torch.allclose(sure, torch.ones(101), atol=1e-6)


def left(adapted, images):
    """Which share of each image's score is left."""
    return adapted.scores(images) / np.array([single.max() for single in adapted.detector(images)])


def test_what_is_shown_becomes_normal_and_what_is_not_stays(patchcore, model):
    lying = add_normality(patchcore, examples=BARS[:1], model=model, nand=NandConfig(examples=ExampleConfig(turned="none")))
    assert left(lying, BARS[1:]).max() < 0.3 and left(lying, SQUARES).min() > 0.5
    adapted = add_normality(patchcore, examples=BARS[:1], model=model)  # turned: it finds more of its own, and damps more of others
    assert left(adapted, BARS[1:]).max() < 0.3 and left(adapted, SQUARES).min() > left(adapted, BARS[1:]).max() + 0.15
    assert adapted.names == ["example"] and adapted.normalities == {}
    for image, single in zip(adapted.remove("example")(BARS), patchcore(BARS), strict=True):
        assert np.array_equal(image, single)


def test_mask_box_and_point_say_where(patchcore, model):
    image = plate(60, ("s", 10, 10), ("b", 70, 40))
    mask = np.zeros((SIDE, SIDE), bool)
    mask[70:74, 40:70] = True
    for example in (Example(image, mask=mask), Example(image, box=(40, 70, 70, 74)), Example(image, point=(55, 71))):
        adapted = add_normality(patchcore, examples=[example], model=model)
        assert left(adapted, BARS).mean() + 0.15 < left(adapted, SQUARES).mean()
    highest = add_normality(patchcore, examples=[image], model=model)  # the square
    assert left(highest, SQUARES).mean() < left(highest, BARS).mean()


def test_where_counts_x_and_y_of_a_wide_image():
    """160 by 80 pixels, a map of half that, patches of 16: the mark in the upper right, a stronger one in the lower left."""
    image = Image.new("RGB", (160, 80))
    anomaly = np.zeros((40, 80), np.float32)
    anomaly[4:8, 64:68], anomaly[28:32, 8:12] = 1, 2
    upper_right, lower_left = (example_weights(one, image.size, anomaly, (5, 10), PlusConfig()) for one in
                               (Example(image, point=(131, 12)), Example(image)))  # fmt: skip
    for weights, (row, column) in ((upper_right, (0, 8)), (lower_left, (3, 1))):
        assert weights.shape == (5, 10) and weights.sum().item() == pytest.approx(1)
        assert divmod(int(weights.argmax()), 10) == (row, column) and weights[row, column] > 0.5
    boxed = example_weights(Example(image, box=(128, 8, 144, 16)), image.size, anomaly, (5, 10), PlusConfig())
    assert boxed[0, 8] == 1 and boxed.sum() == 1
    assert Example(image, box=(150, 60, 170, 90)).where(image.size).sum() == 10 * 20, "what lies outside is left out"


def test_how_high_normal_images_are(patchcore, model):
    """The median of their maxima: of the detector's own leave-one-out maps, or of the normal images that are given."""
    own = Descriptors(patchcore, model, ())
    assert own.level == pytest.approx(np.median([single.max() for single in patchcore.normal_maps()]))

    def grey(images):
        return [np.full((4, 4), np.asarray(image)[0, 0, 0], np.float32) for image in images]

    normals = [Image.new("RGB", (8, 8), (value,) * 3) for value in (9, 1, 100, 4, 2)]
    assert Descriptors(grey, model, normals).level == 4
    assert Descriptors(grey, model, ()).level is None and Descriptors(grey, model, normals, None, 7.0).level == 7


def test_any_detector_with_maps_and_some_normal_images(patchcore, model):
    def foreign(images):
        return patchcore(images)

    adapted = add_normality(foreign, examples=SQUARES[:2], model=model, normals=NORMALS)
    assert (adapted.scores(SQUARES[2:]) < 0.6 * np.array([single.max() for single in patchcore(SQUARES[2:])])).all()
    with pytest.raises(DataError, match="give some normal images"):
        add_normality(foreign, examples=SQUARES[:1], model=model)


def test_text_and_example_of_one_thing(patchcore, model):
    said = add_normality(patchcore, "dark square", model=model, noun="plate")
    shown = add_normality(patchcore, examples=SQUARES[:1], model=model, name="dark square")
    together = add_normality(patchcore, "dark square", examples=SQUARES[:1], model=model, noun="plate")
    base = list(patchcore(BARS))
    maps = [adapted.suppression_maps(BARS, base)["dark square"] for adapted in (said, shown, together)]
    for a, b, c in zip(*maps, strict=True):
        assert np.allclose(c, both(torch.from_numpy(a), torch.from_numpy(b)), atol=1e-6)
    assert together.names == ["dark square"] and together.remove("dark square").names == []


def test_saved_and_loaded(patchcore, model, tmp_path):
    def foreign(images):
        return patchcore(images)

    for detector, normals in ((patchcore, ()), (foreign, NORMALS)):
        adapted = add_normality(detector, examples=SQUARES[:2], model=model, name="squares", normals=normals)
        again = AdaptedDetector.load(adapted.save(tmp_path / type(detector).__name__), detector, model)
        for a, b in zip(adapted(SQUARES + BARS), again(SQUARES + BARS), strict=True):
            assert np.array_equal(a, b)
        assert again.names == ["squares"]


def test_what_is_no_example_is_refused(patchcore, model):
    adapted = add_normality(patchcore, examples=SQUARES[:1], model=model)
    with pytest.raises(DataError, match="example 1 shows nothing: its score is"):
        add_normality(patchcore, examples=[min(NORMALS, key=lambda image: patchcore([image]).max())], model=model)
    for again in (lambda: adapted.add(name="b", examples=SQUARES[:1]), lambda: adapted.add(name="b", examples=[BARS[0], BARS[0]])):
        with pytest.raises(DataError, match="was given before"):
            again()
    assert adapted.names == ["example"]
    with pytest.raises(DataError, match="a phrase|an example"):
        add_normality(patchcore, model=model)
    empty = np.zeros((SIDE, SIDE), bool)
    for example, said in (
        (Example(BARS[0], mask=empty), "mask of an example is empty"),
        (Example(BARS[0], mask=empty[:50]), "96 x 50|must be of one size"),
        (Example(BARS[0], box=(200, 200, 300, 300)), "box of an example is empty"),
        (Example(BARS[0], point=(500, 2)), "lies outside"),
        (Example(BARS[0], box=(0, 0, 9, 9), point=(1, 1)), "one of them"),
    ):
        with pytest.raises(DataError, match=said):
            adapted.add(name="b", examples=[example])


@pytest.mark.parametrize("how", ["none", "mirrored", "all"])
def test_an_example_shows_the_same_however_it_lies(patchcore, model, how):
    """In all positions the eight turned images are one example; mirrored, those of its own four; else every image is another one."""
    nand, marked = NandConfig(examples=ExampleConfig(turned=how)), np.zeros((SIDE, SIDE), bool)
    marked[20:24, 10:40] = True

    def shown(place):
        image = Example(turned(np.asarray(BARS[0]), place), mask=turned(marked, place))
        return add_normality(patchcore, examples=[image], model=model, nand=nand).shown.examples["example"]

    first, places = shown(0), {"none": (0,), "mirrored": (0, 2, 4, 6), "all": range(8)}[how]
    assert first.shape == (len(places), 768) and positions(nand.examples) == tuple(places)
    for place in range(8):
        same = (first @ shown(place).T).amax(0).min() > 0.9999
        assert same == (place in places)


def test_regions_of_examples_follow_the_settings(patchcore):
    anomaly, config = patchcore(SQUARES[:1])[0], ExampleConfig(turned="none")

    def shown(plus):
        weigh = partial(example_weights, Example(SQUARES[0]), SQUARES[0].size, anomaly, plus=plus)
        return shown_directions(SQUARES[0], patchcore.describe, weigh, patchcore.memory, config)[0]

    one, other = shown(PlusConfig()), shown(PlusConfig(focus=0))
    assert one.norm() == pytest.approx(1, abs=1e-5) and 0.5 < float(one @ other) < 0.9999


def test_on_the_command_line(patchcore, tmp_path):
    for folder, images in (("normals", NORMALS), ("accepted", SQUARES[:2]), ("images", SQUARES[2:] + BARS)):
        (tmp_path / folder).mkdir()
        for k, image in enumerate(images):
            image.save(tmp_path / folder / f"{k}.png")
    words = ["--detector", "patchcore", "--normals", str(tmp_path / "normals"), "--accept", str(tmp_path / "accepted")]
    result = CliRunner().invoke(app, ["apply", str(tmp_path / "images"), *words, "-o", str(tmp_path / "out"), "--json"])
    said = json.loads(result.stdout)
    adapted = add_normality(patchcore, examples=[tmp_path / "accepted/0.png", tmp_path / "accepted/1.png"])
    assert said["examples"] == {"example": 2} and said["normalities"] == {}
    scores = [row["score_after"] for row in said["images"]]
    assert scores == pytest.approx(adapted.scores(SQUARES[2:] + BARS).tolist(), rel=1e-4)
    assert said["examples_among_images"] == []
    SQUARES[0].save(tmp_path / "images/seen_before.png")
    again = CliRunner().invoke(app, ["apply", str(tmp_path / "images"), *words, "-o", str(tmp_path / "again"), "--no-overlays"])
    assert "1 of the images were given as examples (seen_before.png): their scores say nothing about others" in again.stderr
    CliRunner().invoke(app, ["explain", str(tmp_path / "images/0.png"), *words, "-o", str(tmp_path / "seen.png")])
    assert Image.open(tmp_path / "seen.png").size[0] > 300
    with pytest.raises(DataError, match="show it with --accept"):
        CliRunner().invoke(
            app, ["apply", str(tmp_path / "images"), "--detector", "aprilgan", "-o", str(tmp_path / "o")], catch_exceptions=False
        )


def test_scikit_learn_and_onnx(model):
    estimator = NormalityDetector(examples=SQUARES[:2], model=model).fit(NORMALS)
    assert (estimator.score_samples(SQUARES[2:]) > NormalityDetector(model=model).fit(NORMALS).score_samples(SQUARES[2:])).all()
    with pytest.raises(ModelError, match="export texts alone"):
        export_onnx(estimator.detector_, "never.onnx")


def test_detector_text_and_examples_share_a_pass(model, patchcore):
    """Of the tower, a batch at a time, and are no other for that."""
    adapted = add_normality(patchcore, "dark square", examples=SQUARES[:2], model=model)
    images = [*SQUARES, *BARS, *NORMALS[:3]]
    passes = []
    hook = model.tower.blocks[0].register_forward_hook(lambda *_: passes.append(1))
    maps = adapted(images)
    hook.remove()
    assert len(passes) == 2, "eleven images are two batches"
    expected = adapted.damp(images, patchcore(images))
    assert len(maps) == 11 and all(np.allclose(*pair, atol=1e-5) for pair in zip(maps, expected, strict=True))
    assert adapted([]) == []


def test_the_models_own_default_is_one_model():
    assert load_model("mini") is load_model("mini")
    assert add_normality(fit_detector("patchcore", normals=NORMALS[:2]), "hair").model is load_model("mini")


def test_a_turned_example_on_a_grid_that_is_not_square_points_where_it_is_marked():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:8, :8, 0] = 255  # red in one corner, which is marked

    def describe(images):
        small = [np.asarray(Image.fromarray(own).resize((8, 4), Image.Resampling.BOX), np.float32) / 255 for own in images]
        return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)

    def weigh(grid):
        weights = torch.zeros(grid)
        weights[0, :2] = 0.5
        return weights

    found = shown_directions(pixels, describe, weigh, torch.zeros(1, 3))
    assert len(found) > 1 and torch.allclose(found, torch.tensor([1.0, 0, 0]).expand_as(found), atol=1e-5)
