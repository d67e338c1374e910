"""Worse images: what is done to them, and what is measured under it."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from nandlib.data.images import load_image
from nandlib.errors import DataError
from nandlib.evaluation import robustness as measured
from nandlib.evaluation.perturbations import PERTURBATIONS, STRENGTHS, perturbed
from nandlib.method.normality import add_normality
from nandlib.method.operators import resize_map
from nandlib.show.condition_charts import robustness_curves
from nandlib.study.fitted import fitted_detectors
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy, open_study


@pytest.fixture(scope="module")
def image():
    rows, columns = np.mgrid[:96, :128]
    pixels = np.stack([128 + 80 * np.sin(rows / 9), 128 + 80 * np.sin(columns / 7), 90 + 0 * rows], -1)
    pixels[40:60, 50:80] = 240
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_images_get_worse_with_strength_and_the_same_every_time(image, name):
    before = np.asarray(image, float)
    after = [np.asarray(perturbed(image, name, strength, seed=3), float) for strength in STRENGTHS]
    assert all(own.shape == before.shape for own in after)
    change = [np.abs(own - before).mean() for own in after]
    assert change[0] > 0.2 and (np.diff(change) > 0).all()
    assert np.array_equal(np.asarray(perturbed(image, name, 2, seed=3), float), after[1])
    other = np.asarray(perturbed(image, name, 2, seed=4), float)
    assert np.array_equal(other, after[1]) == (name in ("illumination", "blur")), "corners and noise are drawn"
    assert perturbed(image, name, 0) is image


def test_light_goes_and_noise_has_its_deviation(image):
    before = np.asarray(image, float)
    for strength in STRENGTHS:
        darker = np.asarray(perturbed(image, "illumination", strength), float)
        assert np.abs(darker - (before - 25.5 * strength).clip(0)).max() <= 1.5
        grey = Image.new("RGB", (128, 128), (128, 128, 128))
        assert np.asarray(perturbed(grey, "noise", strength), float).std() == pytest.approx(255 * 0.02 * strength, abs=0.5)  # whole numbers


def test_a_blur_is_as_wide_as_it_says():
    """A line one pixel wide: the variance of where its light falls is σ², of the longer side."""
    line = np.zeros((200, 300, 3), np.uint8)
    line[:, 150] = 255
    for strength in STRENGTHS:
        light = np.asarray(perturbed(Image.fromarray(line), "blur", strength), float)[100, :, 0]
        spread = np.sqrt(np.average((np.arange(300) - 150) ** 2, weights=light))
        assert spread == pytest.approx(0.004 * strength * 300, rel=0.1)


def test_what_there_is_not_is_refused(image):
    with pytest.raises(DataError, match="no perturbation 'blurr': did you mean 'blur'"):
        perturbed(image, "blurr", 1)
    with pytest.raises(DataError, match="strength 6 of 'blur': 1 to 5, or 0 for none"):
        perturbed(image, "blur", 6)


def test_without_a_change_it_is_the_study(project, monkeypatch):
    monkeypatch.chdir(project)  # its prompt file is named from there
    study = open_study("tiny", project)
    monkeypatch.setattr(measured, "PERTURBATIONS", {name: PERTURBATIONS[name] for name in ("blur", "noise")})
    monkeypatch.setattr(measured, "STRENGTHS", (5,))
    table = measured.robustness(study, study.classes()[:1], most=99, progress=False)
    assert table.groupby("strength").size().to_dict() == dict.fromkeys((0, 5), 2 * len(study.config.detectors))
    class_name = study.classes()[0]
    for detector in study.config.detectors:  # noqa: B007 - the queries name it
        own = table.query("detector == @detector and strength == 0")
        expected = study.base_auroc.query("detector == @detector and `class` == @class_name")["auroc"].item()
        deltas = study.deltas.query("detector == @detector and `class` == @class_name")
        assert own["auroc"].to_numpy() == pytest.approx(expected, abs=0.2)
        assert own["auroc_before"].to_numpy() == pytest.approx(deltas["auroc_before"].mean(), abs=0.2)
        assert own["auroc_after"].to_numpy() == pytest.approx(deltas["auroc_after"].mean(), abs=0.5)
    assert (table["n_images"] == len(study.rows(class_name))).all()
    rows, model = study.rows(class_name), model_of(study)
    images = [perturbed(load_image(study.images / name), "noise", 5, k) for k, name in enumerate(rows["image"])]
    base = resize_map(torch.from_numpy(fitted_detectors(study, "patchcore", model, [class_name])[class_name](images)), (64, 64))
    areas = {"before": [], "after": []}
    for group, types in study.test_groups()[class_name].items():
        phrases = study.prompts.group_phrases(class_name, group, types)
        own = add_normality(lambda _: base.numpy(), phrases, model=model, noun=class_name, prompts=study.prompts, nand=study.config.nand)
        abnormal = ~rows["group"].isin(["good", group])
        for when, maps in (("before", base.numpy()), ("after", own(images))):
            areas[when].append(100 * roc_auc_score(abnormal, np.stack(maps).max((1, 2))))
    noisy = table.query("perturbation == 'noise' and strength == 5").set_index("detector").loc["patchcore"]
    assert noisy["auroc"] == pytest.approx(100 * roc_auc_score(rows["group"] != "good", base.amax((1, 2))))
    assert noisy[["auroc_before", "auroc_after"]].tolist() == pytest.approx([np.mean(areas["before"]), np.mean(areas["after"])])
    monkeypatch.setattr(measured, "STRENGTHS", ())  # clean images alone
    first = measured.robustness(study, [class_name], most=1, progress=False)
    assert (first["n_images"] == rows["group"].nunique()).all() and first["n_scores"].max() <= rows["group"].nunique()
    assert (table["delta"] == table["auroc_after"] - table["auroc_before"]).all()
    assert len(robustness_curves(table).axes) == 4
    plus = study.config.model_copy(update={"nand": study.config.nand.model_copy(update={"method": "nand_plus"})})
    with pytest.raises(DataError, match="nand.method is 'nand_plus': robustness is measured by 'nand'"):
        measured.robustness(OpenStudy(study.root, plus), progress=False)
