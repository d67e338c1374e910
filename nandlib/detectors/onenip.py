"""OneNIP: features rebuilt with the help of one normal image, refined where they differ (`nandlib.detectors.onenip_network`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nandlib.data.images import ImageLike, as_image
from nandlib.detectors.config import OneNipConfig
from nandlib.detectors.fitted import Fit, Images, by_class, restored, settings, state_of
from nandlib.detectors.onenip_network import OneNipNetwork, joined_map, losses, scale_of
from nandlib.detectors.rebuilding import RebuildingDetector, epochs_of, on_grid, sizes_of, spread
from nandlib.detectors.rebuilt import distance_map
from nandlib.detectors.synthesis import synthetic_image
from nandlib.detectors.tokens import initialise
from nandlib.detectors.training import Run, key_of, train
from nandlib.models import VisionLanguageModel
from nandlib.models.base import own_randomness, whole_float32

DICE = 0.5


class OneNip(RebuildingDetector[OneNipConfig]):
    """OneNIP, trained on the normal images of one or several classes. At test every class has one fixed prompt: its first image in a seeded
    order; the refiner's scale comes from training-normal images."""

    name, config_type = "onenip", OneNipConfig

    def _build(self) -> None:
        network = OneNipNetwork(self.tensors["mean"].shape[1], **sizes_of(self.fitted.config))
        self.network = restored(network.to(self.features.device), self.placed)

    def _rebuilt(self, seen: Tensor, prompts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        rebuilt = self.network(seen, self.placed[f"prompt.{self.class_name}"][None] if prompts is None else prompts)
        size = self.features.size, self.features.size
        return distance_map(rebuilt, seen, size), self.network.seghead((rebuilt - seen).abs(), size).sigmoid()

    def raw_maps(self, seen: Tensor) -> Tensor:
        return joined_map(*self._rebuilt(seen), self.placed["scale"])

    @torch.no_grad()
    def official_maps(self, images: Sequence[ImageLike], prompts: Sequence[ImageLike], seed: int = 0) -> Tensor:
        """Maps ``(N, S, S)`` as the official code makes them of a test set: to be compared with, and used for nothing else, since what is
        tested takes part in every map.

        Args:
            images: The whole test set of this class: the refiner's scale is their largest distance.
            prompts: Normal images of the class; one is drawn for every image.
            seed: Of the draws.
        """
        seen, normal = (torch.cat([self._see(self.preprocess(as_image(image))[None]) for image in own]) for own in (images, prompts))
        drawn = np.random.default_rng(seed).integers(len(normal), size=len(seen))
        with whole_float32():
            pairs = [self._rebuilt(one[None], normal[k][None]) for one, k in zip(seen, drawn.tolist(), strict=True)]
        distances, refined = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return joined_map(distances, refined, scale_of(distances)).cpu()

    @classmethod
    @own_randomness()
    def fit(
        cls,
        normals: Images | Sequence[ImageLike],
        model: VisionLanguageModel | None = None,
        config: OneNipConfig | None = None,
        run: Run = Run(),
    ) -> Self:
        """Train on normal images and synthetic anomalies; see `nandlib.detectors.fitted.FittedDetector.fit`."""
        config = settings(config, OneNipConfig)
        images, features = by_class(normals, "OneNIP"), cls.features_of(config, model, run.device)
        paths = [image for own in images.values() for image in own]
        groups = np.repeat(np.arange(len(images)), [len(own) for own in images.values()])

        def stacked(layers: list[Tensor]) -> Tensor:
            return on_grid(layers, config)

        raw = features.of(paths, stacked, run.progress)
        mean, std = spread(raw, config)
        seen = (raw - mean) / std

        def synthetic(batch: Sequence[int], version: int, progress: bool = False) -> tuple[Tensor, Tensor]:
            """Features and masks of one version of synthetic images."""
            made = [synthetic_image(k, paths, config.seed + 1000 * version, features.size, features.resampling) for k in batch]
            found = features.of([Image.fromarray(pixels) for pixels, _ in made], stacked, progress)
            return (found - mean) / std, torch.stack([torch.from_numpy(mask) for _, mask in made]).float()

        kept_versions = [synthetic(range(len(paths)), version, run.progress) for version in range(config.versions or 0)]
        network = OneNipNetwork(seen.shape[1], **sizes_of(config))
        initialise(network, torch.Generator().manual_seed(config.seed))
        network.to(features.device)
        draws = dict[int, np.random.Generator]()  # of prompts, one sequence an epoch

        def loss_of(batch: list[int], number: int) -> Tensor:
            rng = draws.setdefault(number, np.random.default_rng([config.seed, number, 1]))
            prompts = [int(rng.choice(np.flatnonzero(groups == groups[k]))) for k in batch]
            if kept_versions:
                others, masks = (part[batch] for part in kept_versions[number % len(kept_versions)])
            else:
                others, masks = synthetic(batch, number)
            noise = torch.randn(3 * len(batch), seen[0, 0].numel(), seen.shape[1])
            given = seen[batch], others, seen[prompts], noise, torch.cat([torch.zeros_like(masks), masks])
            _, _, rebuilding, dice = losses(network, *(part.to(features.device) for part in given))
            return rebuilding + DICE * dice

        epoch, kept = epochs_of(network, config, len(seen), loss_of)
        key = key_of(config, seen, {name: len(own) for name, own in images.items()})
        train(cls.name, config.epochs, epoch, kept, config.seed, run, key)
        parts = {name: seen[groups == k] for k, name in enumerate(images)}
        first = np.random.default_rng(config.seed)
        tensors = state_of(network) | {"mean": mean, "std": std, "scale": torch.tensor(1.0)}
        tensors |= {f"prompt.{name}": own[int(first.integers(len(own)))].clone() for name, own in parts.items()}
        fit = Fit(config, dict.fromkeys(parts, 0.0))
        with torch.no_grad():
            maps = [cls(features, tensors, fit, name)._rebuilt(own.to(features.device))[0].cpu() for name, own in parts.items()]
        tensors["scale"] = scale_of(torch.cat(maps))
        return cls(features, tensors, fit).with_floors(parts)
