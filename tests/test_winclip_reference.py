"""WinCLIP at full size against anomalib with the open_clip 2.24 that it was written for (see fixtures/README.md)."""

from functools import cache

import pytest
import torch
from anomalib.models.image.winclip.torch_model import WinClipModel
from regenerated import normal, reference, regenerate

from nandlib.detectors.winclip import ClipWindowEncoder, EncodedWinClip
from nandlib.settings import RANDOM

REFERENCE = reference("winclip_reference")


@pytest.fixture(scope="module")
def encoder() -> ClipWindowEncoder:
    encoder = ClipWindowEncoder(RANDOM)
    regenerate(encoder.network.clip)
    encoder.texts = cache(encoder.texts)  # four times the same ones
    return encoder


@pytest.fixture(scope="module")
def networks(encoder) -> dict[str, EncodedWinClip]:
    """The five references pass once: one shot has the first of them."""
    references = torch.from_numpy(normal(22, (5, 3, 240, 240)))
    image, windows, patches = encoder(references)
    shots = {"zero_shot": None, "shot1": references[:1], "shot5": references}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "encode", lambda own: (image[: len(own)], [scale[: len(own)] for scale in windows], patches[: len(own)]))
        return {name: EncodedWinClip(encoder, "metal_nut", images) for name, images in shots.items()}


@pytest.fixture(scope="module")
def batch() -> torch.Tensor:
    return torch.from_numpy(normal(21, (2, 3, 240, 240)))


@pytest.fixture(scope="module")
def image_and_feature_map(encoder, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Image embedding, and what anomalib takes windows of, for the first test image."""
    captured = []
    hook = encoder.network.clip.visual.patch_dropout.register_forward_hook(lambda _m, i, _o: captured.append(i[0]))
    with torch.no_grad():
        image, _ = encoder.network.clip.encode_image(batch[:1])
    hook.remove()
    return image, captured[0]


def check_windows(windows: torch.Tensor, scale: int) -> None:
    assert (windows[:, ::13] - REFERENCE[f"window_scale{scale}"][: len(windows)]).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["zero_shot", "shot1", "shot5"])
def test_scores_and_maps(networks, batch, name):
    result = networks[name](batch)
    assert (result.pred_score - REFERENCE[f"{name}_score"]).abs().max() < 1e-5
    assert (result.anomaly_map[:, ::5, ::5] - REFERENCE[f"{name}_map"]).abs().max() < 1e-5


def test_embeddings(encoder, networks, batch):
    image, windows, patches = encoder(batch)
    assert (image - REFERENCE["image_embedding"]).abs().max() < 1e-5
    assert (patches[:, ::29] - REFERENCE["patch"]).abs().max() < 1e-5
    check_windows(windows[0], 2)
    check_windows(windows[1], 3)
    assert windows[0].std(1).mean() > 0.5
    assert (encoder.texts("metal_nut") - REFERENCE["text"]).abs().max() < 1e-5


def test_the_window_of_all_patches_is_the_image(encoder, image_and_feature_map):
    image, feature_map = image_and_feature_map
    with torch.no_grad():
        whole = encoder.network._get_window_embeddings(feature_map, torch.arange(225)[:, None])
    assert (whole[:, 0] - image).abs().max() < 1e-5


def test_guard_without_the_repair_windows_collapse(encoder, image_and_feature_map):
    network, feature_map = encoder.network, image_and_feature_map[1]
    with torch.no_grad():
        broken = WinClipModel._get_window_embeddings(network, feature_map, network.masks[0])
    assert broken.std(1).max() < 1e-3
    with pytest.raises(AssertionError):
        check_windows(broken, 2)
