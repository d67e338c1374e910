"""PatchCore, with anomalib's memory bank, coreset and map generator on the study's own backbone."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from anomalib.models.image.patchcore.anomaly_map import AnomalyMapGenerator
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from PIL import Image
from torch import Tensor, nn

from nandlib.data.batch import inputs
from nandlib.data.images import ImageLike, as_image, kept
from nandlib.detectors.base import TorchDetector
from nandlib.detectors.config import PatchCoreConfig
from nandlib.detectors.coreset import coreset, coreset_of_shards
from nandlib.errors import DataError, ModelError
from nandlib.models import Placement, VisionLanguageModel
from nandlib.models.base import own_randomness, whole_float32
from nandlib.models.checkpoints import read_state, refuse_infinite
from nandlib.settings import RANDOM

MEAN, STD, SIZE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256  # of ImageNet; the input at full size, uncropped


class _Descriptors(nn.Module):
    """What anomalib's feature extractor is to PatchCore, for a backbone that torch.fx cannot trace."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {"descriptors": self.backbone(batch)}


class _Placed(nn.Module):
    """A feature extractor that runs as a `Placement` says. What is made of its features, distances above all, is in float32: in bfloat16
    the squares of which a distance is the difference have lost it."""

    def __init__(self, extractor: nn.Module, placement: Placement) -> None:
        super().__init__()
        self.extractor, self.placement = extractor, placement

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        with self.placement.running():
            return {name: feature.float() for name, feature in self.extractor(batch).items()}


@own_randomness()  # the placeholder draws weights
def _embedded_network(backbone: nn.Module) -> PatchcoreModel:
    placeholder = nn.Sequential(OrderedDict(descriptors=nn.Conv2d(3, 1, 1)))  # replaced below
    network = PatchcoreModel(
        layers=["descriptors"],
        backbone=placeholder,  # type: ignore[arg-type]  # its feature extractor takes a module too
        pre_trained=False,
        num_neighbors=1,
    )
    network.feature_extractor = _Descriptors(backbone)  # type: ignore[assignment]  # only called
    return network


def _full_network(weights: Path, placement: Placement) -> PatchcoreModel:
    """The paper's backbone: wide_resnet50_2, layers 2 and 3, with weights from a file (timm's tv_in1k), or random ones.

    Raises:
        ModelError: If the file is missing, lacks weights of the layers in use, or is of another network.
    """
    with own_randomness():
        torch.manual_seed(0)
        network = PatchcoreModel(layers=["layer2", "layer3"], backbone="wide_resnet50_2", pre_trained=False, num_neighbors=1)
    if weights != RANDOM:
        refuse_infinite(state := read_state(weights), weights)
        try:
            missing = network.feature_extractor.feature_extractor.load_state_dict(state, strict=False).missing_keys
        except RuntimeError as error:  # of other shapes
            raise ModelError(f"{weights} does not hold the weights of wide_resnet50_2: {error}") from error
        if missing:
            raise ModelError(f"{weights} lacks {len(missing)} weights of wide_resnet50_2, such as '{missing[0]}'")
    network.feature_extractor = _Placed(network.feature_extractor, placement)  # type: ignore[assignment]  # only called
    return network.to(placement.device)


class _Maps(AnomalyMapGenerator):
    """anomalib's map generator, with its square Gaussian as two passes along the axes, and its interpolation or the original PatchCore's.

    Args:
        interpolation: ``nearest`` (anomalib's) or ``bilinear``.
    """

    line: Tensor

    def __init__(self, interpolation: str) -> None:
        super().__init__()
        self.how = {"mode": "bilinear", "align_corners": False} if interpolation == "bilinear" else {"mode": "nearest"}
        self.register_buffer("line", self.blur.kernel.sum(-1))  # the square is this line times itself

    def compute_anomaly_map(self, patch_scores: Tensor, image_size: tuple[int, int] | torch.Size | None = None) -> Tensor:
        maps, reach = F.interpolate(patch_scores, size=image_size, **self.how), self.line.shape[-1] // 2
        padded = F.pad(maps, (reach,) * 4, mode=self.blur.border_type)
        return F.conv2d(F.conv2d(padded, self.line[:, :, None]), self.line[..., None])


