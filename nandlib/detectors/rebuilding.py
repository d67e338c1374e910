"""What UniAD and OneNIP share as detectors: standardised features on one grid, a network that rebuilds them, the pooled score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nandlib.detectors.config import UniAdConfig
from nandlib.detectors.fitted import FittedDetector
from nandlib.detectors.rebuilt import neck, pooled_score
from nandlib.detectors.training import adamw, descend, rate, shuffled

R = TypeVar("R", bound=UniAdConfig)
SIZES = {"width", "heads", "feedforward", "layers", "window", "dropout", "refiner"}


class RebuildingDetector(FittedDetector[R]):
    """A detector whose tensors hold a network, and the mean and deviation by which its features are standardised."""

    def describe(self, layers: list[Tensor]) -> Tensor:
        """Features ``(N, C, h, w)``, standardised where the settings say so."""
        return (on_grid(layers, self.fitted.config) - self.placed["mean"]) / self.placed["std"]

    def official_scores(self, seen: Tensor) -> Tensor:
        """The maximum of the map after a 16 × 16 average pool."""
        return pooled_score(self.raw_maps(seen))


def on_grid(layers: list[Tensor], config: UniAdConfig) -> Tensor:
    """Layers of a backbone on the grid of the settings, stacked: ``(N, ΣC, h, w)``."""
    return neck(layers, (config.grid, config.grid))


def spread(every: Tensor, config: UniAdConfig) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``(1, C, 1, 1)`` by which the channels of ``(n, C, h, w)`` are standardised; 0 and 1 where they are not."""
    if not config.standardise:
        return torch.zeros(1, every.shape[1], 1, 1), torch.ones(1, every.shape[1], 1, 1)
    return every.mean((0, 2, 3), keepdim=True), every.std((0, 2, 3), keepdim=True).clamp_min(1e-6)


def sizes_of(config: UniAdConfig) -> dict[str, Any]:
    """The arguments of a network that the settings name."""
    return {"grid": (config.grid, config.grid), **config.model_dump(include=SIZES)}


def epochs_of(
    network: nn.Module, config: UniAdConfig, count: int, loss_of: Callable[[list[int], int], Tensor]
) -> tuple[Callable[[int], float], dict[str, Any]]:
    """How such a network is trained: one epoch, and the parts whose state is to be kept.

    Args:
        network: The network.
        config: Rate, epochs, batch, seed.
        count: Images.
        loss_of: Of a batch's positions and the epoch's number.
    """
    steps = adamw(network, config.rate)

    def epoch(number: int) -> float:
        network.train()
        for group in steps.param_groups:
            group["lr"] = rate(number, config.epochs, config.rate)
        total = 0.0
        for batch in shuffled(count, config.batch_size, config.seed, number):
            loss = loss_of(batch, number)
            descend(loss, network, steps)
            total += float(loss.detach()) * len(batch)
        return total / count

    return epoch, {"network": network, "optimiser": steps}
