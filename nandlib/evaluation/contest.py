"""What a contest of texts and examples is held on: one class, the methods, and the draws of examples.

For every group k of its images are drawn as examples and leave the evaluation, for every method alike. Then, as in the protocol, label 0
is good and the rest of the group, 1 the other groups.

- ``nothing``: the unchanged detector;
- ``text``: the study's phrases, by its rule;
- ``examples``: `nandlib.method.examples`, without masks: the detector itself says where;
- ``both``: text and examples;
- ``bank``: PatchCore's memory continued with the examples: its greedy choice goes on among their patches, at the same share;
- ``retrained``: PatchCore fitted anew on its normal images and the examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from nandlib.detectors.coreset import continued
from nandlib.detectors.patchcore import PatchCore
from nandlib.errors import PresetError
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.scope import refuse_other_scores
from nandlib.method.config import ExampleConfig
from nandlib.method.examples import both, probability, region_directions, residuals, shown_directions
from nandlib.method.operators import resize_map, suppress
from nandlib.method.plus import Regions, find_regions
from nandlib.study.class_maps import ClassMaps
from nandlib.study.fitted import patchcore_of
from nandlib.study.images import image_paths
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

KS, DRAWS, LEAST_LEFT = (1, 2, 4, 8, 16), 10, 4  # images of a group that must be left for the evaluation
METHODS = ("nothing", "text", "examples", "both", "bank", "retrained")


class Contestant(Protocol):
    """Anything that answers with one score an item: images, or whatever else has maps."""

    @property
    def class_name(self) -> str: ...

    @property
    def groups(self) -> np.ndarray:
        """``(N,)`` group of each tested item: ``"good"``, a name, or ``""``, which is always abnormal."""
        ...

    @property
    def added(self) -> Sequence[str]:
        """The groups that are added, one at a time."""
        ...

    def scores(self, method: str, group: str, examples: Sequence[int]) -> np.ndarray:
        """``(N,)`` by one of its methods (``nothing`` among them), with `examples`, positions of items of `group`."""
        ...


@dataclass(frozen=True)
class Contest:
    """One class, with all that does not depend on the draw of examples.

    Attributes:
        class_name: The class.
        groups: ``(N,)`` group of each test image, ``"good"`` for good ones.
        base: ``(N, H, W)`` PatchCore's maps.
        text: Group → A_sup of its text ``(N, H, W)``.
        descriptors: ``(N, C, h, w)``.
        network: The fitted detector.
        regions: Of `base`.
        found: Directions of the regions of each image ``(R, C)``.
        paths: Of the test images.
        types: Of the test images, for a group may be several.
        config: Of normality by example.
    """

    class_name: str
    groups: np.ndarray
    base: Tensor
    text: dict[str, Tensor]
    descriptors: Tensor
    network: PatchCore
    regions: Regions
    found: list[Tensor]
    paths: Sequence[Path]
    types: Sequence[str]
    config: ExampleConfig = ExampleConfig()
    _known: dict[tuple[int, str], Tensor] = field(default_factory=dict, repr=False)

    @property
    def added(self) -> list[str]:
        """The groups that are added, one at a time."""
        return list(self.text)

    @cached_property
    def heights(self) -> list[Tensor]:
        """The peak of every region, image by image."""
        parts = zip(self.base, self.regions.labels, self.found, strict=True)
        return [torch.from_numpy(ndimage.maximum(single.numpy(), labels, np.arange(len(own)))) for single, labels, own in parts]

    @cached_property
    def _found(self) -> Tensor:
        """`found` in one."""
        return torch.cat(self.found)

    @cached_property
    def patches(self) -> Tensor:
        """``(N, P, C)``."""
        return self.descriptors.flatten(2).transpose(1, 2)

    @cached_property
    def distances(self) -> Tensor:
        """``(N, P)`` of the patches to the memory."""
        return torch.stack([torch.cdist(image, self.network.memory).amin(1) for image in self.patches])

    def scores(self, method: str, group: str, examples: Sequence[int], config: ExampleConfig | None = None) -> np.ndarray:
        """Image scores ``(N,)`` by one method with `examples`, positions of images of `group`; `config` in place of the study's."""
        if method == "examples":  # maxima of `maps`, without painting them
            sup = self._shown(examples, config or self.config)
            return np.array([float((height * (1 - own)).max()) for height, own in zip(self.heights, sup, strict=True)])
        return self.maps(method, group, examples, config).amax((1, 2)).numpy()

    def maps(self, method: str, group: str, examples: Sequence[int], config: ExampleConfig | None = None) -> Tensor:
        """The maps ``(N, H, W)`` of which `scores` are the maxima."""
        config = config or self.config
        if method == "nothing":
            return self.base
        if method == "text":
            return suppress(self.base, self.text[group])
        if method == "bank":
            new = self.patches[list(examples)].flatten(0, 1)
            added = new[continued(new, self.distances[list(examples)].flatten(), self.network.ratio)]
            return self._maps_of([torch.minimum(*pair) for pair in zip(self.distances, self._nearest(added), strict=True)])
        if method == "retrained":
            return self._maps_of(self._nearest(self.network.with_more([self.paths[k] for k in examples]).memory))
        shown = self.regions.paint(self._shown(examples, config))
        return suppress(self.base, shown if method == "examples" else both(self.text[group], shown, config.text_weight))

    def _shown(self, examples: Sequence[int], config: ExampleConfig) -> list[Tensor]:
        directions = torch.cat([self._example(k, config) for k in examples])
        return list(probability(self._found, directions, config).split([len(own) for own in self.found]))

    def _example(self, k: int, config: ExampleConfig) -> Tensor:
        """What one image shows as an example ``(T, C)``: its region of highest anomaly, in each position."""
        key = k, config.turned
        if key not in self._known:
            weigh = self.regions.weights[k][int(self.heights[k].argmax())].view
            self._known[key] = shown_directions(self.paths[k], self.network.describe, weigh, self.network.memory, config)
        return self._known[key]

    def _nearest(self, memory: Tensor) -> list[Tensor]:
        return [torch.cdist(patches, memory).amin(1) for patches in self.patches]

    @cached_property
    def _axes(self) -> tuple[Tensor, Tensor]:
        size = (self.base.shape[-2], self.base.shape[-1])
        return axes(lambda distances: resize_map(self.network.maps_of(distances), size), self.descriptors.shape[-2:])

    def _maps_of(self, distances: Sequence[Tensor]) -> Tensor:
        down, across = self._axes
        maps: Tensor = down @ torch.stack(list(distances)).unflatten(1, self.descriptors.shape[-2:]) @ across.T
        return maps


