"""HetNet-style: students of two fused teachers, one of them trained against noise (`nandlib.detectors.hetnet_network`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from nandlib.data.images import ImageLike
from nandlib.detectors.config import HetNetConfig, TrainedConfig
from nandlib.detectors.features import FrozenFeatures, apart, joined
from nandlib.detectors.fitted import Fit, FittedDetector, Images, one_class, restored, settings, state_of
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
from nandlib.errors import ModelError
from nandlib.models import VisionLanguageModel
from nandlib.models.base import own_randomness

SIDE, PATCH = 160, 16  # of what the second teacher sees
SECOND = 96  # channels of its tokens
SCALES = 3  # of the first teacher, and maps of the second
DEIT: Literal["deit_base_patch16_224"] = "deit_base_patch16_224"


class HetNetStyle(FittedDetector[HetNetConfig]):
    """HetNet-style, trained on the normal images of one class."""

    name, config_type = "hetnet_style", HetNetConfig

    @classmethod
    def features_of(cls, config: TrainedConfig, model: VisionLanguageModel | None, device: str = "cpu") -> FrozenFeatures:
        """The first teacher's layers, and either the second teacher's or the pixels, of which it makes its own."""
        assert isinstance(config, HetNetConfig)
        first = super().features_of(config, model, device)
        if config.second != DEIT:
            return first.and_pixels(SIDE)
        if config.second_weights is None:
            raise ModelError(f"the weights of {DEIT} are missing: name their file (or 'random') as second_weights")
        return first.and_published(DEIT, config.second_weights)

    def _build(self) -> None:
        device = self.features.device
        second, network = _networks(self.tensors["shapes"], self.fitted.config)
        self.network = restored(network.to(device), self.placed)
        self.second = second and restored(second.to(device), self.placed, "second.")

    def describe(self, layers: list[Tensor]) -> Tensor:
        """Both teachers' inputs to the students in one row an image, ``(N, …)``: `features_of`'s layers."""
        return joined(layers)

    def _scores(self, seen: Tensor) -> Tensor:
        given = apart(seen, self.tensors["shapes"])
        return patch_scores(self.network, given[:SCALES], _far(self.second, given[SCALES:]))

    def raw_maps(self, seen: Tensor) -> Tensor:
        return smooth_map(self._scores(seen), (self.features.size, self.features.size))

    @classmethod
    @own_randomness()
    def fit(
        cls,
        normals: Images | Sequence[ImageLike],
        model: VisionLanguageModel | None = None,
        config: HetNetConfig | None = None,
        run: Run = Run(),
    ) -> Self:
        """Train on normal images of one class, the second teacher first; see `nandlib.detectors.fitted.FittedDetector.fit`."""
        config = settings(config, HetNetConfig)
        (name, own), features = one_class(normals, "HetNet-style"), cls.features_of(config, model, run.device)
        seen, shapes, device = features.of(own, joined, run.progress), features.shapes(own[0]), features.device
        with own_randomness():
            torch.manual_seed(config.seed)
            second, network = _networks(shapes, config)
        network.to(device)
        first = config.second_epochs if config.second == "self_trained" else 0
        noise = [PositionNoise(layer, config.epsilon) for layer in apart(seen, shapes)[:SCALES]]
        trained = {"second": second.to(device), "network": network} if second else {"network": network}
        steps = {key: torch.optim.AdamW(part.parameters(), config.rate) for key, part in trained.items()}

        def noisy(local: Sequence[Tensor], number: int) -> list[Tensor]:
            """The first teacher's features, with noise in boxes."""
            boxes = random_boxes(len(local[0]), config.boxes, np.random.default_rng([config.seed, number, int(torch.randint(2**31, ()))]))
            where = [in_boxes(boxes, (own.shape[-2], own.shape[-1])).to(device) for own in local]
            drawn = (own.draw(len(local[0])).to(device) for own in noise)
            return [torch.where(inside, new, own) for inside, new, own in zip(where, drawn, local, strict=True)]

        def epoch(number: int) -> float:
            filling, total = number < first, 0.0
            if second:
                second.train(filling).requires_grad_(filling)
            network.train()
            for batch in shuffled(len(seen), config.batch_size, config.seed, number):
                given = [part.to(device) for part in apart(seen[batch], shapes)]
                local = given[:SCALES]
                if second and filling:
                    loss = second.filling_loss(given[-1], hidden_patches(len(batch), second.grid**2).to(device))
                else:
                    with torch.no_grad():
                        far = _far(second, given[SCALES:])
                    loss = torch.stack(list(distillation_losses(network, local, far, noisy(local, number)).values())).sum()
                step = steps["second" if filling else "network"]
                step.zero_grad()
                loss.backward()
                step.step()
                total += float(loss.detach()) * len(batch)
            return total / len(seen)

        parts: dict[str, Stateful] = {**trained, **{f"{key}_steps": own for key, own in steps.items()}}
        train(cls.name, first + config.epochs, epoch, parts, config.seed, run, key_of(config, seen))
        tensors = state_of(network) | (state_of(second, "second.") if second else {}) | {"shapes": shapes}
        return cls(features, tensors, Fit(config, {name: 0.0}), name).with_floors({name: seen})


def _networks(shapes: Tensor, config: HetNetConfig) -> tuple[PatchTransformer | None, HetNetwork]:
    """The second teacher, where it is trained here, and the students, for layers of these shapes."""
    second = None if config.second == DEIT else PatchTransformer(SIDE, PATCH, SECOND)
    return second, HetNetwork(shapes[:SCALES, 0].tolist(), SECOND if second else int(shapes[SCALES, 0]), config.width)


def _far(second: PatchTransformer | None, given: list[Tensor]) -> list[Tensor]:
    """The second teacher's maps, from the pixels or as they are given."""
    return second(given[0]) if second else given
