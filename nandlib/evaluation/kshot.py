"""How many images is a text worth? Text, examples, both, and a memory with the same examples, on one set of images.

For every group k of its images are drawn as examples and leave the evaluation, for every method alike. Then, as in the protocol, label 0
is good and the rest of the group, 1 the other groups.

- ``nothing``: the unchanged detector;
- ``text``: the study's phrases, by its rule;
- ``examples``: `nandlib.method.examples`, without masks: the detector itself says where;
- ``both``: text and examples, odds multiplied;
- ``bank``: PatchCore's memory continued with the examples: its greedy choice goes on among their patches, at the same share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.detectors.patchcore import PatchCore
from nandlib.evaluation.protocol import auroc
from nandlib.method.config import ExampleConfig
from nandlib.method.examples import both, directions, probability
from nandlib.method.operators import resize_map
from nandlib.method.plus import Regions, find_regions
from nandlib.study.class_maps import ClassMaps
from nandlib.study.images import image_paths
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

KS, DRAWS, LEAST_LEFT = (1, 2, 4, 8, 16), 10, 4  # images of a group that must be left for the evaluation
METHODS = ("nothing", "text", "examples", "both", "bank")
COLUMNS = ["class", "group", "k", "draw", "method", "auroc_before", "auroc_after", "auroc_others"]


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
    config: ExampleConfig = ExampleConfig()

    @cached_property
    def heights(self) -> list[Tensor]:
        """The peak of every region, image by image."""
        parts = zip(self.base, self.regions.labels, self.found, strict=True)
        return [torch.from_numpy(ndimage.maximum(single.numpy(), labels, np.arange(len(own)))) for single, labels, own in parts]

    @cached_property
    def patches(self) -> Tensor:
        """``(N, P, C)``."""
        return self.descriptors.flatten(2).transpose(1, 2)

    @cached_property
    def distances(self) -> Tensor:
        """``(N, P)`` of the patches to the memory."""
        return torch.stack([torch.cdist(image, self.network.memory).amin(1) for image in self.patches])

    def scores(self, method: str, group: str, examples: Sequence[int]) -> np.ndarray:
        """Image scores ``(N,)`` by one method with `examples`, positions of images of `group`."""
        if method == "nothing":
            return self.base.amax((1, 2)).numpy()
        if method == "text":
            return (self.base * (1 - self.text[group])).amax((1, 2)).numpy()
        if method == "bank":
            return self._bank(examples)
        shown = torch.stack([self.found[k][int(self.heights[k].argmax())] for k in examples])
        sup = [probability(own, shown, self.config) for own in self.found]
        if method == "examples":
            return np.array([float((height * (1 - own)).max()) for height, own in zip(self.heights, sup, strict=True)])
        return (self.base * (1 - both(self.text[group], self.regions.paint(sup)))).amax((1, 2)).numpy()

    def _bank(self, examples: Sequence[int]) -> np.ndarray:
        new = self.patches[list(examples)].flatten(0, 1)
        added = new[continued(new, self.distances[list(examples)].flatten(), self.network.ratio)]
        pairs = zip(self.distances, self.patches, strict=True)
        distances = torch.stack([torch.minimum(old, torch.cdist(patches, added).amin(1)) for old, patches in pairs])
        maps = self.network.maps_of(distances.unflatten(1, self.descriptors.shape[-2:]))
        return resize_map(maps, (self.base.shape[-2], self.base.shape[-1])).amax((1, 2)).numpy()


def continued(new: Tensor, distances: Tensor, ratio: float) -> list[int]:
    """Greedy k-centre choice that goes on from a memory: positions of ``⌊ratio · n⌋`` of ``(n, C)`` patches, the farthest first.

    Args:
        new: Patches.
        distances: ``(n,)`` of each to the memory.
        ratio: Share that is kept.
    """
    nearest, chosen = distances.clone(), list[int]()
    for _ in range(int(ratio * len(new))):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, torch.linalg.norm(new - new[chosen[-1]], dim=1))
    return chosen


def contest(study: OpenStudy, class_name: str) -> Contest:
    """One class of a study whose maps and similarities have been computed."""
    maps = ClassMaps.of(study, class_name)
    base, batch = maps.base("patchcore"), maps.batch()
    network = PatchCore(model_of(study), image_paths(study, class_name, "train"), study.config.patchcore)
    descriptors = network.describe(image_paths(study, class_name))
    regions = find_regions(base, (descriptors.shape[-2], descriptors.shape[-1]), study.config.nand.plus)
    return Contest(
        class_name,
        study.rows(class_name, "test")["group"].to_numpy(),
        base,
        {group: batch.suppression(f"+{group}", "patchcore") for group in maps.groups},
        descriptors,
        network,
        regions,
        directions(descriptors, network.memory, regions),
        study.config.nand.examples,
    )


def rows(one: Contest, ks: Sequence[int] = KS, draws: int = DRAWS) -> Iterator[tuple[str, str, int, int, str, float, float, float]]:
    """Every draw of one class, `COLUMNS`; groups with fewer than k + `LEAST_LEFT` images are left out at that k."""
    for group in one.text:
        own = np.flatnonzero(one.groups == group)
        fixed = {method: one.scores(method, group, ()) for method in ("nothing", "text")}  # whatever the examples
        for k, draw in product([k for k in ks if len(own) >= k + LEAST_LEFT], range(draws)):
            examples = np.random.default_rng([draw, k, *group.encode()]).permutation(own)[:k].tolist()
            keep = np.setdiff1d(np.arange(len(one.groups)), examples)
            label, alone = ~np.isin(one.groups[keep], ("good", group)), one.groups[keep] != group
            before = fixed["nothing"][keep]
            marks = auroc(label, before), auroc(label[alone], before[alone])
            for method in METHODS:
                scores = fixed[method] if method in fixed else one.scores(method, group, examples)
                yield one.class_name, group, k, draw, method, marks[0], auroc(label, scores[keep]), marks[1]


def kshot_table(study: OpenStudy, ks: Sequence[int] = KS, draws: int = DRAWS, progress: bool = True) -> pd.DataFrame:
    """The contest of a whole study: `COLUMNS`, a row a class, group, k, draw and method; AUROC in percent."""
    classes = tqdm(study.classes(), desc="k-shot", disable=not progress)
    return pd.DataFrame([row for name in classes for row in rows(contest(study, name), ks, draws)], columns=COLUMNS)
