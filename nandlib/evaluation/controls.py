"""Controls in place of a group's text, and a mask oracle: what suppression does beyond a mean AUROC."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from nandlib.evaluation.scope import known, masks_of, measured
from nandlib.method.operators import suppress
from nandlib.study.class_maps import ClassMaps, score_frame
from nandlib.study.open_study import OpenStudy

ORACLE = "mask oracle"
HALO = 0.1  # of the map's side: by how much the oracle's masks are dilated, since a map is blurred around a defect


def dilated(masks: Tensor, share: float) -> Tensor:
    """Masks ``(n, S, S)``, bool, and what lies within a `share` of the map's side of them."""
    found, radius = torch.zeros_like(masks), share * masks.shape[-1]
    for k in np.flatnonzero(masks.flatten(1).any(1)):
        found[k] = torch.from_numpy(distance_transform_edt(~masks[k].numpy()) <= radius)
    return found


def oracle(masks: Tensor, added: np.ndarray) -> Tensor:
    """A_sup of the mask oracle ``(n, S, S)``: 1 in the dilated masks of images of the added group, else 0.

    Args:
        masks: ``(n, S, S)``, bool.
        added: ``(n,)``, whether an image is of the added group.
    """
    return dilated(masks & torch.tensor(added)[:, None, None], HALO).float()


def controls_of(maps: ClassMaps, group: str) -> dict[str, str]:
    """Control → name of the text that takes the place of the group's own; there is no other group's where there is one group."""
    found = {"its text": f"+{group}"}
    if (following := maps.groups[(maps.groups.index(group) + 1) % len(maps.groups)]) != group:
        found["another group's text"] = f"+{following}"
    for name in (name for name in maps.texts if name.startswith("~")):
        control, _, own = name[1:].partition(":")
        if own in ("", group):
            found[control] = name
    return found


def control_scores(study: OpenStudy, class_name: str) -> pd.DataFrame:
    """Image scores of one class with every control: schema `nandlib.study.frames.SCORES` and a column ``control``.

    The oracle leaves out images of the added group that have no mask, and groups that have none at all.
    """
    maps, rows = ClassMaps.of(study, class_name), study.rows(class_name)
    parts: dict[tuple[str, str, str], list[float]] = {}
    before: dict[str, list[float]] = {}
    for batch in maps.batches():
        own = rows.iloc[batch.rows]
        masks = masks_of(study, own, study.config.nand.map_size)
        names = dict.fromkeys(text for group in maps.groups for text in controls_of(maps, group).values())
        for detector in measured(study):
            before.setdefault(detector, []).extend(batch.score_before(detector))
            after = {name: batch.score_after(name, detector) for name in names}
            for group in maps.groups:
                for control, name in controls_of(maps, group).items():
                    parts.setdefault((detector, group, control), []).extend(after[name])
                perfect = suppress(batch.base(detector), oracle(masks, (own["group"] == group).to_numpy()))
                parts.setdefault((detector, group, ORACLE), []).extend(maps.score(perfect, batch.rows))
    frames = []
    for (detector, group, control), scores in parts.items():
        frame = score_frame(class_name, rows, detector, group, before[detector], scores).assign(control=control)
        if control == ORACLE:
            frame = frame[known(rows) | (rows["group"] != group)]
            if group not in set(frame["group"]):
                continue
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
