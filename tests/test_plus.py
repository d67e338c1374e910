"""`nand_plus` by plain steps: regions, competition, calibration; the same through a study's files and through `add_normality`."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage.feature import peak_local_max

from nandlib import add_normality
from nandlib.errors import DataError
from nandlib.evaluation.steps import half_wrong, steps
from nandlib.method.config import NandConfig, PlusConfig, PromptConfig
from nandlib.method.detection import text_feature
from nandlib.method.plus import competition, find_regions, plus_suppression, sides, synonyms
from nandlib.method.prompts import load_prompts
from nandlib.method.suppression import Texts
from nandlib.stages.similarities import on_normals
from nandlib.study.class_maps import ClassMaps

IMAGES = [Image.fromarray(np.random.default_rng(k).integers(0, 255, (60, 80, 3), dtype=np.uint8)) for k in range(3)]
PLUS = NandConfig(method="nand_plus")


def bump(size, row, column, width):
    y, x = np.mgrid[:size, :size]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2))


def test_every_peak_has_its_region_and_its_halo():
    single = torch.from_numpy(bump(64, 16, 16, 5) + 0.5 * bump(64, 46, 40, 5)).float()[None]
    regions = find_regions(single, (8, 8))
    labels = regions.labels[0]
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    assert labels[16, 16] != labels[46, 40]
    assert labels[12, 12] == labels[16, 16]  # a pixel of the halo goes with the core
    assert labels[50, 44] == labels[46, 40]
    assert regions.weights[0].shape == (labels.max() + 1, 64)
    assert torch.allclose(regions.weights[0].sum(1), torch.ones(labels.max() + 1))
    assert regions.weights[0][labels[16, 16]].argmax() == 2 * 8 + 2  # the patch of the peak counts most
    painted = regions.paint([torch.arange(float(labels.max() + 1))])
    assert np.array_equal(painted[0].numpy(), labels)


def test_a_clipped_peak_is_one_region():
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(128, 128)), 6)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    clipped = np.minimum(smooth, 0.6)
    plateaus, count = ndimage.label(clipped == 0.6, np.ones((3, 3)))
    assert max(np.bincount(plateaus.ravel())[1:]) > 16 * 16  # far beyond what peaks are apart
    labels = find_regions(torch.from_numpy(clipped)[None], (8, 8)).labels[0]
    assert all(len(np.unique(labels[plateaus == k])) == 1 for k in range(1, count + 1))
    distance = round(128 / 32)
    peaks = peak_local_max(smooth, min_distance=distance, exclude_border=False)  # where nothing ties they are skimage's
    free = find_regions(torch.from_numpy(smooth)[None], (8, 8)).labels[0]
    assert free[tuple(peaks.T)].tolist() == list(range(len(peaks))) and free.max() + 1 == len(peaks)


def test_regions_do_not_depend_on_the_scale_of_the_map():
    single = torch.from_numpy(np.random.default_rng(0).random((2, 40, 40))).float()
    one, other = find_regions(single, (5, 5)), find_regions(1000 * single, (5, 5))
    assert np.array_equal(one.labels, other.labels)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one.weights, other.weights, strict=True))


def test_a_flat_map_is_one_region():
    for value in (0.0, 3.0):
        regions = find_regions(torch.full((1, 20, 20), value), (4, 4))
        assert regions.labels.max() == 0
        assert torch.allclose(regions.weights[0], torch.full((1, 16), 1 / 16))


def test_competition_is_a_softmax_with_prior_weights():
    logits = torch.randn(4, 7)
    weights = torch.tensor([1.0, 0.3, 0.3, 0.3])[:, None]
    expected = (weights * logits.exp() / (weights * logits.exp()).sum(0))[0]
    assert torch.allclose(competition(logits[0], logits[1:], 0.3), expected, atol=1e-6)
    assert torch.allclose(competition(logits[0], logits[1:2], 1.0), torch.sigmoid(logits[0] - logits[1]), atol=1e-6)


def test_suppression_by_plain_steps():
    generator = torch.Generator().manual_seed(1)
    cos = torch.randn(1, 5, 16, generator=generator) * 0.2
    maps = torch.from_numpy(bump(32, 8, 8, 4) + bump(32, 24, 24, 4)).float()[None]
    regions = find_regions(maps, (4, 4))
    common = {"grid": (4, 4), "size": (32, 32), "temperature": 10.0}
    found = plus_suppression(cos, [1, 3], [0, 2, 4], regions=regions, **common)[0]
    scale = 10 * PlusConfig().sharpness
    for label in np.unique(regions.labels[0]):
        inside = regions.labels[0] == label
        weight = (maps[0].numpy() / maps[0].numpy()[inside].max()) ** PlusConfig().focus * inside
        cells = weight.reshape(4, 8, 4, 8).sum((1, 3)).ravel()
        values = scale * (cos[0].numpy() @ (cells / cells.sum()))
        added, rivals = np.exp((values[1] + values[3]) / 2), np.exp(values[[0, 2, 4]]).sum()
        assert np.allclose(found.numpy()[inside], added / (added + PlusConfig().prior * rivals), atol=1e-4)
    patch = plus_suppression(cos, [1], [0], regions=None, plus=PlusConfig(sharpness=1, prior=1), **common)
    assert patch[0, 0, 0].item() == pytest.approx(torch.sigmoid(10 * (cos[0, 1, 0] - cos[0, 0, 0])).item(), abs=1e-6)
    with pytest.raises(DataError, match="needs a text to compete with"):
        plus_suppression(cos, [1], [], regions=None, **common)


def test_a_text_of_the_bank_that_says_the_same_changes_sides():
    bank = torch.eye(4)[:3]
    added = torch.tensor([0.9, 0.4359, 0, 0])
    assert synonyms(added, bank, PlusConfig(synonym=0.5)).tolist() == [True, False, False]
    cone = torch.nn.functional.normalize(bank + 20 * torch.eye(4)[3], dim=1)  # all texts in one direction, as CLIP's are
    near = torch.nn.functional.normalize(added + 20 * torch.eye(4)[3], dim=0)
    assert synonyms(near, cone, PlusConfig(synonym=0.5)).tolist() == [True, False, False]


def detector(images):
    return np.stack([bump(60, 20 + 5 * k, 30, 6) + 0.4 * bump(60, 45, 10, 4) for k in range(len(images))]).astype(np.float32)


def class_maps(model, phrases, nand):
    """What the stages would have stored of `IMAGES`, for a class with the groups a and b."""
    prompts = load_prompts(PromptConfig(file="aprilgan"))
    sentences = [prompts.normal("carpet"), prompts.abnormal("carpet"), *(prompts.fill([p]) for p in phrases), *prompts.bank().values()]
    texts = torch.stack([text_feature(model, s, prompts) for s in sentences])
    tokens = torch.cat([model.encode_image(model.preprocess(image)[None]).tokens for image in IMAGES])
    every = torch.einsum("nlpd,kd->nklp", tokens, texts)
    normals = torch.stack([model.preprocess(image) for image in IMAGES[1:]])
    normal_tokens = model.encode_image(normals).tokens
    mean = torch.einsum("nlpd,kd->nklp", normal_tokens, texts).mean((0, 2, 3))
    cos = {"test": every[:, :4], "test_bank": every[:, 4:].mean(2), "features": texts, "normal_mean": mean}
    maps = torch.from_numpy(detector(IMAGES))
    return ClassMaps(
        "carpet",
        nand,
        cos,
        ["normal", "abnormal", "+a", "+b"],
        (40, 40),
        model.temperature,
        lambda _: {"other/test": maps},
        list(prompts.bank()),
    )


@pytest.mark.parametrize("plus", [{}, {"regions": False}, {"calibrate": False}, {"competitors": "types"}, {"competitors": "normal"}])
def test_a_study_and_add_normality_agree(model, plus):
    nand = NandConfig(method="nand_plus", map_size=60, plus=PlusConfig(**plus))
    maps = class_maps(model, ["thread", "hole"], nand)
    expected = maps.batch().final("+a", "other").numpy()
    others = ["hole"] if nand.plus.competitors == "types" else []
    adapted = add_normality(detector, "thread", model=model, noun="carpet", nand=nand, normals=IMAGES[1:], others=others)
    assert np.allclose(np.stack(adapted(IMAGES)), expected, atol=2e-5)
    assert np.abs(expected - detector(IMAGES)).max() > 1e-3


def test_the_papers_rule_is_itself_in_a_study_of_nand_plus(model):
    maps, paper = class_maps(model, ["thread", "hole"], PLUS), PLUS.model_copy(update={"method": "nand"})
    batch = maps.batch()
    assert torch.equal(batch.suppression("+a", "other", paper), maps.paper_suppression("+a"))
    other = paper.model_copy(update={"align_corners": not paper.align_corners})
    assert not torch.equal(batch.suppression("+a", "other", other), batch.suppression("+a", "other", paper))


def test_calibration_takes_out_what_is_the_same_everywhere(model):
    maps = class_maps(model, ["thread", "hole"], PLUS)
    before = maps.batch().suppression("+a", "other")
    shifted = dict(maps.cos)
    shifted["test"] = shifted["test"] + 0.1 * torch.tensor([0, 0, 1.0, 0])[None, :, None, None]
    shifted["normal_mean"] = maps.cos["normal_mean"].clone()
    shifted["normal_mean"][2] += 0.1
    maps.cos = shifted
    assert torch.allclose(maps.batch().suppression("+a", "other"), before, atol=1e-5)
    plain = NandConfig(method="nand_plus", plus=PlusConfig(calibrate=False))
    assert not torch.allclose(maps.batch().suppression("+a", "other", plain), before, atol=1e-3)


def test_normal_statistics_by_plain_steps(model, tmp_path):
    for k, image in enumerate(IMAGES):
        image.save(tmp_path / f"{k}.png")
    texts = torch.nn.functional.normalize(torch.randn(5, 384, generator=torch.Generator().manual_seed(0)), dim=1)
    mean, states = on_normals([tmp_path / f"{k}.png" for k in range(3)], model, texts)
    cos = torch.cat([torch.einsum("nlpd,kd->nklp", model.encode_image(model.preprocess(i)[None]).tokens, texts) for i in IMAGES])
    assert torch.allclose(mean, cos.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(states, cos[:, :2], atol=1e-5)


def test_several_normalities_in_any_order_and_back(model):
    one = add_normality(detector, "thread", model=model, method="nand_plus", normals=IMAGES[:1])
    both, other = one.add("color stain"), add_normality(detector, "color stain", model=model, nand=PLUS, normals=IMAGES[:1]).add("thread")
    assert np.allclose(np.stack(both(IMAGES)), np.stack(other(IMAGES)), atol=1e-6)
    assert np.array_equal(np.stack(both.remove("color stain")(IMAGES)), np.stack(one(IMAGES)))
    assert (np.stack(both(IMAGES)) <= np.stack(one(IMAGES))).all()


def test_what_it_lacks_is_said(model):
    with pytest.raises(DataError, match=r"calibrated on normal images: give some as normals=\[\.\.\.\]"):
        add_normality(detector, "thread", model=model, method="nand_plus")
    known = NandConfig(method="nand_plus", plus=PlusConfig(competitors="types", calibrate=False))
    with pytest.raises(DataError, match="needs the defects that stay abnormal"):
        add_normality(detector, "thread", model=model, nand=known)
    for others, message in (([[]], "needs at least one phrase"), ([3], "is said in words"), ([""], "that is not empty")):
        with pytest.raises(DataError, match=message):
            add_normality(detector, "thread", model=model, nand=known, others=others)


def test_what_is_declared_normal_is_no_rival_of_itself(model):
    known = NandConfig(method="nand_plus", plus=PlusConfig(competitors="types", calibrate=False))
    both = add_normality(detector, "scratch", model=model, nand=known, others=["hole", "dent"]).add(" Hole")
    other = add_normality(detector, "scratch", model=model, nand=known, others=["dent"]).add(" Hole")
    assert np.array_equal(np.stack(both(IMAGES)), np.stack(other(IMAGES)))
    with_hole = add_normality(detector, "scratch", model=model, nand=known, others=["hole", "dent"])
    assert np.array_equal(np.stack(both.remove(" Hole")(IMAGES)), np.stack(with_hole(IMAGES)))  # a rival again
    with pytest.raises(DataError, match="all of others=.* are normal now: name another defect that stays abnormal"):
        both.add("Dent")
    assert both.names == ["scratch", "Hole"] and len(both(IMAGES)) == len(IMAGES)


def test_the_ablation_starts_at_the_papers_rule_and_changes_one_thing_at_a_time():
    way = [step.nand for step in steps(NandConfig()) if step.kind in ("nand", "path", "plus")]
    assert way[0] == NandConfig()
    assert way[-1] == NandConfig(method="nand_plus")
    changed = [
        {key for key in PlusConfig.model_fields if getattr(one.plus, key) != getattr(other.plus, key)} for one, other in pairwise(way[1:])
    ]
    assert changed == [{"regions"}, {"competitors"}, {"sharpness", "prior"}, {"calibrate"}]
    assert len({step.name for step in steps(NandConfig())}) == len(steps(NandConfig()))


def test_half_of_the_names_wrong():
    features = torch.eye(8)
    features[6] = torch.nn.functional.normalize(features[2] + features[7], dim=0)  # a generic text that means a type of the class
    texts = Texts(features, normal=0, abnormal=1, types=[2, 3, 4], generic=[5, 6, 7])
    assert half_wrong(texts, 3) == [3, 4, 5]  # 2 is exchanged for a text that no type is near to
    assert half_wrong(texts, 2) == [2, 4, 5]
    assert half_wrong(replace(texts, types=[2, 3]), 2) == [2, 5]


def test_named_types_have_a_prior_of_their_own():
    cos, plus = torch.tensor([[[0.1], [0.2], [0.3]]]), PlusConfig(competitors="types", sharpness=1.0, prior=50.0, known_prior=2.0)
    found = plus_suppression(cos, [0], [1, 2], regions=None, grid=(1, 1), size=(1, 1), temperature=10.0, plus=plus)
    rivals = np.exp(2.0) + np.exp(3.0)
    assert found.item() == pytest.approx(np.e / (np.e + 2 * rivals), abs=1e-6)


def test_a_peak_at_the_border_and_close_peaks():
    """A peak is found where it touches the border; two peaks are one region where they are nearer than `peak_distance`."""
    corner = torch.from_numpy(bump(64, 0, 0, 4) + bump(64, 40, 40, 4)).float()[None]
    labels = find_regions(corner, (8, 8)).labels[0]
    assert labels[0, 0] != labels[40, 40]
    near = torch.from_numpy(bump(64, 30, 26, 2) + 0.9 * bump(64, 30, 34, 2)).float()[None]
    for distance, together in ((1 / 64, False), (1 / 4, True)):
        labels = find_regions(near, (8, 8), PlusConfig(peak_distance=distance)).labels[0]
        assert (labels[30, 26] == labels[30, 34]) == together
    ripple = torch.zeros(1, 8, 8)
    ripple[0, 2, 2], ripple[0, 2, 4] = 1.0, 0.9  # two pixels apart: the least distance is one
    assert find_regions(ripple, (8, 8), PlusConfig(peak_distance=1e-6)).labels.max() == 1


def test_a_region_is_weighted_by_its_height_to_the_power_of_focus():
    """Numbers of a map of 2 x 2 tokens: whatever the map's scale, and a map of zeros counts everywhere alike."""
    single = torch.full((1, 8, 8), 0.5)
    single[0, 1, 1] = 1.0
    for scale in (1.0, 1e-3, 50.0):
        weights = find_regions(scale * single, (2, 2), PlusConfig(focus=2)).weights[0]
        counts = torch.tensor([15 * 0.25 + 1, 4.0, 4.0, 4.0])
        assert torch.allclose(weights[0], counts / counts.sum(), atol=1e-6)
    assert torch.allclose(find_regions(torch.zeros(1, 8, 8), (2, 2)).weights[0], torch.full((1, 4), 0.25))