def _imagenet(image: Image.Image) -> Tensor:
    """RGB of any size, squashed bilinearly to 256 x 256, ImageNet's mean and standard deviation."""
    squashed = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    array = (np.asarray(squashed, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


@torch.no_grad()
def _patch_banks(
    network: PatchcoreModel,
    preprocess: Callable[[Image.Image], Tensor],
    normals: Sequence[ImageLike],
    config: PatchCoreConfig,
    placement: Placement,
    batch_size: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Descriptors ``(n, C)`` of the normal images' patches, all or an even random share of each image's, and ``(n,)`` of which image each
    is: a shard of images at a time."""
    network.train()
    network.feature_extractor.eval()  # the frozen tower's batch norms must not learn
    rng, size = np.random.default_rng(config.seed), min(len(normals), config.shard_images or len(normals))
    for first in range(0, len(normals), size):
        shard, bank = normals[first : first + size], torch.empty(0)
        for start, batch in zip(range(0, len(shard), batch_size), inputs(shard, preprocess, batch_size), strict=True):
            with whole_float32():
                patches = network(batch.to(placement.device)).cpu().unflatten(0, (len(batch), -1))
            network.embedding_store.clear()
            most = patches.shape[1] if config.max_patches is None else min(patches.shape[1], max(1, config.max_patches // size))
            if not len(bank):
                bank = torch.empty(len(shard), most, patches.shape[2])
            for k, image in enumerate(patches, start):
                bank[k] = image[np.sort(rng.permutation(len(image))[:most])]
        yield bank.flatten(0, 1).to(placement.device), torch.arange(first, first + len(shard)).repeat_interleave(bank.shape[1])


def _memory(banks: Iterator[tuple[Tensor, Tensor]], config: PatchCoreConfig) -> tuple[Tensor, Tensor]:
    """The descriptors that are kept, and of which image each is."""
    how = config.coreset_ratio, config.seed, config.coreset_projection
    if config.shard_images is not None:
        return coreset_of_shards(banks, *how)
    ((bank, origin),) = banks
    chosen = coreset(bank, *how)
    return bank[chosen], origin[chosen.cpu()]


class PatchCore(TorchDetector):
    """PatchCore fitted on the normal images of one class.

    Args:
        model: Lends backbone and preprocessing, unless `config` names the weights of the paper's backbone; then None.
        normals: Training-normal images, or their paths.
        config: Coreset ratio, seed, interpolation, backbone weights.
        placement: Device and precision of the paper's backbone; the embedded one has its model's device, and works in float32.
        batch_size: Images per forward pass.

    Raises:
        DataError: If there are no normal images, or the coreset would be empty.
        ModelError: If the backbone's weights are missing or do not fit.
    """

    def __init__(
        self,
        model: VisionLanguageModel | None,
        normals: Sequence[ImageLike],
        config: PatchCoreConfig = PatchCoreConfig(),
        placement: Placement = Placement(),
        batch_size: int = 8,
    ) -> None:
        normals = tuple(map(kept, normals))
        if not normals:
            raise DataError("PatchCore is fitted on normal images: none were given")
        if config.backbone_weights is not None:
            network, preprocess = _full_network(config.backbone_weights, placement), _imagenet
        elif model is None:
            raise ModelError("PatchCore needs a model that lends its backbone, or patchcore.backbone_weights")
        else:
            network, preprocess, placement = _embedded_network(model.patch_backbone()), model.preprocess, Placement()
        network.anomaly_map_generator = _Maps(config.interpolation).to(placement.device)
        network.memory_bank, origin = _memory(_patch_banks(network, preprocess, normals, config, placement, batch_size), config)
        network.eval()
        self._network, self._normals, self._origin = network, normals, origin.to(placement.device)
        self._placement, self.ratio = placement, config.coreset_ratio
        self._model, self._config, self._batch_size = model, config, batch_size
        self._size = (SIZE, SIZE) if config.backbone_weights is not None or model is None else (model.image_size,) * 2
        super().__init__(preprocess)

    def maps(self, batch: Tensor) -> Tensor:
        return self._maps(self._network, batch)

    def _maps(self, network: PatchcoreModel, batch: Tensor) -> Tensor:
        with whole_float32():
            found: Tensor = network(batch.to(self._placement.device)).anomaly_map[:, 0].cpu()
        return found

    def with_more(self, images: Sequence[ImageLike]) -> PatchCore:
        """Fitted anew, on its normal images and these."""
        return PatchCore(self._model, [*self._normals, *images], self._config, self._placement, self._batch_size)

    @property
    def network(self) -> PatchcoreModel:
        """anomalib's network, fitted."""
        return self._network

    @property
    def memory(self) -> Tensor:
        """The coreset: descriptors ``(M, C)`` of normal patches."""
        return self._network.memory_bank

    @property
    def normals(self) -> tuple[ImageLike, ...]:
        """The normal images that it was fitted on: files, or pictures in memory."""
        return self._normals

    @property
    def n_normals(self) -> int:
        """How many normal images it was fitted on."""
        return len(self._normals)

    @torch.no_grad()
    def describe(self, images: Sequence[ImageLike], batch_size: int = 8) -> Tensor:
        """Descriptors ``(N, C, h, w)`` of images' patches, as those in `memory` are."""
        network, found = self._network, [torch.empty(0)] if not len(images) else []
        for batch in inputs(images, self.preprocess, batch_size):
            with whole_float32():
                features = network.feature_extractor(batch.to(self._placement.device))
                pooled = {name: network.feature_pooler(feature) for name, feature in features.items()}
                found.append(network.generate_embedding(pooled).cpu())
        return torch.cat(found)

    def maps_of(self, patch_scores: Tensor) -> Tensor:
        """Maps ``(N, H, W)`` of the input's size from distances of patches ``(N, h, w)``."""
        return self._network.anomaly_map_generator(patch_scores[:, None], self._size)[:, 0]

    def normal_maps(self, indices: Sequence[int] | None = None) -> Tensor:
        """Maps ``(n, H, W)`` of training-normal images, each without its own descriptors in the memory.

        The coreset is not drawn anew, so what an image's descriptors have displaced is missing too: no image looks more normal than
        an unseen one would.

        Args:
            indices: Positions among the training-normal images; None: all.

        Raises:
            DataError: If nothing is left in the memory without an image.
        """
        maps, alone = [], copy.copy(self._network)  # whose memory is its own: others may be asking this detector
        every = range(len(self._normals))
        for index in every if indices is None else (every[position] for position in indices):  # which may count from the end
            rest = self.memory[self._origin != index]
            if not len(rest):
                fix = "raise patchcore.coreset_ratio or max_patches" if len(self._normals) > 1 else "give two normal images or more"
                raise DataError(f"PatchCore's memory holds nothing but normal image {index}: {fix}")
            alone._buffers = {**alone._buffers, "memory_bank": rest}
            maps.append(self._maps(alone, self.preprocess(as_image(self._normals[index]))[None]))
        return torch.cat(maps) if maps else torch.empty(0, *self._size)
