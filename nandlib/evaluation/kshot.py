"""How many images is a text worth? Text, examples, both, and a memory with the same examples, on one set of images.

For every group k of its images are drawn as examples and leave the evaluation, for every method alike. Then, as in the protocol, label 0
is good and the rest of the group, 1 the other groups.

- ``nothing``: the unchanged detector;
- ``text``: the study's phrases, by its rule;
- ``examples``: `nandlib.method.examples`, without masks: the detector itself says where;
- ``both``: text and examples;
- ``bank``: PatchCore's memory continued with the examples: its greedy choice goes on among their patches, at the same share;
- ``retrained``: PatchCore fitted anew on its normal images and the examples, at k = `RETRAINED_K` only and for the first few draws (a fit
  takes a minute or more).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.detectors.patchcore import PatchCore
from nandlib.errors import DataError
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.statistics import drawn_weights, interval, weighted_auroc
from nandlib.method.config import ExampleConfig
from nandlib.method.examples import both, directions, probability
from nandlib.method.operators import resize_map
from nandlib.method.plus import Regions, find_regions
from nandlib.study.class_maps import ClassMaps
from nandlib.study.images import image_paths
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

KS, DRAWS, LEAST_LEFT = (1, 2, 4, 8, 16), 10, 4  # images of a group that must be left for the evaluation
RETRAINED_K = 4
METHODS = ("nothing", "text", "examples", "both", "bank", "retrained")
COLUMNS = ["class", "group", "k", "draw", "method", "auroc_before", "auroc_after", "auroc_others", "removed_own", "removed_other"]
INTERVALS = ["k", "method", "low", "high", "over_text", "over_text_low", "over_text_high", "over_bank", "over_bank_low", "over_bank_high"]
A2N_COLUMNS = ["class", "group", "k", "method", "auroc_before", "auroc_after", "s_auroc"]


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
    paths: Sequence[Path] = ()
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

    def scores(self, method: str, group: str, examples: Sequence[int], config: ExampleConfig | None = None) -> np.ndarray:
        """Image scores ``(N,)`` by one method with `examples`, positions of images of `group`; `config` in place of the study's."""
        if method == "nothing":
            return self.base.amax((1, 2)).numpy()
        if method == "text":
            return (self.base * (1 - self.text[group])).amax((1, 2)).numpy()
        if method == "bank":
            new = self.patches[list(examples)].flatten(0, 1)
            added = new[continued(new, self.distances[list(examples)].flatten(), self.network.ratio)]
            return self._scores_of(self.network, [torch.minimum(*pair) for pair in zip(self.distances, self._nearest(added), strict=True)])
        if method == "retrained":
            network = self.network.with_more([self.paths[k] for k in examples])
            return self._scores_of(network, self._nearest(network.memory))
        config = config or self.config
        shown = torch.stack([self.found[k][int(self.heights[k].argmax())] for k in examples])
        sup = [probability(own, shown, config) for own in self.found]
        if method == "examples":
            return np.array([float((height * (1 - own)).max()) for height, own in zip(self.heights, sup, strict=True)])
        return (self.base * (1 - both(self.text[group], self.regions.paint(sup), config.text_weight))).amax((1, 2)).numpy()

    def _nearest(self, memory: Tensor) -> list[Tensor]:
        return [torch.cdist(patches, memory).amin(1) for patches in self.patches]

    def _scores_of(self, network: PatchCore, distances: Sequence[Tensor]) -> np.ndarray:
        maps = network.maps_of(torch.stack(list(distances)).unflatten(1, self.descriptors.shape[-2:]))
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


