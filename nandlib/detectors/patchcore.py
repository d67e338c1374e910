"""PatchCore, with anomalib's memory bank, coreset and map generator on the study's own backbone."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import redirect_stderr

import torch
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from PIL import Image
from torch import Tensor, nn

from nandlib.config import PatchCoreConfig
from nandlib.detectors.base import TorchDetector
from nandlib.models import VisionLanguageModel


class _Descriptors(nn.Module):
    """What anomalib's feature extractor is to PatchCore, for a backbone that torch.fx cannot trace."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {"descriptors": self.backbone(batch)}


def _network(backbone: nn.Module) -> PatchcoreModel:
    placeholder = nn.Sequential(OrderedDict(descriptors=nn.Conv2d(3, 1, 1)))  # replaced below
    network = PatchcoreModel(layers=["descriptors"], backbone=placeholder, pre_trained=False, num_neighbors=1)
    network.feature_extractor = _Descriptors(backbone)
    return network


def coreset(bank: Tensor, ratio: float, seed: int) -> Tensor:
    """Greedy k-centre subset ``(⌊ratio · n⌋, C)`` of patch descriptors ``(n, C)``.

    anomalib's sampler first projects to the Johnson-Lindenstrauss dimension, which for banks of this size is larger than
    C, and draws that projection from numpy's global state. A third dimension makes it work on the descriptors as they are:
    exact, faster, and seeded by torch alone.
    """
    with torch.random.fork_rng(devices=[]), redirect_stderr(io.StringIO()):  # its progress bar cannot be switched off
        torch.manual_seed(seed)
        return KCenterGreedy(embedding=bank[:, None], sampling_ratio=ratio).sample_coreset()[:, 0]


class PatchCore(TorchDetector):
    """PatchCore fitted on the normal images of one class.

    Args:
        model: Gives the backbone and its preprocessing.
        normals: Training-normal images.
        config: Coreset ratio and seed.
        batch_size: Images per forward pass.
    """

    def __init__(
        self, model: VisionLanguageModel, normals: Sequence[Image.Image], config: PatchCoreConfig = PatchCoreConfig(), batch_size: int = 8
    ) -> None:
        network = _network(model.patch_backbone())
        network.train()
        network.feature_extractor.eval()  # the frozen tower's batch norms must not learn
        inputs = [model.preprocess(image) for image in normals]
        for start in range(0, len(inputs), batch_size):
            network(torch.stack(inputs[start : start + batch_size]))
        network.memory_bank = coreset(torch.vstack(network.embedding_store), config.coreset_ratio, config.seed)
        network.eval()
        super().__init__(model.preprocess, lambda batch: network(batch).anomaly_map[:, 0])
