"""What suppression does beyond a mean AUROC: controls in place of the text, a mask oracle, and where the score goes, by pixel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from anomalib.metrics.aupro import _AUPRO as AUPRO
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import roc_auc_score
from torch import Tensor

from nandlib.data.manifest import load_mask
from nandlib.evaluation.protocol import class_averages, delta_table
from nandlib.evaluation.uncertainty import share
from nandlib.method.operators import resize_map, suppress
from nandlib.study.class_maps import ClassMaps, score_frame
from nandlib.study.open_study import OpenStudy

MEASURED = ("aprilgan", "patchcore")  # the detector that reads text, and the one that does not
ORACLE = "mask oracle"
HALO = 0.1  # of the map's side: by how much the oracle's masks are dilated, since a map is blurred around a defect
PIXEL_SIDE = 64  # side of maps and masks where pixels are ranked
CONTROL_COLUMNS = ["detector", "control", "auroc_before", "auroc_after", "delta", "share", "n_improved", "n_groups"]
SELECTIVITY_COLUMNS = ["detector", "class", "text", "group", "removed", "n_images"]
RETRIEVAL_COLUMNS = ["detector", "class", "text", "retrieval_auroc"]
PIXEL_COLUMNS = ["detector", "class", "added", "pixel_before", "pixel_after", "aupro_before", "aupro_after"]


def measured(study: OpenStudy) -> list[str]:
    """The detectors of a study that are measured: `MEASURED`, or its first where it has none of them."""
    own = [name for name in MEASURED if name in study.config.detectors]
    return own or list(study.config.detectors[:1])


def masks_of(study: OpenStudy, rows: pd.DataFrame, side: int) -> Tensor:
    """Ground truth of images ``(n, side, side)``, bool; False everywhere for good images."""
    empty = np.zeros((side, side), bool)
    return torch.from_numpy(np.stack([load_mask(study.images / name, (side, side)) if name else empty for name in rows["mask"]]))


def oracle(masks: Tensor, added: np.ndarray) -> Tensor:
    """A_sup of the mask oracle ``(n, S, S)``: 1 in the dilated masks of images of the added group, else 0.

    Args:
        masks: ``(n, S, S)``, bool.
        added: ``(n,)``, whether an image is of the added group.
    """
    found = torch.zeros(masks.shape)
    radius = HALO * masks.shape[-1]
    for k in np.flatnonzero(added):
        if masks[k].any():
            found[k] = torch.from_numpy(distance_transform_edt(~masks[k].numpy()) <= radius)
    return found


def controls_of(maps: ClassMaps, group: str) -> dict[str, str]:
    """Control → name of the text that takes the place of the group's own."""
    following = maps.groups[(maps.groups.index(group) + 1) % len(maps.groups)]
    found = {"its text": f"+{group}", "another group's text": f"+{following}"}
    for name in maps.texts:
        if name.startswith("~") and (":" not in name or name.endswith(f":{group}")):
            found[name[1:].split(":")[0]] = name
    return found


def control_scores(study: OpenStudy, class_name: str) -> pd.DataFrame:
    """Image scores of one class with every control: schema `nandlib.evaluation.protocol.SCORES` and a column ``control``."""
    maps, rows = ClassMaps.of(study, class_name), study.rows(class_name)
    parts: dict[tuple[str, str, str], list[Tensor]] = {}
    before: dict[str, list[Tensor]] = {}
    for batch in maps.batches():
        own = rows.iloc[batch.rows]
        masks = masks_of(study, own, study.config.nand.map_size)
        names = dict.fromkeys(text for group in maps.groups for text in controls_of(maps, group).values())
        for detector in measured(study):
            before.setdefault(detector, []).append(batch.score_before(detector))
            after = {name: batch.score_after(name, detector) for name in names}
            for group in maps.groups:
                for control, name in controls_of(maps, group).items():
                    parts.setdefault((detector, group, control), []).append(after[name])
                perfect = suppress(batch.base(detector), oracle(masks, (own["group"] == group).to_numpy()))
                parts.setdefault((detector, group, ORACLE), []).append(maps.score(perfect, batch.rows))
    frames = [
        score_frame(class_name, rows, detector, group, before[detector], scores).assign(control=control)
        for (detector, group, control), scores in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)