def contests(study: OpenStudy, class_name: str, detectors: Sequence[str] = ("patchcore",)) -> Iterator[Contest]:
    """One class of a study whose maps and similarities have been computed, with the maps of each detector in turn.

    Examples are compared by PatchCore's descriptors and memory, whatever the detector.
    """
    maps = ClassMaps.of(study, class_name)
    batch, paths = maps.batch(), image_paths(study, class_name)
    network = PatchCore(model_of(study), image_paths(study, class_name, "train"), study.config.patchcore)
    descriptors = network.describe(paths)
    for detector in detectors:
        base = maps.base(detector)
        regions = find_regions(base, (descriptors.shape[-2], descriptors.shape[-1]), study.config.nand.plus)
        yield Contest(
            class_name,
            study.rows(class_name, "test")["group"].to_numpy(),
            base,
            {group: batch.suppression(f"+{group}", detector) for group in maps.groups},
            descriptors,
            network,
            regions,
            directions(descriptors, network.memory, regions),
            paths,
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


def draws_of(one: Contest, ks: Sequence[int] = KS, draws: int = DRAWS) -> Iterator[Draw]:
    """Every draw of one class; groups with fewer than k + `LEAST_LEFT` images are left out at that k."""
    for group in one.text:
        own = np.flatnonzero(one.groups == group)
        for k, number in product([k for k in ks if len(own) >= k + LEAST_LEFT], range(draws)):
            examples = np.random.default_rng([number, k, *group.encode()]).permutation(own)[:k].tolist()
            yield Draw(group, number, examples, one.groups)


class KShot:
    """The contest of a whole study, class by class (`add`).

    Args:
        ks: Numbers of examples.
        draws: Of examples.
        retrained: How many of them with a detector trained anew.
        resamples: Test sets of the paired bootstrap over images.
        methods: Of `METHODS`, without the last.
    """

    def __init__(
        self,
        ks: Sequence[int] = KS,
        draws: int = DRAWS,
        retrained: int = 0,
        resamples: int = 1000,
        methods: Sequence[str] = METHODS[:-1],
    ) -> None:
        self.ks, self.draws, self.retrained, self.resamples, self.methods = ks, draws, retrained, resamples, methods
        self._rows: list[tuple[object, ...]] = []
        self._samples: dict[tuple[int, str], list[np.ndarray]] = defaultdict(list)  # one array a group and draw

    def add(self, one: Contest) -> None:
        """One class."""
        weights = drawn_weights(0, one.class_name, one.groups, self.resamples)
        before = one.scores("nothing", "", ())
        text = {group: one.scores("text", group, ()) for group in one.text}
        for draw in draws_of(one, self.ks, self.draws):
            first, alone = draw.areas(before)
            known = {"nothing": before, "text": text[draw.group]}  # whatever the examples
            for method in METHODS if draw.k == RETRAINED_K and draw.number < self.retrained else self.methods:
                after = (known[method] if method in known else one.scores(method, draw.group, draw.examples))[draw.keep]
                removed = 100 * (1 - after / np.maximum(before[draw.keep], 1e-12))
                place = one.class_name, draw.group, draw.k, draw.number, method
                cut = removed[draw.own].mean(), removed[draw.label].mean()
                self._rows.append((*place, first, auroc(draw.label, after), alone, *cut))
                self._samples[draw.k, method].append(weighted_auroc(draw.label, after, weights[:, draw.keep]))

    def table(self) -> pd.DataFrame:
        """`COLUMNS`, a row a class, group, k, draw and method.

        AUROC in percent; how much of the image score of the group's other images, and of other groups', is removed, in percent.
        """
        return pd.DataFrame(self._rows, columns=COLUMNS)

    def intervals(self) -> pd.DataFrame:
        """`INTERVALS`: 95 % intervals of the mean AUROC after, and of its difference from the text's and the memory's, over images.

        Every resampled test set is the same for all methods and draws of a class: differences are paired.
        """
        rows, means = [], {key: np.mean(own, 0) for key, own in self._samples.items() if key[1] != "retrained"}
        for (k, method), own in means.items():
            row: list[object] = [k, method, *interval(own)]
            for rival in ("text", "bank"):
                gain = own - means[k, rival]
                row += [float(gain.mean()), *interval(gain)]
            rows.append(row)
        return pd.DataFrame(rows, columns=INTERVALS)


def a2n_rows(one: Contest) -> Iterator[tuple[str, str, int, str, float, float, float]]:
    """A2N of arXiv 2604.07097 on one class, `A2N_COLUMNS`: the first half of a group's images, by name, are shown, the others are tested.

    S-AUROC: the tested half's scores before (label 1) against after (label 0). It is 100 for a detector that answers 0 to everything,
    so it never stands without the AUROC against the other groups.
    """
    before = one.scores("nothing", "", ())
    for group in one.text:
        own = sorted(np.flatnonzero(one.groups == group).tolist(), key=lambda k: str(one.paths[k]))
        if len(own) < 2:
            continue
        draw = Draw(group, 0, own[: len(own) // 2], one.groups)
        for method in METHODS[:-1]:
            after = one.scores(method, group, draw.examples)[draw.keep]
            tested = np.r_[before[draw.keep][draw.own], after[draw.own]]
            moved = auroc(np.repeat([True, False], len(tested) // 2), tested)
            yield one.class_name, group, draw.k, method, draw.areas(before)[0], auroc(draw.label, after), moved


def kshot(study: OpenStudy, draws: int = DRAWS, retrained: int = 0, progress: bool = True) -> dict[str, pd.DataFrame]:
    """The contest of a whole study whose maps and similarities have been computed.

    Returns:
        ``kshot`` (`KShot.table`), ``intervals`` (`KShot.intervals`) and ``a2n`` (`A2N_COLUMNS`).

    Raises:
        DataError: If no group has images enough for one example.
    """
    counts = study.manifest.query("split == 'test' and group not in ('good', '')").groupby(["class", "group"]).size()
    if counts.max() < min(KS) + LEAST_LEFT:
        raise DataError(f"the largest group of {study.name} has {counts.max()} images: the contest needs {min(KS) + LEAST_LEFT} or more")
    found, halves = KShot(draws=draws, retrained=retrained), []
    for name in tqdm(study.classes(), desc="k-shot", disable=not progress):
        one = contest(study, name)
        found.add(one)
        halves += list(a2n_rows(one))
    return {"kshot": found.table(), "intervals": found.intervals(), "a2n": pd.DataFrame(halves, columns=A2N_COLUMNS)}


def every_detector(study: OpenStudy, draws: int = DRAWS, progress: bool = True) -> dict[str, pd.DataFrame]:
    """Detector → `COLUMNS` with one example: nothing, text, example, both. ``bank`` is PatchCore's own and left out."""
    found = {name: KShot((1,), draws, resamples=1, methods=METHODS[:4]) for name in study.config.detectors}
    for class_name in tqdm(study.classes(), desc="one example", disable=not progress):
        for own, one in zip(found.values(), contests(study, class_name, list(found)), strict=True):
            own.add(one)
    return {name: own.table() for name, own in found.items()}
