"""A_sup from similarities, by either rule: the one computation that studies, `add_normality` and the explorer share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from nandlib.errors import DataError, PresetError
from nandlib.method.config import NandConfig, PlusConfig
from nandlib.method.detection import suppression_map
from nandlib.method.plus import Regions, plus_suppression, sides


@dataclass(frozen=True)
class Texts:
    """Which text is which.

    Attributes:
        features: ``(K + B, D)``, unit norm: K texts, then B generic defects.
        normal, abnormal: Positions of f_nor and f_abn.
        types: Positions of the texts of the class's types.
        generic: Positions of the generic defects.
    """

    features: Tensor
    normal: int
    abnormal: int
    types: Sequence[int]
    generic: Sequence[int]
    _known: dict[tuple[PlusConfig, int], tuple[list[int], list[int]]] = field(default_factory=dict, repr=False, compare=False)

    def sides(self, plus: PlusConfig, added: int) -> tuple[list[int], list[int]]:
        """`nandlib.method.plus.sides` of one text, found once."""
        if (plus, added) not in self._known:
            self._known[plus, added] = sides(
                plus, added, self.features, normal=self.normal, abnormal=self.abnormal, types=self.types, bank=self.generic
            )
        return self._known[plus, added]


@dataclass(frozen=True)
class Similarities:
    """Cosine similarities of n images' patch tokens with texts.

    Attributes:
        layers: ``(n, K, L, P)``, on whatever device.
        texts: Which text is which.
        grid: ``(h, w)`` of the patch tokens.
        temperature: Of the softmax.
        generic: ``(n, B, P)``, mean over layers, of the B texts that `layers` lacks; None if it has all.
        normal_mean: ``(K + B,)``, mean similarity of every text on normal images; None: `nand_plus` cannot be calibrated.
    """

    layers: Tensor
    texts: Texts
    grid: tuple[int, int]
    temperature: float
    generic: Tensor | None = None
    normal_mean: Tensor | None = None

    @cached_property
    def mean(self) -> Tensor:
        """``(n, K + B, P)``: mean over layers, of all texts, in main memory."""
        own = self.layers.mean(2).cpu()
        return own if self.generic is None else torch.cat([own, self.generic], 1)

    @cached_property
    def calibrated(self) -> Tensor:
        """`mean`, less each text's mean on normal images.

        Raises:
            DataError: If that is not known.
        """
        if self.normal_mean is None:
            raise DataError("nand_plus is calibrated on normal images, and there are none: give some, or set plus.calibrate: false")
        return self.mean - self.normal_mean[:, None]

    def naming(self, types: Sequence[int]) -> Similarities:
        """The same similarities with other texts for the class's types."""
        return replace(self, texts=replace(self.texts, types=types, _known={}))


def suppression(similar: Similarities, added: int, nand: NandConfig, size: tuple[int, int], regions: Regions | None = None) -> Tensor:
    """A_sup of one text, by ``nand.method``.

    Args:
        similar: Similarities of n images.
        added: Position of the text.
        nand: Method and parameters.
        size: ``(H, W)`` of the maps.
        regions: Of the anomaly maps; for `nand_plus` with ``plus.regions``.

    Raises:
        PresetError: If there is no such method.

    Returns:
        ``(n, H, W)``, in main memory, in [0, 1] unless the paper's rule aggregates layers by their raw sum.
    """
    texts, grid, temperature = similar.texts, similar.grid, similar.temperature
    if nand.method == "nand":
        three = (similar.layers[:, k] for k in (added, texts.normal, texts.abnormal))
        return suppression_map(*three, grid=grid, temperature=temperature, nand=nand, size=size)
    if nand.method == "nand_plus":
        own, rivals = texts.sides(nand.plus, added)
        similarity = similar.calibrated if nand.calibrated else similar.mean
        return plus_suppression(similarity, own, rivals, regions=regions, grid=grid, size=size, temperature=temperature, plus=nand.plus)
    raise PresetError(f"nand.method: no rule '{nand.method}' in nandlib/method/suppression.py")
