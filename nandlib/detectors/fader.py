"""FADeR-style: a small network that rebuilds images, whose skip connections are shut where it errs (`nandlib.detectors.fader_network`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nandlib.data.images import ImageLike
from nandlib.detectors.config import FaderConfig, TrainedConfig
from nandlib.detectors.fader_network import Gates, InpaintingUNet, dissimilarity, errors, gate_losses, inpainting_loss
from nandlib.detectors.features import FrozenFeatures, pixel_features
from nandlib.detectors.fitted import Fit, FittedDetector, Images, one_class, restored, settings, state_of
from nandlib.detectors.synthesis import synthetic_image
from nandlib.detectors.training import Run, Stateful, key_of, shuffled, train
from nandlib.models import VisionLanguageModel
from nandlib.models.base import own_randomness

SMOOTH = 11  # pixels of 128 over which the map is averaged, as RIAD's 21 of 256
SHUT_FROM = 0.99  # quantile of the errors of normal patches from which on gates should be shut
PATCHES = 16  # a side, over which errors are averaged for that quantile


class FaderStyle(FittedDetector[FaderConfig]):
    """FADeR-style, trained on the normal images of one class."""

    name, config_type = "fader_style", FaderConfig

    @classmethod
    def features_of(cls, config: TrainedConfig, model: VisionLanguageModel | None, device: str = "cpu") -> FrozenFeatures:
        """The pixels."""
        assert isinstance(config, FaderConfig)  # it is generic in its settings
        return pixel_features(config.side, device)

    def _build(self) -> None:
        config, device = self.fitted.config, self.features.device
        network = InpaintingUNet(config.side, config.widths, config.cell)
        self.network = restored(network.to(device), self.placed)
        self.gates = restored(Gates(config.widths[:-1]).to(device), self.placed, "gates.")

    def describe(self, layers: list[Tensor]) -> Tensor:
        """The images ``(N, 3, side, side)``."""
        return layers[0]

    def raw_maps(self, seen: Tensor) -> Tensor:
        kernel = SMOOTH * self.fitted.config.side // 128 // 2 * 2 + 1
        lost = F.avg_pool2d(dissimilarity(seen, self.network(seen, self.gates)), kernel, 1, kernel // 2, count_include_pad=False)
        return F.interpolate(lost, size=(self.features.size,) * 2, mode="bilinear", align_corners=False)[:, 0]

    @classmethod
    @own_randomness()
    def fit(
        cls,
        normals: Images | Sequence[ImageLike],
        model: VisionLanguageModel | None = None,
        config: FaderConfig | None = None,
        run: Run = Run(),
    ) -> Self:
        """Train on normal images of one class, the U-Net first and then the gates; see `nandlib.detectors.fitted.FittedDetector.fit`."""
        config = settings(config, FaderConfig)
        (name, own), features = one_class(normals, "FADeR-style"), cls.features_of(config, model, run.device)
        seen = features.of(own, lambda layers: layers[0], run.progress)
        corrupted = [_corrupted(own, config, version) for version in range(config.versions)]
        with own_randomness():
            torch.manual_seed(config.seed)
            network, gates = InpaintingUNet(config.side, config.widths, config.cell), Gates(config.widths[:-1])
        network.to(features.device)
        gates.to(features.device)
        first, second = (torch.optim.Adam(part.parameters(), config.rate) for part in (network, gates))
        wrong = list[Tensor]()  # errors of the corrupted versions, once the U-Net is trained,
        level = 0.0  # and what few normal patches exceed

        def epoch(number: int) -> float:
            nonlocal level
            filling, version = number < config.epochs, number % config.versions
            network.train(filling).requires_grad_(filling)
            if not filling and not wrong:
                wrong.extend(errors(network, made, config.batch_size) for made in corrupted)
                patches = F.adaptive_avg_pool2d(errors(network, seen, config.batch_size), PATCHES)
                level = float(patches.flatten().quantile(SHUT_FROM))
            total, steps = 0.0, first if filling else second
            for batch in shuffled(len(seen), config.batch_size, config.seed, number):
                clean = seen[batch].to(features.device)
                if filling:
                    loss = inpainting_loss(clean, network(clean))
                else:
                    made, error = (own[version][batch].to(features.device) for own in (corrupted, wrong))
                    loss = torch.stack(list(gate_losses(network, gates, made, clean, error, level).values())).sum()
                steps.zero_grad()
                loss.backward()
                steps.step()
                total += float(loss.detach()) * len(batch)
            return total / len(seen)

        parts: dict[str, Stateful] = {"network": network, "gates": gates, "first": first, "second": second}
        train(cls.name, config.epochs + config.gate_epochs, epoch, parts, config.seed, run, key_of(config, seen))
        return cls(features, state_of(network) | state_of(gates, "gates."), Fit(config, {name: 0.0}), name).with_floors({name: seen})


def _corrupted(images: Sequence[ImageLike], config: FaderConfig, version: int) -> Tensor:
    """One version of synthetic corruptions of all images, ``(n, 3, side, side)`` in [0, 1].

    They are resized at once, what the detector sees by way of the model's own size: edges differ a little, so that somewhat more than
    1 - `SHUT_FROM` of the normal patches teach the gates to shut.
    """
    made = [synthetic_image(k, images, config.seed + 1000 * version, config.side)[0] for k in range(len(images))]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() / 255
