"""PRADOT: prototypes with places, moved by optimal transport (`nandlib.detectors.pradot_transport`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Self

import torch
from torch import Tensor

from nandlib.data.images import ImageLike
from nandlib.detectors import pradot_transport as ot
from nandlib.detectors.config import PradotConfig
from nandlib.detectors.features import apart, joined
from nandlib.detectors.fitted import Fit, FittedDetector, Images, one_class, settings
from nandlib.detectors.rebuilt import aligned
from nandlib.detectors.training import Run, key_of, shuffled, train
from nandlib.models import VisionLanguageModel
from nandlib.models.base import own_randomness


class _Prototypes:
    """Prototypes ``(m, C)`` of one level and α, with the largest costs of the last epoch, each after its step."""

    def __init__(self, prototypes: Tensor, places: Tensor, alpha: float) -> None:
        self.prototypes, self.places, self.alpha = prototypes, places, alpha
        self.forget()

    def forget(self) -> None:
        """The maxima."""
        self.scale = self.prototypes.new_zeros(2)

    def state_dict(self) -> dict[str, Any]:
        return {"prototypes": self.prototypes, "scale": self.scale}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        device = self.prototypes.device
        self.prototypes, self.scale = state_dict["prototypes"].to(device), state_dict["scale"].to(device)

    def learn(self, maps: Tensor) -> float:
        """One batch of ``(n, C, h, w)``: transport, barycentres, moving average; ⟨T, M⟩."""
        grid = (maps.shape[-2], maps.shape[-1])
        patches, places = maps.flatten(2).transpose(1, 2).flatten(0, 1), ot.grid_places(grid).repeat(len(maps), 1).to(maps.device)
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
        """The levels, each as one row an image: ``(N, Σ C·h·w)``."""
        return joined(layers)

    def raw_maps(self, seen: Tensor) -> Tensor:
        """The mean over models of m · least cost, each resized from its own grid."""
        config, size = self.fitted.config, (self.features.size, self.features.size)
        found = []
        for number, (level, alpha) in enumerate(product(apart(seen, self.tensors["shapes"]), config.alphas)):
            grid = (level.shape[-2], level.shape[-1])
            prototypes, scale = self.placed[f"prototypes.{number}"], self.placed[f"scale.{number}"]
            places = ot.grid_places(grid).to(seen.device), ot.prototype_places(grid, config.per_cell).to(seen.device)
            kept = None if config.official else (scale[0], scale[1])
            matrices = (ot.cost(image.flatten(1).T, prototypes, places, alpha, kept) for image in level)
            found.append(aligned(torch.stack([ot.nearest_cost(matrix).reshape(1, *grid) for matrix in matrices]), size)[:, 0])
        return torch.stack(found).mean(0)

    @classmethod
    @own_randomness()
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
        config = settings(config, PradotConfig)
        (name, own), features = one_class(normals, "PRADOT"), cls.features_of(config, model, run.device)
        seen, shapes = features.of(own, joined, run.progress), features.shapes(own[0])
        levels, generator = apart(seen, shapes), torch.Generator().manual_seed(config.seed)

        def models() -> Iterator[tuple[Tensor, _Prototypes]]:
            for level, alpha in product(levels, config.alphas):
                places = ot.prototype_places((level.shape[-2], level.shape[-1]), config.per_cell)
                prototypes = torch.rand(len(places), level.shape[1], generator=generator)
                yield level, _Prototypes(prototypes.to(features.device), places.to(features.device), alpha)

        every = list(models())

        def epoch(number: int) -> float:
            total = 0.0
            for level, one in every:
                one.forget()
                for batch in shuffled(len(seen), config.batch_size, config.seed, number):
                    total += one.learn(level[batch].to(features.device)) * len(batch)
            return total / len(seen) / len(every)

        parts = {str(k): one for k, (_, one) in enumerate(every)}
        with torch.no_grad():
            train(cls.name, config.epochs, epoch, parts, config.seed, run, key_of(config, seen))
        tensors = {f"prototypes.{k}": one.prototypes.cpu() for k, (_, one) in enumerate(every)}
        tensors |= {f"scale.{k}": one.scale.cpu() for k, (_, one) in enumerate(every)} | {"shapes": shapes}
        return cls(features, tensors, Fit(config, {name: 0.0}), name).with_floors({name: seen})
