"""UniAD: one transformer that rebuilds the features of every class (`nandlib.detectors.uniad_network`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from nandlib.data.images import ImageLike
from nandlib.detectors.config import UniAdConfig
from nandlib.detectors.fitted import Fit, FittedDetector, Images, by_class, restored, spread, state_of
from nandlib.detectors.rebuilt import distance_map, neck, pooled_score
from nandlib.detectors.tokens import initialise
from nandlib.detectors.training import Run, adamw, descend, key_of, rate, shuffled, train
from nandlib.detectors.uniad_network import UniAdNetwork
from nandlib.models import VisionLanguageModel


class UniAd(FittedDetector[UniAdConfig]):
    """UniAD, trained on the normal images of one or several classes."""

    name, config_type = "uniad", UniAdConfig

    def _build(self) -> None:
        self.network = restored(_network(self.fitted.config, self.tensors["mean"].shape[1]), self.tensors)

    def describe(self, layers: list[Tensor]) -> Tensor:
        """Standardised features ``(N, C, h, w)``."""
        return (neck(layers, _grid(self.fitted.config)) - self.tensors["mean"]) / self.tensors["std"]

    def raw_maps(self, seen: Tensor) -> Tensor:
        return distance_map(self.network(seen), seen, (self.features.size, self.features.size))

    def official_scores(self, seen: Tensor) -> Tensor:
        return pooled_score(self.raw_maps(seen))

    @classmethod
    def fit(
        cls,
        normals: Images | Sequence[ImageLike],
        model: VisionLanguageModel | None = None,
        config: UniAdConfig | None = None,
        run: Run = Run(),
    ) -> Self:
        """Train on normal images: see `nandlib.detectors.fitted.FittedDetector.fit`."""
        config = config or UniAdConfig()
        images, features = by_class(normals, "UniAD"), cls.features_of(config, model)
        raw = {name: features.of(own, lambda layers: neck(layers, _grid(config)), run.progress) for name, own in images.items()}
        mean, std = spread(list(raw.values()))
        seen = {name: (own - mean) / std for name, own in raw.items()}
        every = torch.cat(list(seen.values()))
        network = _network(config, every.shape[1])
        initialise(network, torch.Generator().manual_seed(config.seed))
        steps = adamw(network, config.rate)

        def epoch(number: int) -> float:
            network.train()
            for group in steps.param_groups:
                group["lr"] = rate(number, config.epochs, config.rate)
            total = 0.0
            for batch in shuffled(len(every), config.batch_size, config.seed, number):
                x = every[batch]
                loss = F.mse_loss(network(x, torch.randn_like(x.flatten(2).transpose(1, 2))), x)
                descend(loss, network, steps)
                total += float(loss) * len(batch)
            return total / len(every)

        key = key_of(config, every)
        train(cls.name, config.epochs, epoch, {"network": network, "optimiser": steps}, config.seed, run, key)
        tensors = state_of(network) | {"mean": mean, "std": std}
        return cls(features, tensors, Fit(config, dict.fromkeys(seen, 0.0))).with_floors(seen)


def _grid(config: UniAdConfig) -> tuple[int, int]:
    return config.grid, config.grid


def _network(config: UniAdConfig, channels: int) -> UniAdNetwork:
    sizes: dict[str, Any] = config.model_dump(include={"width", "heads", "feedforward", "layers", "window", "dropout"})
    return UniAdNetwork(channels, _grid(config), **sizes)