def control_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over classes by detector and control, `CONTROL_COLUMNS`; AUROC and share in percent.

    Args:
        scores: Of all classes, from `control_scores`.
    """
    rows = []
    for (detector, control), part in scores.groupby(["detector", "control"], sort=False):
        deltas = delta_table(part.drop(columns="control"))
        means = class_averages(deltas)[["auroc_before", "auroc_after", "auroc_ceiling"]].mean()
        before, after, ceiling = means
        gained = float(share(before, after, ceiling))
        rows.append((detector, control, before, after, after - before, gained, int((deltas["delta"] > 0).sum()), len(deltas)))
    return pd.DataFrame(rows, columns=CONTROL_COLUMNS)


def pixel_measures(study: OpenStudy, class_name: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Where the score goes, by pixel, for one class.

    Returns:
        `SELECTIVITY_COLUMNS`: share of the anomaly score inside the masks of a group that the text of another (or of the group
        itself) removes (percent); `RETRIEVAL_COLUMNS`: pixel AUROC of A_sup inside masks of its own group against those of all
        others (percent; the paper's A_sup is the same for all detectors); `PIXEL_COLUMNS`: pixel AUROC and AUPRO (up to 30 % false
        positives) of the anomalies that remain (all other groups), before and after (percent).
    """
    maps, rows = ClassMaps.of(study, class_name), study.rows(class_name)
    masks = masks_of(study, rows, PIXEL_SIDE)
    selectivity, pixels, retrieval = [], [], []
    for detector in measured(study):
        base, suppression, finals = _small(maps, detector)
        retrieval += [(detector, *row) for row in _retrieval(class_name, rows, masks, suppression)]
        for text, final in finals.items():
            for group in maps.groups:
                members = torch.from_numpy((rows["group"] == group).to_numpy(copy=True))
                inside = masks & members[:, None, None]
                if inside.any():
                    removed = 100 * (1 - float(final[inside].double().sum() / base[inside].double().sum()))
                    selectivity.append((detector, class_name, text, group, removed, int(members.sum())))
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


def _small(maps: ClassMaps, detector: str) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """A, and by added group A_sup and A_final, of all images at `PIXEL_SIDE`."""

    def small(full: Tensor) -> Tensor:
        return resize_map(full, (PIXEL_SIDE, PIXEL_SIDE))

    base: list[Tensor] = []
    suppression: dict[str, list[Tensor]] = {group: [] for group in maps.groups}
    for batch in maps.batches():
        base.append(small(batch.base(detector)))
        for group, parts in suppression.items():
            parts.append(small(batch.suppression(f"+{group}", detector)))
    before, joined = torch.cat(base), {group: torch.cat(parts) for group, parts in suppression.items()}
    return before, joined, {group: suppress(before, sup) for group, sup in joined.items()}


def _aupro(target: Tensor, maps: Tensor) -> float:
    """Area under the per-region overlap curve in percent, anomalib's."""
    metric = AUPRO()
    metric.update(maps, target.int())
    return 100 * float(metric.compute())


def _retrieval(class_name: str, rows: pd.DataFrame, masks: Tensor, suppression: dict[str, Tensor]) -> Iterator[tuple[str, str, float]]:
    group = rows["group"].to_numpy()
    for text, sup in suppression.items():
        own = sup[masks & torch.from_numpy(group == text)[:, None, None]].numpy()
        other = sup[masks & torch.from_numpy(group != text)[:, None, None]].numpy()
        if len(own) and len(other):
            label = np.r_[np.ones(len(own)), np.zeros(len(other))]
            yield class_name, text, 100 * float(roc_auc_score(label, np.r_[own, other]))
