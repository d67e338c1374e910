"""PRADOT: prototypes with places, moved by optimal transport (`nandlib.detectors.pradot_transport`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from nandlib.data.images import ImageLike
from nandlib.detectors import pradot_transport as ot
from nandlib.detectors.config import PradotConfig
from nandlib.detectors.fitted import Fit, FittedDetector, Images, by_class
from nandlib.detectors.rebuilt import aligned
from nandlib.detectors.training import Run, key_of, shuffled, train
from nandlib.models import VisionLanguageModel


class _Prototypes:
    """Prototypes ``(m, C)`` of one level and α, with the maxima by which the costs of the last epoch were divided."""

    def __init__(self, prototypes: Tensor, places: Tensor, alpha: float) -> None:
        self.prototypes, self.places, self.alpha, self.scale = prototypes, places, alpha, torch.zeros(2)

    def state_dict(self) -> dict[str, Any]:
        return {"prototypes": self.prototypes, "scale": self.scale}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.prototypes, self.scale = state_dict["prototypes"], state_dict["scale"]

    def learn(self, maps: Tensor, grid: tuple[int, int]) -> float:
        """One batch of ``(n, C, h, w)``: transport, barycentres, moving average; ⟨T, M⟩."""
        patches, places = maps.flatten(2).transpose(1, 2).flatten(0, 1), ot.grid_places(grid).repeat(len(maps), 1)
        matrix = ot.cost(patches, self.prototypes, (places, self.places), self.alpha)
        plan = ot.transport(matrix)
        self.prototypes = ot.moved(self.prototypes, ot.barycentres(plan, patches))
        apart = torch.cdist(places, self.places).amax()
        self.scale = torch.maximum(self.scale, torch.stack([ot.costs(patches, self.prototypes).amax(), apart]))
        return float((plan * matrix).sum())


class Pradot(FittedDetector[PradotConfig]):
    """PRADOT, trained on the normal images of one class: the mean of one map for every level and α.

    Costs are divided by maxima seen in training; with ``official`` set, by those of the image itself, as published.
    """

    name, config_type = "pradot", PradotConfig

    def describe(self, layers: list[Tensor]) -> Tensor:
        """The levels on the finest one's grid, stacked: ``(N, ΣC, h, w)``."""
        return _stacked(layers)

    def _patches(self, seen: Tensor) -> Tensor:
        """The mean over models of m · least cost ``(N, h, w)``."""
        grid = (seen.shape[-2], seen.shape[-1])
        config, places = self.fitted.config, ot.grid_places(grid)
        widths = self.tensors["widths"].tolist()
        found = []
        for number, (level, alpha) in enumerate(product(range(len(widths)), config.alphas)):
            prototypes, scale = self.tensors[f"prototypes.{number}"], self.tensors[f"scale.{number}"]
            own = ot.prototype_places(grid, config.per_cell)
            for image in seen.split(widths, 1)[level]:
                kept = None if config.official else (scale[0], scale[1])
                matrix = ot.cost(image.flatten(1).T, prototypes, (places, own), alpha, kept)
                found.append(ot.nearest_cost(matrix).reshape(grid))
        return torch.stack(found).unflatten(0, (-1, len(seen))).mean(0)

    def raw_maps(self, seen: Tensor) -> Tensor:
        return aligned(self._patches(seen)[:, None], (self.features.size, self.features.size))[:, 0]

    def official_scores(self, seen: Tensor) -> Tensor:
        """The maximum of the map."""
        return self.raw_maps(seen).amax((1, 2))

    @classmethod
    def fit(
        cls,
        normals: Images | Sequence[ImageLike],
        model: VisionLanguageModel | None = None,
        config: PradotConfig | None = None,
        run: Run = Run(),
    ) -> Self:
        """Train on normal images of one class; see `nandlib.detectors.fitted.FittedDetector.fit`.

        The official code drops an incomplete batch, and a class with fewer images than a batch is never trained: here every image counts.
        """
        config = config or PradotConfig()
        images, features = by_class(normals, "PRADOT", most=1), cls.features_of(config, model)
        ((name, own),) = images.items()
        widths: list[int] = []

        def stacked(layers: list[Tensor]) -> Tensor:
            widths[:] = [layer.shape[1] for layer in layers]
            return _stacked(layers)

        seen = features.of(own, stacked, run.progress)
        grid = (seen.shape[-2], seen.shape[-1])
        levels, generator = seen.split(widths, 1), torch.Generator().manual_seed(config.seed)

        def models() -> Iterator[tuple[Tensor, _Prototypes]]:
            places = ot.prototype_places(grid, config.per_cell)
            for level, alpha in product(levels, config.alphas):
                yield level, _Prototypes(torch.rand(len(places), level.shape[1], generator=generator), places, alpha)

        every = list(models())

        def epoch(number: int) -> float:
            total = 0.0
            for level, one in every:
                one.scale = torch.zeros(2)
                for batch in shuffled(len(seen), config.batch_size, config.seed, number):
                    total += one.learn(level[batch], grid) * len(batch)
            return total / len(seen) / len(every)

        parts = {str(k): one for k, (_, one) in enumerate(every)}
        with torch.no_grad():
            train(cls.name, config.epochs, epoch, parts, config.seed, run, key_of(config, seen))
        tensors = {f"prototypes.{k}": one.prototypes for k, (_, one) in enumerate(every)}
        tensors |= {f"scale.{k}": one.scale for k, (_, one) in enumerate(every)} | {"widths": torch.tensor(widths)}
        return cls(features, tensors, Fit(config, {name: 0.0}), name).with_floors({name: seen})


def _stacked(layers: Sequence[Tensor]) -> Tensor:
    grid = layers[0].shape[-2:]
    return torch.cat([layer if layer.shape[-2:] == grid else F.interpolate(layer, grid, mode="bilinear") for layer in layers], 1)
