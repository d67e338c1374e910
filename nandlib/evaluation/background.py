"""Does a detector look at the defect? What it makes of the places of a defective image where nothing is wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nandlib.data.groups import GOOD
from nandlib.evaluation.controls import dilated
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.scope import known, masks_of, measured
from nandlib.study.class_maps import ClassMaps
from nandlib.study.open_study import OpenStudy

COLUMNS = ["detector", "class", "n_good", "n_defective", "auroc", "auroc_background"]


def background_table(study: OpenStudy, class_name: str) -> pd.DataFrame:
    """Good images against defective ones, by the whole map and by its background alone, for one class and every measured detector.

    The background is what lies outside the masks dilated by `nandlib.evaluation.controls.HALO`; an image's score is the maximum there. A
    detector that sees defects alone has an AUROC of about 50 by it, or less, for a part of a map has lower maxima than a whole one.
    Much more says that defective images differ from good ones elsewhere too (another camera, another compression, a defect larger than its
    mask), so that the AUROC by the whole map is no measure of how well defects are found.

    Returns:
        `COLUMNS`; AUROC in percent. Images whose ground truth is not known, or whose mask leaves no background, take no part; without
        good or defective images there is no row.
    """
    maps, rows = ClassMaps.of(study, class_name), study.rows(class_name)
    places = dilated(masks_of(study, rows, study.config.nand.map_size)).numpy()
    kept = known(rows) & ~places.all((1, 2))
    defective = (rows["group"] != GOOD).to_numpy()[kept]
    found = []
    for detector in measured(study) if defective.any() and not defective.all() else ():
        base = maps.base(detector).numpy()[kept]
        outside = np.where(places[kept], -np.inf, base)
        areas = auroc(defective, base.max((1, 2))), auroc(defective, outside.max((1, 2)))
        found.append((detector, class_name, int((~defective).sum()), int(defective.sum()), *areas))
    return pd.DataFrame(found, columns=COLUMNS)
