"""The operators against cases worked out by hand, and properties that must hold for any input."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from nandlib.errors import PresetError
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.method.detection import image_probability, suppression_map, text_feature, text_features
from nandlib.method.operators import aggregate_layers, detect, image_score, prompt_ensemble, resize_map, similarities, suppress
from nandlib.method.prompts import load_prompts

unit_floats = st.floats(0, 1, width=32)
maps = hnp.arrays(np.float32, (2, 5, 6), elements=st.floats(0, 100, width=32))
unit_maps = hnp.arrays(np.float32, (2, 5, 6), elements=unit_floats)
cosines = hnp.arrays(np.float32, (2, 3, 12), elements=st.floats(-1, 1, width=32))


def test_prompt_ensemble_is_normalised_mean_of_normalised():
    features = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
    assert torch.allclose(prompt_ensemble(features), torch.tensor([0.5, 0.5]).sqrt())
    raw = prompt_ensemble(features, "raw_mean")
    assert torch.allclose(raw, torch.tensor([2.0, 0.5]) / 4.25**0.5)


def test_prompt_ensemble_needs_prompts():
    with pytest.raises(ValueError, match="n > 0"):
        prompt_ensemble(torch.zeros(0, 4))


def test_similarities_by_loops():
    generator = torch.Generator().manual_seed(0)
    tokens, texts = torch.randn(2, 3, 4, 5, generator=generator), torch.randn(6, 5, generator=generator)
    got = similarities(tokens, texts)
    for n in range(2):
        for k in range(6):
            for layer in range(3):
                for p in range(4):
                    expected = sum(float(tokens[n, layer, p, d]) * float(texts[k, d]) for d in range(5))
                    assert got[n, k, layer, p] == pytest.approx(expected, abs=1e-5)


def test_detect_without_resizing_is_the_softmax():
    own, other = torch.tensor([[[0.3, 0.1, 0.0, -0.2]]]), torch.tensor([[[0.1, 0.1, 0.2, 0.2]]])
    got = detect(own, [other], grid=(2, 2), size=(2, 2), temperature=10)
    expected = [np.exp(10 * a) / (np.exp(10 * a) + np.exp(10 * b)) for a, b in zip(own.flatten(), other.flatten(), strict=True)]
    assert np.allclose(got.flatten(), expected, atol=1e-6)


def test_detect_interpolates_logits_before_the_softmax_with_corners_aligned():
    own, other = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 0.0]]])
    got = detect(own, [other], grid=(1, 2), size=(1, 3), temperature=8)
    middle_of_logits = 1 / (1 + np.exp(-4))
    middle_of_probabilities = (1 / (1 + np.exp(-8)) + 0.5) / 2
    assert got[0, 0, 0, 1] == pytest.approx(middle_of_logits, abs=1e-6)
    late = detect(own, [other], grid=(1, 2), size=(1, 3), temperature=8, resize="probabilities")
    assert late[0, 0, 0, 1] == pytest.approx(middle_of_probabilities, abs=1e-6)
    assert abs(middle_of_logits - middle_of_probabilities) > 0.1
    loose = detect(own, [other], grid=(1, 2), size=(1, 4), temperature=8, align_corners=False)
    tight = detect(own, [other], grid=(1, 2), size=(1, 4), temperature=8)
    assert (loose - tight).abs().max() > 0.05


@given(cosines, cosines, st.floats(0.1, 200))
@settings(max_examples=30, deadline=None)
def test_two_texts_share_the_probability(a, b, temperature):
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    options = {"grid": (3, 4), "size": (7, 9), "temperature": temperature}
    assert torch.allclose(detect(a, [b], **options) + detect(b, [a], **options), torch.ones(2, 3, 7, 9), atol=1e-5)


@given(cosines, cosines, cosines)
@settings(max_examples=30, deadline=None)
def test_another_text_in_the_softmax_never_adds_probability(a, b, c):
    a, b, c = (torch.from_numpy(x) for x in (a, b, c))
    options = {"grid": (3, 4), "size": (3, 4), "temperature": 14.0}
    assert (detect(a, [b, c], **options) <= detect(a, [b], **options) + 1e-6).all()


def test_aggregations_by_hand():
    layers = torch.tensor([0.2, 0.9]).reshape(1, 2, 1, 1)
    expected = {"mean": 0.55, "sum": 1.1, "clipped_sum": 1.0, "max": 0.9}
    for how, value in expected.items():
        assert aggregate_layers(layers, how).item() == pytest.approx(value)
    with pytest.raises(ValueError, match="median"):
        aggregate_layers(layers, "median")


@given(maps)
@settings(max_examples=30, deadline=None)
def test_no_suppression_changes_nothing(a):
    a = torch.from_numpy(a)
    assert torch.equal(suppress(a, torch.zeros_like(a)), a)
    assert torch.equal(suppress(a, torch.ones_like(a)), torch.zeros_like(a))


@given(maps, unit_maps, st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_scaling_the_anomaly_map_scales_the_scores(a, s, factor):
    a, s = torch.from_numpy(a).double(), torch.from_numpy(s).double()
    assert torch.allclose(image_score(suppress(factor * a, s)), factor * image_score(suppress(a, s)))


@given(maps, unit_maps, unit_maps)
@settings(max_examples=30, deadline=None)
def test_suppression_never_raises_a_score_and_order_does_not_matter(a, s, t):
    a, s, t = (torch.from_numpy(x).double() for x in (a, s, t))
    assert (image_score(suppress(a, s)) <= image_score(a)).all()
    assert torch.allclose(suppress(suppress(a, s), t), suppress(suppress(a, t), s))


def test_suppress_refuses_other_sizes():
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(5, 5\)"):
        suppress(torch.zeros(1, 4, 4), torch.zeros(1, 5, 5))


def test_image_scores():
    single = torch.arange(100.0).reshape(1, 10, 10)
    assert image_score(single).item() == 99
    assert image_score(single, "topk_mean", 0.04).item() == pytest.approx(97.5)
    with pytest.raises(ValueError, match="median"):
        image_score(single, "median")


def test_resize_map_keeps_constants_and_sizes():
    single = torch.full((1, 4, 6), 0.3)
    assert torch.allclose(resize_map(single, (9, 5)), torch.full((1, 9, 5), 0.3))
    assert resize_map(single, (4, 6)) is single


def test_prompts_count_alike_whatever_their_length():
    features = torch.tensor([[3.0, 4.0], [0.0, 10.0], [1.0, 0.0]])
    mean = torch.tensor([0.6 + 0 + 1, 0.8 + 1 + 0])
    assert torch.allclose(prompt_ensemble(features, "normalised"), mean / mean.norm())


def test_resizing_keeps_half_pixels_at_the_border():
    """As OpenCV and PIL do: the first of two new pixels lies a quarter of an old one inside the border."""
    assert torch.allclose(resize_map(torch.tensor([[[0.0, 4.0]]]), (1, 4)), torch.tensor([[[0.0, 1.0, 3.0, 4.0]]]))


def test_topk_mean_takes_a_thousandth_and_at_least_one_pixel():
    assert image_score(torch.arange(4.0).view(1, 2, 2), "topk_mean").tolist() == [3]
    assert image_score(torch.arange(2000.0).view(1, 40, 50), "topk_mean").tolist() == [1998.5]


def test_several_texts_are_encoded_as_one_by_one(model):
    prompts, sets = load_prompts(PromptConfig(file="aprilgan")), [["a thread", "a hair"], ["a hole"]]
    together = text_features(model, sets, prompts)
    assert torch.allclose(together, torch.stack([text_feature(model, sentences, prompts) for sentences in sets]), atol=1e-5)


def test_image_probability_is_a_softmax_of_two():
    added, normal = torch.tensor([0.3, 0.1]), torch.tensor([0.1, 0.2])
    expected = (5 * torch.stack([added, normal])).softmax(0)[0]
    assert torch.allclose(image_probability(added, normal, 5.0), expected)


def test_a_layer_that_the_model_lacks_is_named():
    cos, nand = torch.zeros(1, 4, 4), NandConfig(layers=(3,), map_size=8)
    three = {"grid": (2, 2), "temperature": 1.0}
    assert suppression_map(cos, cos, cos, nand=nand, **three).shape == (1, 8, 8)
    with pytest.raises(PresetError, match="layers 0 to 3, not 4"):
        suppression_map(cos, cos, cos, nand=nand.model_copy(update={"layers": (0, 4)}), **three)
