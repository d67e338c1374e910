"""When an adapted detector rejects: on which scores its threshold is set, what lies above it, and that a saved one is the same again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nandlib import add_normality, fit_detector
from nandlib.errors import DataError
from nandlib.method.adapt import AdaptedDetector
from nandlib.method.config import NandConfig, PlusConfig
from nandlib.method.threshold import Threshold, certain_threshold, conformal_threshold

GREYS = (30, 200, 90, 140, 60, 230, 110, 170, 10, 250, 70, 40, 130, 220, 20, 160, 100, 190, 80, 240)  # of twenty images, in no order
IMAGES = [Image.new("RGB", (48, 40), (grey, grey, grey)) for grey in GREYS]
OWN = (0.3, 0.9, 0.1, 0.5)  # scores of the training images, each left out of what it is compared with


class Brightness:
    """Its score is an image's grey, on a map that is dark elsewhere."""

    def __call__(self, images):
        return [self._map(float(np.asarray(image)[0, 0, 0])) for image in images]

    def normal_maps(self):
        return [self._map(score) for score in OWN]

    def _map(self, score):
        anomaly = np.zeros((12, 16), np.float32)
        anomaly[5, 7] = score
        return anomaly


@pytest.fixture(scope="module")
def adapted(model):
    return add_normality(Brightness(), "thread", model=model, noun="carpet")


@pytest.mark.parametrize("level", [0.05, 0.2, 0.5])
def test_a_threshold_is_that_of_the_detector_before_anything_was_added(adapted, level):
    value, attained = conformal_threshold(GREYS, level)
    bare = replace(adapted, normalities={})
    assert (adapted.scores(IMAGES) < GREYS).all() and (bare.scores(IMAGES) == GREYS).all()  # so the two can be told apart
    found = adapted.calibrate(IMAGES, level)
    assert found.threshold == Threshold(value, attained, len(GREYS), None)
    assert bare.calibrate(IMAGES, level).add("thread").threshold == found.threshold == found.add("hole").threshold
    assert found.remove("thread").threshold == found.threshold and adapted.threshold is None


def test_the_detectors_own_normal_maps_set_it_where_no_images_are_given(adapted):
    found = adapted.calibrate(level=0.4).threshold
    assert found == Threshold(*conformal_threshold(np.float32(OWN), 0.4), len(OWN)) and found.value == np.float32(0.5)


def test_a_threshold_is_not_taken_over_by_a_detector_that_was_fitted_anew(model, tmp_path):
    normals = [Image.fromarray(np.random.default_rng(k).integers(0, 255, (40, 40, 3), dtype=np.uint8)) for k in range(9)]
    first, other = (fit_detector("patchcore", model, normals=own) for own in (normals[:3], normals[2:]))
    adapted = add_normality(first, "thread", model=model).calibrate(normals[5:], level=0.2)
    folder = adapted.save(tmp_path / "saved")
    assert AdaptedDetector.load(folder, first, model).threshold == adapted.threshold
    with pytest.warns(UserWarning, match="the threshold was set on another PatchCore than is given"):
        again = AdaptedDetector.load(folder, other, model)
    assert again.threshold is None and again.names == ["thread"]

    def of_files(images):
        return [np.full((4, 4), float(Path(image).stem), np.float32) for image in images]

    files = [f"{k}.png" for k in range(9)]
    told = add_normality(of_files, "thread", model=model).remove("thread").calibrate(files, level=0.2)
    told.save(tmp_path / "files")
    assert AdaptedDetector.load(tmp_path / "files", of_files, model).threshold == told.threshold  # of files alone: nothing is known


def test_what_is_rejected_lies_above_the_threshold(adapted):
    bare = replace(adapted, normalities={}).calibrate(IMAGES, 0.2)
    cut = bare.threshold.value
    assert cut in GREYS  # one image lies exactly there, and passes
    assert bare.predict(IMAGES).tolist() == [grey > cut for grey in GREYS] and 0 < bare.predict(IMAGES).sum() < len(GREYS)
    after = adapted.calibrate(IMAGES, 0.2)
    assert after.predict(IMAGES).tolist() == (adapted.scores(IMAGES) > cut).tolist() != bare.predict(IMAGES).tolist()


def test_a_score_that_is_no_number_sets_no_threshold():
    scores = np.r_[np.arange(60.0), np.nan]
    for found in (lambda: conformal_threshold(scores, 0.05), lambda: certain_threshold(scores, 0.05, 0.95)):
        with pytest.raises(DataError, match="is no number"):
            found()


def test_a_fresh_threshold_is_of_the_scores_after_what_was_added(adapted):
    found = adapted.recalibrate(IMAGES, 0.5, 0.9)
    assert found.threshold == Threshold(certain_threshold(adapted.scores(IMAGES), 0.5, 0.9), 0.5, len(IMAGES), 0.9)
    assert found.threshold.value < certain_threshold(GREYS, 0.5, 0.9)


def test_a_saved_detector_is_the_same_again(model, tmp_path):
    """All that its maps and its decisions come from: rivals, the normal token, the threshold."""
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)) for _ in range(2)]
    base = list(rng.random((2, 20, 24)).astype(np.float32))
    nand = NandConfig(method="nand_plus", plus=PlusConfig(competitors="types"))
    adapted = add_normality(lambda _: base, "thread", model=model, nand=nand, normals=images, others=["hole", "cut; slit"])
    adapted = replace(adapted, threshold=Threshold(0.5, 0.1, 9, 0.9))
    loaded = AdaptedDetector.load(adapted.save(tmp_path), adapted.detector, model)
    assert loaded.threshold == adapted.threshold and loaded.others == adapted.others == (("hole",), ("cut; slit",))
    assert adapted.normal_token is not None and torch.equal(loaded.normal_token, adapted.normal_token)
    for ours, theirs in zip(adapted(images), loaded(images), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert AdaptedDetector.load(replace(adapted, threshold=None).save(tmp_path), adapted.detector, model).threshold is None


@pytest.mark.parametrize("level", ["0.05", None, 0, 1, float("nan")])
def test_a_level_is_a_share(level):
    with pytest.raises(DataError, match="between 0 and 1, not"):
        conformal_threshold(np.arange(30.0), level)
    with pytest.raises(DataError, match="between 0 and 1, not"):
        certain_threshold(np.arange(200.0), level, 0.95)
