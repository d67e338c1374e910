"""PatchCore and few-shot APRIL-GAN at full size or against what upstream libraries compute."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from anomalib.models.components import KCenterGreedy
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import cosine_similarity

from nandlib.detectors.aprilgan import AprilGan
from nandlib.detectors.config import PatchCoreConfig
from nandlib.detectors.coreset import coreset
from nandlib.detectors.patchcore import MEAN, STD, PatchCore, _full_network
from nandlib.errors import DataError
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.method.prompts import load_prompts
from nandlib.models import Placement
from nandlib.settings import RANDOM


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)) for _ in range(3)]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """torchvision's Wide ResNet-50-2 with random weights, and their file."""
    torch.manual_seed(3)
    network = torchvision.models.wide_resnet50_2(weights=None)
    path = tmp_path_factory.mktemp("weights") / "wide_resnet50_2-00000000.pth"
    torch.save(network.state_dict(), path)
    return network.eval(), path


def plain_embedding(resnet, batch):
    """Layers 2 and 3 averaged over 3 x 3 patches, the coarser one resized, concatenated."""
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(batch))))
    two = resnet.layer2(resnet.layer1(x))
    pooled = [F.avg_pool2d(layer, 3, 1, 1) for layer in (two, resnet.layer3(two))]
    return torch.cat((pooled[0], F.interpolate(pooled[1], size=pooled[0].shape[-2:], mode="bilinear")), 1)


def plain_input(image):
    array = np.asarray(image.resize((256, 256), Image.Resampling.BILINEAR), np.float32) / 255
    return torch.from_numpy(((array - np.array(MEAN)) / np.array(STD)).astype(np.float32)).permute(2, 0, 1)


def test_embedding_of_torchvisions_network(resnet):
    network, path = resnet
    batch = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    ours = _full_network(path, Placement()).train()
    ours.feature_extractor.eval()
    with torch.no_grad():
        expected = plain_embedding(network, batch).permute(0, 2, 3, 1).reshape(-1, 1536)
        assert (ours(batch) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_map_by_plain_steps(resnet, images, interpolation):
    network, path = resnet
    config = PatchCoreConfig(coreset_ratio=1.0, max_patches=None, backbone_weights=path, interpolation=interpolation)
    got = PatchCore(None, images[:1], config)(images[1:2])[0]
    with torch.no_grad():
        known, new = (plain_embedding(network, plain_input(i)[None]).flatten(2)[0].T.numpy() for i in images[:2])
    distance = pairwise_distances(new.astype(np.float64), known.astype(np.float64)).min(1).reshape(1, 1, 32, 32)
    mode = {"mode": "nearest"} if interpolation == "nearest" else {"mode": "bilinear", "align_corners": False}
    plane = F.interpolate(torch.from_numpy(distance), size=256, **mode)[0, 0].numpy()
    expected = gaussian_filter(plane, 4, mode="mirror", truncate=4.0)
    assert np.abs(got - expected).max() < 2e-3 * expected.max()


@pytest.mark.parametrize("kind", ["plain", "alike", "on a plane", "far away", "on a grid", "huge", "not a number"])
def test_the_coreset_is_anomalibs(kind):
    """Also where distances are near each other, and where products of descriptors have lost them."""
    random = torch.Generator().manual_seed(2)
    bank = torch.randn(2500, 24, generator=random)
    if kind == "alike":
        bank = bank[torch.randint(800, (2500,), generator=random)]
    elif kind == "on a plane":
        bank = bank[:, :2] @ torch.randn(2, 24, generator=random)
    elif kind == "far away":
        bank = 1e-3 * bank + 30
    elif kind == "on a grid":
        bank = bank.round()
    elif kind == "huge":
        bank = 1e19 * bank
    elif kind == "not a number":
        bank[7] = torch.nan
    torch.manual_seed(7)
    expected = KCenterGreedy(embedding=bank[:, None], sampling_ratio=0.1).sample_coreset()[:, 0]
    assert torch.equal(bank[coreset(bank, 0.1, seed=7)].nan_to_num(), expected.nan_to_num())


def test_the_coreset_is_the_same_whatever_products_are_rounded_to():
    bank = torch.randn(800, 64, generator=torch.Generator().manual_seed(2)) + 2
    expected = coreset(bank, 0.2, seed=7)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(coreset(bank, 0.2, seed=7), expected)
    finally:
        torch.set_float32_matmul_precision(before)
    newer = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"  # after which torch does not answer in the older way
        assert torch.equal(coreset(bank, 0.2, seed=7), expected)
    finally:
        torch.backends.cuda.matmul.fp32_precision = newer
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(coreset(bank, 0.2, seed=7), expected)
        assert len(coreset(bank, 0.2, seed=7, projected=True)) == 160


def test_a_normal_image_is_scored_without_its_own_descriptors(model, images):
    config = PatchCoreConfig(coreset_ratio=1.0, max_patches=None)
    full = PatchCore(model, images, config)
    rest = PatchCore(model, images[1:], config)
    seen = full(images[:1])[0]
    found = full.normal_maps([0])[0].numpy()
    assert np.allclose(found, rest(images[:1])[0], rtol=1e-4)
    assert found.max() > 1.5 * seen.max()
    assert np.array_equal(full(images[:1])[0], seen)  # the memory is whole again
    with pytest.raises(DataError, match="holds nothing but normal image 0"):
        PatchCore(model, images[:1], config).normal_maps([0])


def test_random_weights_are_always_the_same(images):
    config = PatchCoreConfig(backbone_weights=RANDOM, coreset_ratio=0.01)
    torch.manual_seed(1)
    first = PatchCore(None, images[:1], config)(images)
    torch.manual_seed(2)
    assert np.array_equal(first, PatchCore(None, images[:1], config)(images))


def test_few_shot_aprilgan_adds_the_distance_to_the_nearest_reference_patch(model, images):
    nand, prompts = NandConfig(map_size=64), load_prompts(PromptConfig())
    zero = AprilGan(model, prompts, "carpet", nand)(images[:1])[0]
    few = AprilGan(model, prompts, "carpet", nand, references=images[1:])(images[:1])[0]
    inputs = torch.stack([model.preprocess(image) for image in images])
    added = np.zeros((64, 64))
    for layer in model.raw_tokens(inputs):
        memory = layer[1:].reshape(-1, layer.shape[-1]).double().numpy()
        distance = (1 - cosine_similarity(memory, layer[0].double().numpy())).min(0).reshape(1, 1, 40, 40)
        added += F.interpolate(torch.from_numpy(distance), size=64, mode="bilinear", align_corners=True)[0, 0].numpy()
    assert np.abs(few - zero - added).max() < 1e-4
    assert AprilGan(model, prompts, "carpet", nand, references=images[:1])(images[:1])[0] == pytest.approx(zero, abs=1e-4)
