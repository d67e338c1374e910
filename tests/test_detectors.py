"""The base detectors against plain loops or against what anomalib computes from the same features."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from anomalib.models.image.winclip import utils
from PIL import Image

from nandlib.data.images import as_image
from nandlib.data.maps import MapFolder, check_maps
from nandlib.detectors.aprilgan import AprilGan
from nandlib.detectors.config import PatchCoreConfig
from nandlib.detectors.fit import fit_detector
from nandlib.detectors.patchcore import PatchCore
from nandlib.detectors.winclip import WinClip, WindowEncoder
from nandlib.errors import DataError
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.method.prompts import load_prompts


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for _ in range(3)]


@pytest.fixture(scope="module")
def prompts():
    return load_prompts(PromptConfig())


def test_aprilgan_by_plain_steps(model, images, prompts):
    nand = NandConfig(map_size=50)
    got = AprilGan(model, prompts, "carpet", nand)(images)
    normal, abnormal = (
        F.normalize(F.normalize(model.encode_text(s), dim=-1).mean(0), dim=-1)
        for s in (prompts.normal("carpet"), prompts.abnormal("carpet"))
    )
    features = model.encode_image(torch.stack([model.preprocess(i) for i in images]))
    total = torch.zeros(3, 50, 50)
    for layer in range(4):
        logits = torch.stack([features.tokens[:, layer] @ normal, features.tokens[:, layer] @ abnormal], 1) * model.temperature
        planes = F.interpolate(logits.reshape(3, 2, 40, 40), size=50, mode="bilinear", align_corners=True)
        total += planes.softmax(1)[:, 1]
    assert got.shape == (3, 50, 50)
    assert np.allclose(got, total.numpy(), atol=1e-5)


def test_no_image_has_no_map(model):
    assert fit_detector("aprilgan", model)([]).shape == (0, 1, 1)


def test_windows_are_means_of_their_patches(model, images):
    encoder = WindowEncoder(model, 20)
    batch = torch.stack([model.preprocess(i) for i in images])
    whole, (two, three), patches = encoder(batch)
    assert (two.shape[1], three.shape[1], patches.shape[1]) == (19 * 19, 18 * 18, 400)
    square = patches[1].reshape(20, 20, -1)
    assert torch.allclose(two[1, 19 * 4 + 7], square[4:6, 7:9].mean((0, 1)), atol=1e-6)
    assert torch.allclose(three[1, 18 * 2 + 17], square[2:5, 17:20].mean((0, 1)), atol=1e-6)
    assert two.std(1).max() > 0
    assert torch.allclose(F.normalize(patches.mean(1), dim=-1), whole, atol=1e-5)
    assert encoder(batch)[2] is patches


def harmonic(scores: np.ndarray, side: int, scale: int) -> np.ndarray:
    """Each patch: harmonic mean of the scores of all windows that hold it."""
    inverse, count, k = np.zeros((side, side)), np.zeros((side, side)), 0
    for row in range(side - scale + 1):
        for column in range(side - scale + 1):
            inverse[row : row + scale, column : column + scale] += 1 / scores[k]
            count[row : row + scale, column : column + scale] += 1
            k += 1
    return count / inverse


def test_winclip_zero_shot_by_plain_loops(model, images):
    encoder = WindowEncoder(model, 20)
    got = WinClip(encoder, "carpet")(images[:1])[0]
    normal, abnormal = encoder.texts("carpet")
    whole, windows, _ = encoder(model.preprocess(images[0])[None])

    def score(x: torch.Tensor) -> np.ndarray:
        cos = torch.stack([F.cosine_similarity(x, text, dim=-1) for text in (normal, abnormal)])
        return (cos * model.temperature).softmax(0)[1].double().numpy()

    parts = [np.full((20, 20), score(whole[0]))] + [harmonic(score(w[0]), 20, s) for w, s in zip(windows, (2, 3), strict=True)]
    expected = 3 / sum(1 / p for p in parts)
    expected = F.interpolate(torch.from_numpy(expected)[None, None], size=320, mode="bilinear")[0, 0].numpy()
    assert np.allclose(got, expected, atol=1e-5)


def test_winclip_few_shot_marks_what_the_reference_lacks(model, images):
    encoder = WindowEncoder(model, 20)
    shot = WinClip(encoder, "carpet", images[:1])
    own, other = shot(images[:2])
    zero = WinClip(encoder, "carpet")(images[:2])
    assert np.allclose(own, zero[0] / 2, atol=1e-4)  # no distance to itself
    assert other.mean() > own.mean()


def test_winclip_finds_nothing_in_its_own_reference_however_cosines_are_rounded(model, images, monkeypatch):
    cosine, random = utils.cosine_similarity, torch.Generator().manual_seed(0)

    def rounded(*embeddings):  # as processors do: what is 1 comes out a few last digits above or below it
        found = cosine(*embeddings)
        return torch.where(found > 1 - 1e-5, 1 + 2**-23 * torch.randint(-12, 13, found.shape, generator=random), found)

    encoder = WindowEncoder(model, 20)
    zero = WinClip(encoder, "carpet")(images[:1])
    monkeypatch.setattr(utils, "cosine_similarity", rounded)
    assert np.allclose(WinClip(encoder, "carpet", images[:1])(images[:1]), zero / 2, atol=1e-4)


def test_patchcore_by_brute_force(model, images):
    config = PatchCoreConfig(coreset_ratio=1.0)
    detector = PatchCore(model, images[:2], config)
    got = detector(images)
    backbone = model.patch_backbone()
    descriptors = F.avg_pool2d(backbone(torch.stack([model.preprocess(i) for i in images])), 3, 1, 1).flatten(2).transpose(1, 2)
    bank = descriptors[:2].reshape(-1, descriptors.shape[-1])
    distance = torch.cdist(descriptors[2].double(), bank.double()).amin(1).reshape(1, 1, 20, 20).float()
    upsampled = F.interpolate(distance, size=320)
    axis = torch.arange(33) - 16
    kernel = torch.exp(-(axis**2) / 32.0)
    kernel = kernel / kernel.sum()
    padded = F.pad(upsampled, (16,) * 4, mode="reflect")
    blurred = F.conv2d(F.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])[0, 0]
    assert np.allclose(got[2], blurred.numpy(), atol=1e-2)
    assert got[0].max() < 0.1 * got[2].max()


def test_patchcore_is_deterministic(model, images):
    one, two = (PatchCore(model, images[:2], PatchCoreConfig(seed=3))(images[2:]) for _ in range(2))
    assert np.array_equal(one, two)


def test_patchcore_can_draw_its_bank_from_a_share_of_the_patches(model, images):
    config = PatchCoreConfig(coreset_ratio=1.0, max_patches=100)
    assert PatchCore(model, images[:2], config).memory.shape == (100, 768)
    assert PatchCore(model, images[:2], PatchCoreConfig(coreset_ratio=0.5, max_patches=None)).memory.shape == (400, 768)


def test_patchcore_over_shards(model, images):
    sharded = PatchCore(model, images, PatchCoreConfig(coreset_ratio=0.25, max_patches=None, shard_images=2))
    exact = PatchCore(model, images, PatchCoreConfig(coreset_ratio=0.25, max_patches=None))
    assert sharded.memory.shape == exact.memory.shape == (300, 768)
    patches, radii = exact.describe(images).flatten(2).transpose(1, 2), []  # of image, place
    for detector in (sharded, exact):
        own = patches[detector._origin]  # each descriptor must be one of the image that it is said to be of
        assert float((own - detector.memory[:, None]).norm(dim=2).min(1).values.max()) < 1e-3
        radii.append(float(torch.cdist(patches.flatten(0, 1), detector.memory).min(1).values.max()))
    assert radii[0] <= 2 * radii[1]


def test_patches_of_a_shard_are_limited(model, images):
    assert len(PatchCore(model, images, PatchCoreConfig(coreset_ratio=1.0, max_patches=100, shard_images=2)).memory) == 150


def test_map_folder_reads_npy_and_tiff(tmp_path):
    import tifffile

    (tmp_path / "maps/carpet").mkdir(parents=True)
    np.save(tmp_path / "maps/carpet/000.npy", np.ones((1, 4, 5), np.float64))
    tifffile.imwrite(tmp_path / "maps/carpet/001.tiff", np.full((3, 3), 2, np.float32))
    folder = MapFolder(tmp_path / "maps", image_root="images")
    one, two = folder(["images/carpet/000.png", "images/carpet/001.png"])
    assert one.shape == (4, 5)
    assert one.dtype == np.float32
    assert two[0, 0] == 2
    np.save(tmp_path / "maps/carpet/003.npy", np.ones((4, 5), np.float32))
    (three,) = folder(["images/carpet/003.png"])
    assert three.flags.writeable and not isinstance(three.base, np.memmap), "no file stays open"
    with pytest.raises(DataError, match=r"no anomaly map for images/carpet/002.png: expected .*carpet/002 with one of .npy"):
        folder(["images/carpet/002.png"])
    with pytest.raises(DataError, match=f"is not inside image_root {re.escape(str(Path('images').absolute()))},"):
        folder(["elsewhere/carpet/000.png"])
    with pytest.raises(DataError, match="would share the map .*give MapFolder the image_root"):
        MapFolder(tmp_path / "maps/carpet")(["images/carpet/000.png", "images/wood/000.png"])
    with pytest.raises(DataError, match="needs the paths of the images"):
        folder([np.zeros((2, 2, 3), np.uint8)])
    with pytest.raises(DataError, match="is not a folder of anomaly maps"):
        MapFolder(tmp_path / "none")


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.zeros((2, 4, 4)), "returned 2 maps for 1 images"),
        (np.zeros((1, 3, 4, 4)), r"must be \(H, W\), not \(3, 4, 4\)"),
        (np.zeros(1), r"must be \(H, W\), not \(\)"),
        (np.array([[[1.0, np.nan], [np.inf, 0]]]), "holds 2 NaN or infinite values"),
    ],
)
def test_bad_maps_are_named(maps, message):
    with pytest.raises(DataError, match=f"^Mine.*{message}"):
        check_maps(maps, 1, "Mine")


def test_images_of_every_kind(tmp_path):
    image = Image.new("L", (4, 3), 9)
    image.save(tmp_path / "a.png")
    for given in (image, tmp_path / "a.png", str(tmp_path / "a.png"), np.full((3, 4), 9, np.uint8), np.full((3, 4, 3), 9, np.uint8)):
        assert np.asarray(as_image(given)).tolist() == np.full((3, 4, 3), 9).tolist()
    with pytest.raises(DataError, match="must be uint8"):
        as_image(np.zeros((3, 4)))


def test_full_size_patchcore_needs_its_weights(tmp_path, images):
    import timm
    from safetensors.torch import save_file

    from nandlib.errors import ModelError

    path = tmp_path / "wide.safetensors"
    config = PatchCoreConfig(backbone_weights=path)
    with pytest.raises(ModelError, match="wide.safetensors is missing"):
        PatchCore(None, images, config)
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(ModelError, match="lacks .* weights of wide_resnet50_2"):
        PatchCore(None, images, config)
    torch.manual_seed(0)
    save_file({k: v.contiguous() for k, v in timm.create_model("wide_resnet50_2").state_dict().items()}, path)
    maps = PatchCore(None, images[:2], config)(images)
    assert maps.shape == (3, 256, 256)
    assert np.isfinite(maps).all()
