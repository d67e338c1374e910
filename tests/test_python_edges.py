"""What a researcher types who has read nothing but the docstrings."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_project import ROOT

import nandlib
from nandlib import Example, fit_detector
from nandlib.detectors.uniad import UniAd
from nandlib.errors import DataError, PresetError
from nandlib.evaluation.kshot import KShot
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.statistics import bootstrap, delong, sign_flips, weighted_auroc
from nandlib.method.config import PromptConfig
from nandlib.method.operators import detect, image_score, prompt_ensemble
from nandlib.method.prompts import load_prompts, read_texts
from nandlib.study.open_study import open_study
from nandlib.surfaces.clouds import Cloud

IMAGE = Image.new("RGB", (32, 32))
STRATA = np.array(["good", "good", "hole", "hole", "hair", "hair"])


@pytest.mark.parametrize("labels", [[0, 2, 1], [1, 1, -1], [1, 0, np.nan]], ids=str)
def test_labels_of_another_kind_are_refused(labels):
    with pytest.raises(DataError, match=r"AUROC needs the labels 0 \(normal\) and 1 \(abnormal\)"):
        auroc(labels, [0.1, 0.9, 0.5])
    assert auroc([False, True, True], [1, 3, 2]) == auroc([0, 1, 1], [1, 3, 2]) == 100


@pytest.mark.parametrize("scores", [None, ["a", "b", "c"], [None, 1, 2], [np.nan, 1, 2]], ids=str)
def test_scores_that_are_no_numbers_are_refused(scores):
    with pytest.raises(DataError, match="AUROC needs a score, a number, for each label"):
        auroc([0, 1, 1], scores)


def test_a_missing_number_is_no_significance():
    before, after = np.arange(6.0), {"hole": np.arange(6.0)}
    for b, a in ((before * np.nan, after), (before, {"hole": before * np.nan})):
        with pytest.raises(DataError, match="a score is no number"):
            bootstrap(STRATA, b, a)
    with pytest.raises(DataError, match="a score is no number"):
        delong([np.array([1, np.nan])] * 2, [np.array([2.0, 3.0])] * 2)
    assert np.isnan(sign_flips([np.array([np.nan]), np.array([1.0])])) and sign_flips([np.ones(1), np.ones(1)]) == 0.5


def test_labels_as_numbers_weigh_as_those_that_are_true_or_false():
    label, scores, weights = np.array([0, 1, 0, 1, 1]), np.array([0.2, 0.1, 0.4, 0.8, 0.3]), np.ones((5, 1))
    assert weighted_auroc(label, scores, weights) == weighted_auroc(label == 1, scores, weights) == pytest.approx(50)


def test_a_word_that_is_none_of_the_choices():
    tokens = torch.rand(1, 1, 4)
    with pytest.raises(ValueError, match="unknown average 'normalized': normalised or raw_mean"):
        prompt_ensemble(torch.rand(3, 4), "normalized")
    with pytest.raises(ValueError, match="unknown resize 'logit': logits or probabilities"):
        detect(tokens, [tokens], grid=(2, 2), size=(4, 4), temperature=1, resize="logit")
    for methods in (("nothing", "exampels"), "nothing"):
        with pytest.raises(DataError, match="methods: .* must be a list of nothing, text, examples"):
            KShot(methods=methods)
    with pytest.raises(PresetError, match="the contest has no table 'sumary': did you mean 'summary'"):
        open_study("pcb").kshot("sumary")


def test_a_single_map_is_no_batch_of_rows():
    with pytest.raises(ValueError, match=r"of maps \(N, H, W\), not \(4, 5\): maps\[None\] for a single one"):
        image_score(torch.rand(4, 5))


def test_one_phrase_is_not_taken_letter_by_letter():
    with pytest.raises(DataError, match=r"phrases must be a list, not one: \['thread'\]"):
        load_prompts(PromptConfig(file="aprilgan")).fill("thread")
    with pytest.raises(DataError, match=r"texts must be a list, not one"):
        read_texts("thread; hair")


@pytest.mark.parametrize("noun", [5, "", None])
def test_what_a_detector_is_fitted_with_is_looked_at(noun):
    with pytest.raises(DataError, match="noun must be a word"):
        fit_detector("aprilgan", noun=noun)
    with pytest.raises(PresetError, match="no detector 'None'"):
        fit_detector(None)
    with pytest.raises(DataError, match=r"not \['a\.png'\]; normal images are normals=\[\.\.\.\]"):
        fit_detector("patchcore", ["a.png"])


def test_without_a_model_it_is_the_embedded_one(tmp_path):
    fitted = UniAd.fit([IMAGE, IMAGE], config=UniAd.config_type(epochs=1, width=8, heads=1, feedforward=8, layers=(1, 1)))
    path = fitted.save(tmp_path / "uniad.safetensors")
    np.testing.assert_array_equal(UniAd.load(path)([IMAGE]), fitted([IMAGE]))


def test_things_that_hold_arrays_can_be_compared_and_looked_for():
    one, other = (Example(np.zeros((8, 8, 3), np.uint8)) for _ in range(2))
    clouds = [Cloud(np.zeros((3, 3))) for _ in range(2)]
    assert one == one and one != other and other in [one, other] and len({one, other, *clouds}) == 4 and clouds[0] != clouds[1]


def test_what_is_public_can_be_found():
    assert {*nandlib.__all__, "__version__"} == set(dir(nandlib))


@pytest.mark.filterwarnings("ignore:2 normal images promise")
def test_what_is_looked_at_fits_on_a_line():
    """In a notebook's output, and in messages about what was given instead."""
    adapted = nandlib.add_normality(fit_detector("aprilgan"), "hair")
    assert repr(adapted).startswith("AdaptedDetector(detector=AprilGan(), noun='object', normalities={'hair': ('hair',)}")
    assert repr(open_study("mini", ROOT)) == f"OpenStudy('mini', root='{ROOT}')" and repr(adapted.model) == "MiniModel()"
    images = [np.zeros((64, 64, 3), np.uint8)] * 20
    with pytest.raises(DataError, match=r"normal images are normals=") as refused:
        fit_detector("patchcore", images)
    assert len(str(refused.value)) < 1000 and "\n" not in str(refused.value)
    many = [Image.fromarray(np.random.default_rng(k).integers(0, 255, (32, 32, 3), dtype=np.uint8)) for k in range(4)]
    check = adapted.check(many[:2], rejected=many[2:])
    assert repr(check) == f"Check({check})" and check.reason in repr(check)


def test_a_study_of_another_kind_is_opened_elsewhere():
    with pytest.raises(PresetError, match=r"kinds/heartbeat\.yaml does: no study of images; .*open_kind opens it"):
        open_study("heartbeat", ROOT)
