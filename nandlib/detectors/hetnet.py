"""HetNet-style: students of two fused teachers, one of them trained against noise (`nandlib.detectors.hetnet_network`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from nandlib.data.images import ImageLike
from nandlib.detectors.config import HetNetConfig, TrainedConfig
from nandlib.detectors.features import FrozenFeatures, apart, joined, pixels
from nandlib.detectors.fitted import Fit, FittedDetector, Images, one_class, restored, state_of
from nandlib.detectors.hetnet_network import (
    HetNetwork,
    PatchTransformer,
    PositionNoise,
    distillation_losses,
    hidden_patches,
    in_boxes,
    patch_scores,
    random_boxes,
)
from nandlib.detectors.smoothing import smooth_map
from nandlib.detectors.training import Run, Stateful, key_of, shuffled, train
from nandlib.models import VisionLanguageModel

SIDE, PATCH = 160, 16  # of what the second teacher sees
SECOND = 96  # channels of its tokens


class HetNetStyle(FittedDetector[HetNetConfig]):
    """HetNet-style, trained on the normal images of one class."""

    name, config_type = "hetnet_style", HetNetConfig

    @classmethod
    def features_of(cls, config: TrainedConfig, model: VisionLanguageModel | None, device: str = "cpu") -> FrozenFeatures:
        """The first teacher's layers, and the pixels, of which the second teacher makes its own."""
        first = super().features_of(config, model, device)

        def layers(batch: Tensor) -> list[Tensor]:
            return [*first.layers(batch), pixels(batch.to(first.device), SIDE)]

        return replace(first, layers=layers, name=f"{first.name}+pixels:{SIDE}")

    def _build(self) -> None:
        device = self.features.device
        network = HetNetwork(self.tensors["shapes"][:3, 0].tolist(), SECOND, self.fitted.config.width)
        self.network = restored(network.to(device), self.placed)
        self.second = restored(PatchTransformer(SIDE, PATCH, SECOND).to(device), self.placed, "second.")

    def describe(self, layers: list[Tensor]) -> Tensor:
        """Both teachers' inputs to the students in one row an image, ``(N, …)``: the first's layers, and the pixels."""
        return joined(layers)

    def _scores(self, seen: Tensor) -> Tensor:
        *local, images = apart(seen, self.tensors["shapes"])
        return patch_scores(self.network, local, self.second(images))

    def raw_maps(self, seen: Tensor) -> Tensor:
        return smooth_map(self._scores(seen), (self.features.size, self.features.size))

    @classmethod
    def fit(
        cls,
        normals: Images | Sequence[ImageLike],
        model: VisionLanguageModel | None = None,
        config: HetNetConfig | None = None,
        run: Run = Run(),
    ) -> Self:
        """Train on normal images of one class, the second teacher first; see `nandlib.detectors.fitted.FittedDetector.fit`."""
        config = config or HetNetConfig()
        (name, own), features = one_class(normals, "HetNet-style"), cls.features_of(config, model, run.device)
        seen, shapes, device = features.of(own, joined, run.progress), features.shapes(own[0]), features.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            second, network = PatchTransformer(SIDE, PATCH, SECOND), HetNetwork(shapes[:3, 0].tolist(), SECOND, config.width)
        second.to(device)
        network.to(device)
        first = config.second_epochs if config.second == "self_trained" else 0
        noise = [PositionNoise(layer, config.epsilon) for layer in apart(seen, shapes)[:3]]
        steps = [torch.optim.AdamW(part.parameters(), config.rate) for part in (second, network)]

        def noisy(local: Sequence[Tensor], number: int) -> list[Tensor]:
            """The first teacher's features, with noise in boxes."""
            boxes = random_boxes(len(local[0]), config.boxes, np.random.default_rng([config.seed, number, int(torch.randint(2**31, ()))]))
            where = [in_boxes(boxes, (own.shape[-2], own.shape[-1])).to(device) for own in local]
            drawn = (own.draw(len(local[0])).to(device) for own in noise)
            return [torch.where(inside, new, own) for inside, new, own in zip(where, drawn, local, strict=True)]

        def epoch(number: int) -> float:
            filling, total = number < first, 0.0
            second.train(filling).requires_grad_(filling)
            network.train()
            for batch in shuffled(len(seen), config.batch_size, config.seed, number):
                *local, given = (part.to(device) for part in apart(seen[batch], shapes))
                if filling:
                    loss = second.filling_loss(given, hidden_patches(len(batch), second.grid**2).to(device))
                else:
                    with torch.no_grad():
                        far = second(given)
                    loss = torch.stack(list(distillation_losses(network, local, far, noisy(local, number)).values())).sum()
                step = steps[0 if filling else 1]
                step.zero_grad()
                loss.backward()
                step.step()
                total += float(loss.detach()) * len(batch)
            return total / len(seen)

        parts: dict[str, Stateful] = {"second": second, "network": network, "second_steps": steps[0], "steps": steps[1]}
        train(cls.name, first + config.epochs, epoch, parts, config.seed, run, key_of(config, seen))
        tensors = state_of(network) | state_of(second, "second.") | {"shapes": shapes}
        return cls(features, tensors, Fit(config, {name: 0.0}), name).with_floors({name: seen})
