"""PBAS: a boundary around normal features, and features synthesised beyond it (`nandlib.detectors.pbas_equations`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from nandlib.data.images import ImageLike
from nandlib.detectors.config import PbasConfig
from nandlib.detectors.fitted import Fit, FittedDetector, Images, one_class, restored, settings, state_of
from nandlib.detectors.pbas_equations import embed, losses, networks, optimisers, remember
from nandlib.detectors.smoothing import smooth_map
from nandlib.detectors.training import Run, Stateful, key_of, shuffled, train
from nandlib.models import VisionLanguageModel
from nandlib.models.base import own_randomness


class Pbas(FittedDetector[PbasConfig]):
    """PBAS, trained on the normal images of one class."""

    name, config_type = "pbas", PbasConfig

    def _build(self) -> None:
        config = self.fitted.config
        projection, discriminator = networks(config.width, config.hidden)
        device = self.features.device
        self.projection = restored(projection.to(device), self.placed, "projection.")
        self.discriminator = restored(discriminator.to(device), self.placed, "discriminator.")

    def describe(self, layers: list[Tensor]) -> Tensor:
        """Embeddings of patches ``(N, h, w, width)``."""
        return _embedded(layers, self.fitted.config.width)

    def _patches(self, seen: Tensor) -> Tensor:
        scores: Tensor = self.discriminator(self.projection(seen.flatten(0, 2)))
        return scores.reshape(seen.shape[:-1])

    def raw_maps(self, seen: Tensor) -> Tensor:
        return smooth_map(self._patches(seen), (self.features.size, self.features.size))

    def official_scores(self, seen: Tensor) -> Tensor:
        """The maximum of the patch scores, not of the smoothed map."""
        return self._patches(seen).amax((1, 2))

    @classmethod
    @own_randomness()
    def fit(
        cls,
        normals: Images | Sequence[ImageLike],
        model: VisionLanguageModel | None = None,
        config: PbasConfig | None = None,
        run: Run = Run(),
    ) -> Self:
        """Train on normal images of one class; see `nandlib.detectors.fitted.FittedDetector.fit`."""
        config = settings(config, PbasConfig)
        (name, own), features = one_class(normals, "PBAS"), cls.features_of(config, model, run.device)
        seen = features.of(own, lambda layers: _embedded(layers, config.width), run.progress)
        generator = torch.Generator().manual_seed(config.seed)
        projection, discriminator = (network.to(features.device) for network in networks(config.width, config.hidden, generator))
        bank: Tensor | None = None
        with torch.no_grad():
            for batch in shuffled(len(seen), config.batch_size, config.seed, 1_000_000):
                bank = remember(bank, projection(seen[batch].to(features.device).flatten(1, 2)))
        assert bank is not None  # there are images
        steps, centres = optimisers(projection, discriminator, config.rate_factor), bank

        def epoch(number: int) -> float:
            discriminator.train()
            total = 0.0
            for batch in shuffled(len(seen), config.batch_size, config.seed, number):
                terms = losses(projection(seen[batch].to(features.device).flatten(0, 2)), centres, discriminator)
                loss = torch.stack(list(terms.values())).sum()
                for step in steps:
                    step.zero_grad()
                loss.backward()
                for step in steps:
                    step.step()
                total += float(loss.detach()) * len(batch)
            return total / len(seen)

        parts: dict[str, Stateful] = {"projection": projection, "discriminator": discriminator, "first": steps[0], "second": steps[1]}
        train(cls.name, config.epochs, epoch, parts, config.seed, run, key_of(config, seen))
        tensors = state_of(projection, "projection.") | state_of(discriminator, "discriminator.")
        return cls(features, tensors, Fit(config, {name: 0.0}), name).with_floors({name: seen})


def _embedded(layers: list[Tensor], width: int) -> Tensor:
    return embed(layers, width).unflatten(0, (len(layers[0]), *layers[0].shape[-2:]))
