"""Where the score goes, by pixel: what each text removes inside the masks of each group."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from anomalib.metrics import AUPRO
from sklearn.metrics import roc_auc_score
from torch import Tensor

from nandlib.evaluation.scope import known, masks_of, measured
from nandlib.method.operators import resize_map, suppress
from nandlib.study.class_maps import ClassMaps
from nandlib.study.open_study import OpenStudy

PIXEL_SIDE = 64  # side of maps and masks where pixels are ranked
SELECTIVITY_COLUMNS = ["detector", "class", "text", "group", "removed", "n_images"]
RETRIEVAL_COLUMNS = ["detector", "class", "text", "retrieval_auroc"]
PIXEL_COLUMNS = ["detector", "class", "added", "pixel_before", "pixel_after", "aupro_before", "aupro_after"]


def pixel_measures(study: OpenStudy, class_name: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Where the score goes, by pixel, for one class. Images whose ground truth is not known are left out; without any mask there is no row.

    Returns:
        `SELECTIVITY_COLUMNS`: share of the anomaly score inside the masks of a group that the text of another (or of the group
        itself) removes (percent); `RETRIEVAL_COLUMNS`: pixel AUROC of A_sup inside masks of its own group against those of all
        others (percent; the paper's A_sup is the same for all detectors); `PIXEL_COLUMNS`: pixel AUROC and AUPRO (up to 30 % false
        positives) of the anomalies that remain (all other groups), before and after (percent).
    """
    maps, rows = ClassMaps.of(study, class_name), study.rows(class_name)
    kept = known(rows)
    rows = rows[kept]
    masks = masks_of(study, rows, PIXEL_SIDE)
    selectivity, pixels, retrieval = [], [], []
    for detector in measured(study) if masks.any() else ():
        base, suppression, finals = _small(maps, detector, torch.from_numpy(kept))
        retrieval += [(detector, *row) for row in _retrieval(class_name, rows, masks, suppression)]
        for text, final in finals.items():
            for group in maps.groups:
                members = torch.from_numpy((rows["group"] == group).to_numpy(copy=True))
                inside = masks & members[:, None, None]
                if inside.any():
                    selectivity.append((detector, class_name, text, group, removed_inside(base, final, inside), int(members.sum())))
            others = torch.from_numpy((~rows["group"].isin(["good", text])).to_numpy(copy=True))
            target = masks & others[:, None, None]
            if target.any():
                areas = (100 * roc_auc_score(target.flatten(), values.flatten()) for values in (base, final))
                pixels.append((detector, class_name, text, *areas, *(_aupro(target, values) for values in (base, final))))
    return (
        pd.DataFrame(selectivity, columns=SELECTIVITY_COLUMNS),
        pd.DataFrame(retrieval, columns=RETRIEVAL_COLUMNS),
        pd.DataFrame(pixels, columns=PIXEL_COLUMNS),
    )


def removed_inside(before: Tensor, after: Tensor, inside: Tensor) -> float:
    """How much of the anomaly score inside masks is removed, in percent; NaN where there is none.

    Args:
        before, after: Maps ``(n, H, W)``.
        inside: Masks of them, bool.
    """
    return 100 * (1 - float(after[inside].double().sum() / before[inside].double().sum()))


def _small(maps: ClassMaps, detector: str, kept: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """A, and by added group A_sup and A_final, of the images to be `kept` ``(N,)`` at `PIXEL_SIDE`."""

    def small(full: Tensor) -> Tensor:
        return resize_map(full, (PIXEL_SIDE, PIXEL_SIDE))

    base: list[Tensor] = []
    suppression: dict[str, list[Tensor]] = {group: [] for group in maps.groups}
    for batch in maps.batches():
        base.append(small(batch.base(detector)))
        for group, parts in suppression.items():
            parts.append(small(batch.suppression(f"+{group}", detector)))
    before, joined = torch.cat(base)[kept], {group: torch.cat(parts)[kept] for group, parts in suppression.items()}
    return before, joined, {group: suppress(before, sup) for group, sup in joined.items()}


def _aupro(target: Tensor, maps: Tensor) -> float:
    """Area under the per-region overlap curve in percent, anomalib's."""
    metric = AUPRO(fields=["anomaly_map", "gt_mask"])
    metric.update(SimpleNamespace(anomaly_map=maps, gt_mask=target.int()))  # type: ignore[arg-type]  # it asks for these fields alone
    return 100 * float(metric.compute())


def _retrieval(class_name: str, rows: pd.DataFrame, masks: Tensor, suppression: dict[str, Tensor]) -> Iterator[tuple[str, str, float]]:
    group = rows["group"].to_numpy()
    for text, sup in suppression.items():
        own = sup[masks & torch.from_numpy(group == text)[:, None, None]].numpy()
        other = sup[masks & torch.from_numpy(group != text)[:, None, None]].numpy()
        if len(own) and len(other):
            label = np.r_[np.ones(len(own)), np.zeros(len(other))]
            yield class_name, text, 100 * float(roc_auc_score(label, np.r_[own, other]))
