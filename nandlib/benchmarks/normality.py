"""What a normality costs: seconds to add it, seconds an image, bytes kept; by a text, by examples, and by its rivals."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor

from nandlib.data.images import ImageLike
from nandlib.detectors.coreset import continued
from nandlib.detectors.patchcore import PatchCore
from nandlib.evaluation.contest import KS
from nandlib.method.adapt import AdaptedDetector
from nandlib.method.descriptors import Descriptors
from nandlib.method.normality import add_normality
from nandlib.study.images import image_paths
from nandlib.study.model import model_of, placement
from nandlib.study.open_study import OpenStudy

COLUMNS = ["method", "k", "adapt_s", "image_ms", "bytes"]
REPEATS, IMAGES, RETRAINED_K = 3, 8, 4


def _seconds(run: Callable[..., object], *given: object, repeats: int = REPEATS) -> float:
    """The median of some runs."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(*given)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


@torch.no_grad()
def normality_cost(study: OpenStudy, ks: Sequence[int] = KS) -> pd.DataFrame:
    """`COLUMNS` for PatchCore on the study's class with the largest group; one run, so that rows can be compared.

    ``adapt_s``: seconds from a fitted detector to an adapted one; ``image_ms``: milliseconds from a file to its map, the detector's part
    included (row ``nothing``); ``bytes``: what is kept besides the detector. An image of ``bank`` costs the detector's time and that of
    the longer search; ``retrained`` is timed once, at k = `RETRAINED_K`.
    """
    counts = study.manifest.query("split == 'test' and group not in ('good', '')").groupby(["class", "group"]).size()
    class_name, group = cast(tuple[str, str], counts.idxmax())
    paths, groups = image_paths(study, class_name), study.rows(class_name, "test")["group"].to_numpy()
    tested, model = paths[:IMAGES], model_of(study)
    normals = image_paths(study, class_name, "train")
    detector = PatchCore(model, normals, study.resolved(study.config.patchcore), placement(study))
    own = [path for path, name in zip(paths, groups, strict=True) if name == group]
    level = Descriptors(detector, model).level or 0.0
    own = [path for path, single in zip(own, detector(own), strict=True) if single.max() > level]  # an example must show something
    noun, nand = class_name.replace("_", " "), study.config.nand
    phrases = study.prompts.group_phrases(class_name, group, study.test_groups()[class_name][group])

    common: dict[str, Any] = {"model": model, "noun": noun, "prompts": study.prompts, "nand": nand, "normals": normals[:REPEATS]}

    def say() -> Tensor:
        return add_normality(detector, phrases, **common).texts  # encodes them

    def show(examples: Sequence[Path], text: Sequence[str] = ()) -> AdaptedDetector:
        return add_normality(detector, text, examples=examples, **common)

    def rows() -> Iterator[tuple[object, ...]]:
        said = add_normality(detector, phrases, **common)
        text = said.texts[2].numel() * 4
        yield "nothing", 0, 0.0, _seconds(detector, tested), 0
        yield "text", 0, _seconds(say), _seconds(said, tested), text
        for k in [k for k in ks if k <= len(own)]:
            shown, both = show(own[:k]), show(own[:k], phrases)
            both.texts  # noqa: B018 - encoded here, not while images are timed
            kept = sum(examples.numel() * 4 for examples in shown.shown.examples.values())
            took = _seconds(show, own[:k])
            yield "examples", k, took, _seconds(shown, tested), kept
            yield "both", k, took + _seconds(say), _seconds(both, tested), kept + text
            added = _added(detector, own[:k])
            patches = detector.describe(tested).flatten(2).transpose(1, 2).flatten(0, 1)
            longer = _seconds(torch.cdist, patches, torch.cat([detector.memory, added])) - _seconds(torch.cdist, patches, detector.memory)
            yield "bank", k, _seconds(_added, detector, own[:k]), _seconds(detector, tested) + max(0.0, longer), added.numel() * 4
            if k == RETRAINED_K:
                yield "retrained", k, _seconds(detector.with_more, own[:k], repeats=1), _seconds(detector, tested), 0

    table = pd.DataFrame(rows(), columns=COLUMNS)
    return table.assign(adapt_s=table["adapt_s"].round(2), image_ms=(1000 / IMAGES * table["image_ms"]).round(1))


def _added(detector: PatchCore, images: Sequence[ImageLike]) -> Tensor:
    """What the contest's ``bank`` adds to the memory ``(n, C)``."""
    new = detector.describe(images).flatten(2).transpose(1, 2).flatten(0, 1)
    return new[continued(new, torch.cdist(new, detector.memory).amin(1), detector.ratio)]