def test_synonyms_join_the_added_text_and_are_no_rivals():
    bank = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1, 0], [0.9, -0.1, 0], [-1, 0, 0.3], [-1, 0.2, -0.2]]), dim=-1)
    added = torch.nn.functional.normalize(torch.tensor([1.0, 0.0, 0.05]), dim=0)
    centre = bank.mean(0)
    cosines = torch.nn.functional.cosine_similarity(bank - centre, (added - centre)[None])
    for limit in (-0.9, 0.0, 0.3, 0.9, 0.99):
        assert synonyms(added, bank, PlusConfig(synonym=limit)).tolist() == (cosines >= limit).tolist()
    assert (cosines >= 0.3).tolist() == [True, True, False, False] and 0.9 < float(cosines[:2].min()) < 0.999
    features = torch.cat([added[None], torch.zeros(2, 3), bank])
    own, rivals = sides(PlusConfig(synonym=0.3), 0, features, normal=1, abnormal=2, types=[], bank=range(3, 7))
    assert (own, rivals) == ([0, 3, 4], [2, 5, 6])


def test_maps_and_grids_need_not_be_square():
    """A map of 4 x 12 pixels on 2 x 3 tokens, each of 2 x 4 pixels; one pixel sticks out of the last token."""
    single = torch.full((1, 4, 12), 0.5)
    single[0, 3, 11] = 1.0
    weights = find_regions(single, (2, 3), PlusConfig(focus=1)).weights[0]
    counts = torch.tensor([4.0, 4, 4, 4, 4, 4.5])
    assert torch.allclose(weights[0], counts / counts.sum(), atol=1e-6)
