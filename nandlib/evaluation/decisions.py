"""Decisions, not only ranks: what escapes and what is rejected in vain, at a threshold that no test image has set."""

from __future__ import annotations

import pandas as pd

from nandlib.evaluation.scope import measured
from nandlib.method.threshold import conformal_threshold
from nandlib.study.class_maps import ClassMaps
from nandlib.study.open_study import OpenStudy

FALSE_ALARMS = 0.05  # share of normal images that may be rejected
COLUMNS = [
    *("detector", "class", "added", "threshold", "level", "overkill_good_before", "overkill_good_after"),
    *("overkill_added_before", "overkill_added_after", "escape_before", "escape_after"),
]  # fmt: skip


def decision_table(study: OpenStudy, class_name: str) -> pd.DataFrame:
    """Decisions for one class, `COLUMNS`, in percent; the threshold, fixed before anything is added, stays as it is.

    *Overkill* is the share of images that should pass (good ones, and those of the added group) whose score is above the threshold,
    *escape* the share of images of all other groups whose score is not. The threshold is conformal, ``level`` the share of false alarms
    that it attains: at most 5 % where there are 19 training-normal images or more, and about that for PatchCore, which was fitted on them
    (each is scored without its own patches in the memory). Detectors without stored training-normal maps are left out.
    """
    maps, rows = ClassMaps.of(study, class_name), []
    for detector in measured(study):
        normals = maps.normal_scores(detector)
        if normals is None:
            continue
        threshold, level = conformal_threshold(normals, FALSE_ALARMS)
        own = study.scores.query("detector == @detector and `class` == @class_name")
        for added, part in own.groupby("added", sort=False):
            rejected = {when: part[when] > threshold for when in ("before", "after")}
            good, newly, other = (part["group"] == "good", part["group"] == added, ~part["group"].isin(["good", added]))
            overkill = [100 * float(rejected[when][kind].mean()) for kind in (good, newly) for when in ("before", "after")]
            escape = [100 * float((~rejected[when][other]).mean()) for when in ("before", "after")]
            rows.append((detector, class_name, added, threshold, 100 * level, *overkill, *escape))
    return pd.DataFrame(rows, columns=COLUMNS)
