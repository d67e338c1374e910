"""On a GPU: the networks give what they give on a processor. Skipped where there is none (`python -m pytest -n0 tests/test_cuda.py`)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from nandlib.detectors.aprilgan import AprilGan
from nandlib.detectors.config import HetNetConfig, OneNipConfig, PatchCoreConfig, PbasConfig, PradotConfig, UniAdConfig
from nandlib.detectors.patchcore import PatchCore
from nandlib.detectors.trained import TRAINED
from nandlib.detectors.training import Run
from nandlib.detectors.winclip import ClipWindowEncoder
from nandlib.method.config import PromptConfig
from nandlib.method.descriptors import Descriptors
from nandlib.method.prompts import load_prompts
from nandlib.models import Placement, load_model
from nandlib.models.clip import ClipModel
from nandlib.models.precision import measured_precision
from nandlib.settings import RANDOM

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
CPU, GPU = Placement(), Placement("cuda")
SENTENCES = load_prompts(PromptConfig())
FULL = {
    "uniad": UniAdConfig(size="full", epochs=1, backbone_weights=RANDOM),
    "onenip": OneNipConfig(size="full", epochs=1, backbone_weights=RANDOM),
    "pbas": PbasConfig(size="full", epochs=1, backbone_weights=RANDOM),
    "pradot": PradotConfig(size="full", epochs=1, per_cell=1, backbone_weights=RANDOM),
    "hetnet_style": HetNetConfig(size="full", epochs=1, width=16, backbone_weights=RANDOM, second_weights=RANDOM),
}


def pictures(count, seed=0):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).resize((300, 260)) for _ in range(count)]


def apart(one, other):
    """The largest difference, as a share of the largest value."""
    one, other = (torch.as_tensor(values).double().cpu().numpy() for values in (one, other))
    return np.abs(one - other).max() / np.abs(one).max()


def test_clip_at_full_size():
    here, there = (ClipModel.load(RANDOM, RANDOM, placement) for placement in (CPU, GPU))
    batch = torch.stack([here.preprocess(image) for image in pictures(2)])
    found, expected = there.encode_image(batch), here.encode_image(batch)
    assert apart(expected.tokens, found.tokens) < 1e-4 and apart(expected.image, found.image) < 1e-4
    for one, other in zip(here.raw_tokens(batch), there.raw_tokens(batch), strict=True):
        assert apart(one, other) < 1e-4
    sentences = ["a photo of a damaged wood", "scratch"]
    assert apart(here.encode_text(sentences), there.encode_text(sentences)) < 1e-4
    half = ClipModel(there.clip, there.projections, there.tokenizer, Placement("cuda", "autocast"))
    assert 0 < apart(expected.tokens, half.encode_image(batch).tokens) < 0.05


def test_winclip_at_full_size():
    here, there = (ClipWindowEncoder(RANDOM, placement) for placement in (CPU, GPU))
    batch = torch.stack([here.preprocess(image) for image in pictures(2)])
    for one, other in zip(here.encode(batch), there.encode(batch), strict=True):
        pairs = zip(one, other, strict=True) if isinstance(one, list) else [(one, other)]
        assert all(apart(a, b) < 1e-4 for a, b in pairs)


def test_patchcore_at_full_size():
    """With its whole memory the maps are the processor's. A rounding can turn the greedy choice of a coreset: then it covers as well."""
    config = PatchCoreConfig(backbone_weights=RANDOM, max_patches=None, coreset_ratio=1.0)
    here, there = (PatchCore(None, pictures(2), config, placement) for placement in (CPU, GPU))
    new, known = pictures(2, 1), here.memory
    assert apart(here(new), there(new)) < 1e-3
    few = config.model_copy(update={"coreset_ratio": 0.1})
    memories = [PatchCore(None, pictures(2), few, placement).memory.cpu() for placement in (CPU, GPU)]
    farthest = [float(torch.cdist(known, memory).amin(1).max()) for memory in memories]
    assert farthest[1] == pytest.approx(farthest[0], rel=0.05) and len(memories[0]) == len(memories[1])


@pytest.mark.parametrize("name", FULL)
def test_trained_on_a_gpu_used_anywhere(name, tmp_path):
    """The state that a GPU has trained gives the same maps on both."""
    images, new = pictures(2), pictures(2, 1)
    kind, weights = TRAINED[name], dict.fromkeys(FULL[name].weight_fields, RANDOM)
    there = kind.fit(images, None, FULL[name], run=Run(device="cuda"))
    here = kind.load(there.save(tmp_path / "state.safetensors"), **weights)
    assert apart(here(new), there(new)) < 1e-3
    assert there.features.device == "cuda" and here.features.device == "cpu"


def test_embedded_model():
    here, there = (load_model("mini", placement=placement) for placement in (CPU, GPU))
    batch = torch.stack([here.preprocess(image) for image in pictures(2)])
    assert apart(here.encode_image(batch).tokens, there.encode_image(batch).tokens) < 1e-4
    normals, new = pictures(3), pictures(2, 1)
    pair = [(PatchCore(model, normals, PatchCoreConfig(coreset_ratio=1.0, max_patches=None)), model) for model in (here, there)]
    assert apart(*(detector(new) for detector, _ in pair)) < 1e-3
    for lends in (True, False):
        described = [Descriptors(detector if lends else AprilGan(model, SENTENCES, "part"), model, normals) for detector, model in pair]
        assert apart(*(own(new) for own in described)) < 1e-3 and apart(*(own.normal for own in described)) < 1e-3


def test_bfloat16_pays_on_a_gpu():
    assert measured_precision("cuda") == "autocast"