def axes(generate: Callable[[Tensor], Tensor], shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """``(H, h)`` and ``(W, w)`` of a linear operator on maps that works along each axis and keeps constants, such as interpolation and
    Gaussian blur: ``generate(maps) = down @ maps @ across.T``.

    Args:
        generate: ``(n, h, w)`` → ``(n, H, W)``.
        shape: ``(h, w)``.
    """
    height, width = shape
    down = generate(torch.eye(height)[:, :, None].expand(-1, -1, width))[:, :, 0]
    across = generate(torch.eye(width)[:, None, :].expand(-1, height, -1))[:, 0]
    return down.T, across.T


def contests(study: OpenStudy, class_name: str, detectors: Sequence[str] = ("patchcore",)) -> Iterator[Contest]:
    """One class of a study whose maps and similarities have been computed, with the maps of each detector in turn.

    Examples are compared by PatchCore's descriptors and memory, whatever the detector.

    Raises:
        DataError: If the study scores images by anything but the maximum of the raw map.
        PresetError: If the study lacks one of the detectors.
    """
    refuse_other_scores(study, "the contest")
    for detector in detectors:
        if detector not in study.config.detectors:
            raise PresetError(f"studies/{study.name}.yaml: detectors: the contest of examples takes {detector}, which is not among them")
    maps = ClassMaps.of(study, class_name)
    batch, paths, rows = maps.batch(), image_paths(study, class_name), study.rows(class_name, "test")
    network = patchcore_of(study, lambda: model_of(study), class_name)
    descriptors = network.describe(paths)
    differences = [residuals(image, network.memory) for image in descriptors.flatten(2).transpose(1, 2)]
    for detector in detectors:
        base = maps.base(detector)
        regions = find_regions(base, (descriptors.shape[-2], descriptors.shape[-1]), study.config.nand.plus)
        yield Contest(
            class_name,
            rows["group"].to_numpy(),
            base,
            {group: batch.suppression(f"+{group}", detector) for group in maps.groups},
            descriptors,
            network,
            regions,
            region_directions(differences, regions),
            paths,
            rows["type"].tolist(),
            study.config.nand.examples,
        )


def contest(study: OpenStudy, class_name: str) -> Contest:
    """One class with PatchCore's maps: see `contests`."""
    return next(contests(study, class_name))


@dataclass(frozen=True)
class Draw:
    """Examples of a group, and what is left for the evaluation.

    Attributes:
        group: The added group.
        number: Of the draw.
        examples: Positions of the examples.
        groups: ``(N,)`` of all images.
    """

    group: str
    number: int
    examples: list[int]
    groups: np.ndarray

    @property
    def k(self) -> int:
        """How many examples."""
        return len(self.examples)

    @cached_property
    def keep(self) -> np.ndarray:
        """Positions of all other images ``(n,)``."""
        return np.setdiff1d(np.arange(len(self.groups)), self.examples)

    @cached_property
    def own(self) -> np.ndarray:
        """Which of those are of the group ``(n,)``."""
        found: np.ndarray = self.groups[self.keep] == self.group
        return found

    @cached_property
    def label(self) -> np.ndarray:
        """Which of those are of other groups ``(n,)``."""
        found: np.ndarray = ~self.own & (self.groups[self.keep] != "good")
        return found

    def areas(self, before: np.ndarray) -> tuple[float, float]:
        """AUROC in percent before, and of good images against the other groups alone, from scores ``(N,)``."""
        kept = before[self.keep]
        return auroc(self.label, kept), auroc(self.label[~self.own], kept[~self.own])


def draws_of(one: Contestant, ks: Sequence[int] = KS, draws: int = DRAWS) -> Iterator[Draw]:
    """Every draw of one class; groups with fewer than k + `LEAST_LEFT` images are left out at that k."""
    for group in one.added:
        own = np.flatnonzero(one.groups == group)
        for k, number in product([k for k in ks if len(own) >= k + LEAST_LEFT], range(draws)):
            examples = np.random.default_rng([number, k, *group.encode()]).permutation(own)[:k].tolist()
            yield Draw(group, number, examples, one.groups)
