"""UniAD: one transformer that rebuilds the features of every class (`nandlib.detectors.uniad_network`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from nandlib.data.images import ImageLike
from nandlib.detectors.config import UniAdConfig
from nandlib.detectors.fitted import Fit, Images, by_class, restored, settings, state_of
from nandlib.detectors.rebuilding import RebuildingDetector, epochs_of, on_grid, sizes_of, spread
from nandlib.detectors.rebuilt import distance_map
from nandlib.detectors.tokens import initialise
from nandlib.detectors.training import Run, key_of, train
from nandlib.detectors.uniad_network import UniAdNetwork
from nandlib.models import VisionLanguageModel
from nandlib.models.base import own_randomness


class UniAd(RebuildingDetector[UniAdConfig]):
    """UniAD, trained on the normal images of one or several classes."""

    name, config_type = "uniad", UniAdConfig

    def _build(self) -> None:
        network = UniAdNetwork(self.tensors["mean"].shape[1], **sizes_of(self.fitted.config))
        self.network = restored(network.to(self.features.device), self.placed)

    def raw_maps(self, seen: Tensor) -> Tensor:
        return distance_map(self.network(seen), seen, (self.features.size, self.features.size))

    @classmethod
    @own_randomness()
    def fit(
        cls,
        normals: Images | Sequence[ImageLike],
        model: VisionLanguageModel | None = None,
        config: UniAdConfig | None = None,
        run: Run = Run(),
    ) -> Self:
        """Train on normal images: see `nandlib.detectors.fitted.FittedDetector.fit`."""
        config = settings(config, UniAdConfig)
        images, features = by_class(normals, "UniAD"), cls.features_of(config, model, run.device)
        raw = {name: features.of(own, lambda layers: on_grid(layers, config), run.progress) for name, own in images.items()}
        mean, std = spread(torch.cat(list(raw.values())), config)
        seen = {name: (own - mean) / std for name, own in raw.items()}
        every = torch.cat(list(seen.values()))
        network = UniAdNetwork(every.shape[1], **sizes_of(config))
        initialise(network, torch.Generator().manual_seed(config.seed))
        network.to(features.device)

        def loss_of(batch: list[int], _: int) -> Tensor:
            x = every[batch].to(features.device)
            return F.mse_loss(network(x, torch.randn_like(x.flatten(2).transpose(1, 2))), x)

        epoch, parts = epochs_of(network, config, len(every), loss_of)
        train(cls.name, config.epochs, epoch, parts, config.seed, run, key_of(config, every))
        tensors = state_of(network) | {"mean": mean, "std": std}
        return cls(features, tensors, Fit(config, dict.fromkeys(seen, 0.0))).with_floors(seen)
