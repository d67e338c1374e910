"""Does a detector look at the defect? What it makes of the places of a defective image that lie far from it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nandlib.data.groups import GOOD
from nandlib.evaluation.controls import dilated
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.scope import known, masks_of, measured
from nandlib.study.class_maps import ClassMaps
from nandlib.study.open_study import OpenStudy

REACH = 0.3  # of the map's side: how far from a mask the background begins
COLUMNS = ["detector", "class", "n_good", "n_defective", "auroc", "auroc_background"]


def background_table(study: OpenStudy, class_name: str) -> pd.DataFrame:
    """Good images against defective ones, by the whole map and by its background alone, for one class and every measured detector.

    The background of a defective image lies farther than `REACH` from its mask. Its score there, the maximum, is compared with those of
    good images at the same places: ``auroc_background`` is the mean over defective images of the share of good ones that are below (ties
    half). A detector that answers to defects where they are has about 50. More says that it answers elsewhere too: it sees far around each
    place, or defective images differ as a whole, by their camera or their compression. Less says that there the good images alarm it more:
    they differ as a whole the other way. Then the AUROC by the whole map is no measure of how well defects are found, too high or too low.

    Returns:
        `COLUMNS`; percent. Images whose ground truth is not known, or whose mask leaves no background, take no part; without good or
        defective images there is no row.
    """
    maps, rows = ClassMaps.of(study, class_name), study.rows(class_name)
    outside = ~dilated(masks_of(study, rows, study.config.nand.map_size), REACH).numpy()
    good = (rows["group"] == GOOD).to_numpy()
    defective = ~good & known(rows) & outside.any((1, 2))
    found, kept = [], good | defective
    for detector in measured(study) if good.any() and defective.any() else ():
        base = maps.base(detector).numpy()
        normal = base[good]
        shares = [_above(base[k], normal, outside[k]) for k in np.flatnonzero(defective)]
        whole = auroc(defective[kept], base[kept].max((1, 2)))
        found.append((detector, class_name, int(good.sum()), int(defective.sum()), whole, float(np.mean(shares))))
    return pd.DataFrame(found, columns=COLUMNS)


def _above(one: np.ndarray, others: np.ndarray, where: np.ndarray) -> float:
    """Percent of the `others` ``(n, H, W)`` whose maximum `where` ``(H, W)`` is true is below that of `one` ``(H, W)`` there."""
    return auroc(np.r_[1, np.zeros(len(others))], np.r_[one[where].max(), others.max((1, 2), where=where, initial=-np.inf)])
