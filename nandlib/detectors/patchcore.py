"""PatchCore, with anomalib's memory bank, coreset and map generator on the study's own backbone."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import torch
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from nandlib.config import PatchCoreConfig
from nandlib.detectors.base import TorchDetector
from nandlib.errors import ModelError
from nandlib.models import VisionLanguageModel

MEAN, STD, SIZE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256  # of ImageNet; the input at full size, uncropped


class _Descriptors(nn.Module):
    """What anomalib's feature extractor is to PatchCore, for a backbone that torch.fx cannot trace."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {"descriptors": self.backbone(batch)}


def _embedded_network(backbone: nn.Module) -> PatchcoreModel:
    placeholder = nn.Sequential(OrderedDict(descriptors=nn.Conv2d(3, 1, 1)))  # replaced below
    network = PatchcoreModel(layers=["descriptors"], backbone=placeholder, pre_trained=False, num_neighbors=1)
    network.feature_extractor = _Descriptors(backbone)
    return network


def _full_network(weights: Path) -> PatchcoreModel:
    """The paper's backbone: wide_resnet50_2, layers 2 and 3, from a local state dict (timm's tv_in1k).

    Raises:
        ModelError: If the file is missing or lacks weights of the layers in use.
    """
    if not weights.is_file():
        raise ModelError(f"{weights} is missing: save timm's 'wide_resnet50_2.tv_in1k' there, as .safetensors or .pth")
    state = load_file(weights) if weights.suffix == ".safetensors" else torch.load(weights, map_location="cpu", weights_only=True)
    network = PatchcoreModel(layers=["layer2", "layer3"], backbone="wide_resnet50_2", pre_trained=False, num_neighbors=1)
    missing = network.feature_extractor.feature_extractor.load_state_dict(state, strict=False).missing_keys
    if missing:
        raise ModelError(f"{weights} lacks {len(missing)} weights of wide_resnet50_2, such as '{missing[0]}'")
    return network


def _imagenet(image: Image.Image) -> Tensor:
    """RGB of any size, squashed bilinearly to 256 x 256, ImageNet's mean and standard deviation."""
    squashed = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    array = (np.asarray(squashed, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def coreset(bank: Tensor, ratio: float, seed: int) -> Tensor:
    """Greedy k-centre subset ``(⌊ratio · n⌋, C)`` of patch descriptors ``(n, C)``.

    anomalib's sampler first projects to the Johnson-Lindenstrauss dimension, which for banks of this size is larger than
    C, and draws that projection from numpy's global state. A third dimension makes it work on the descriptors as they are:
    exact, faster, and seeded by torch alone.
    """
    with torch.random.fork_rng(devices=[]), redirect_stderr(io.StringIO()):  # its progress bar cannot be switched off
        torch.manual_seed(seed)
        return KCenterGreedy(embedding=bank[:, None], sampling_ratio=ratio).sample_coreset()[:, 0]


@torch.no_grad()
def _patch_bank(
    network: PatchcoreModel,
    preprocess: Callable[[Image.Image], Tensor],
    normals: Sequence[Image.Image],
    config: PatchCoreConfig,
    batch_size: int,
) -> Tensor:
    """Descriptors ``(n, C)`` of the normal images' patches: all, or an even random share of each image's."""
    network.train()
    network.feature_extractor.eval()  # the frozen tower's batch norms must not learn
    rng, kept = np.random.default_rng(config.seed), []
    for start in range(0, len(normals), batch_size):
        batch = torch.stack([preprocess(image) for image in normals[start : start + batch_size]])
        patches = network(batch).unflatten(0, (len(batch), -1))
        network.embedding_store.clear()
        most = patches.shape[1] if config.max_patches is None else max(1, config.max_patches // len(normals))
        for image in patches:
            kept.append(image[np.sort(rng.permutation(len(image))[:most])])
    return torch.cat(kept)


class PatchCore(TorchDetector):
    """PatchCore fitted on the normal images of one class.

    Args:
        model: Lends backbone and preprocessing, unless `config` names the weights of the paper's backbone.
        normals: Training-normal images.
        config: Coreset ratio, seed, backbone weights.
        batch_size: Images per forward pass.
    """

    def __init__(
        self, model: VisionLanguageModel, normals: Sequence[Image.Image], config: PatchCoreConfig = PatchCoreConfig(), batch_size: int = 8
    ) -> None:
        full = config.backbone_weights is not None
        network = _full_network(config.backbone_weights) if full else _embedded_network(model.patch_backbone())
        preprocess = _imagenet if full else model.preprocess
        bank = _patch_bank(network, preprocess, normals, config, batch_size)
        network.memory_bank = coreset(bank, config.coreset_ratio, config.seed)
        network.eval()
        super().__init__(preprocess, lambda batch: network(batch).anomaly_map[:, 0])
