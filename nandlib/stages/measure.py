"""Controls, selectivity, type retrieval, decisions and pairs of a whole study."""

from __future__ import annotations

import pandas as pd
from tqdm.auto import tqdm

from nandlib.evaluation.controls import control_scores, control_table
from nandlib.evaluation.decisions import decision_table
from nandlib.evaluation.pairs import pair_table
from nandlib.evaluation.selectivity import pixel_measures
from nandlib.study.open_study import OpenStudy


def write_measures(study: OpenStudy, progress: bool = True) -> None:
    """All measures of a study, to ``figures/<study>/measure/``."""
    controls, pixels, pairs, decisions = [], [], [], []
    for class_name in tqdm(study.classes(), desc="measure", disable=not progress):
        controls.append(control_scores(study, class_name))
        pixels.append(pixel_measures(study, class_name))
        pairs.append(pair_table(study, class_name))
        decisions.append(decision_table(study, class_name))
    study.write_csv(control_table(pd.concat(controls, ignore_index=True)), "measure/controls.csv")
    for name, parts in zip(("selectivity", "retrieval", "pixels"), zip(*pixels, strict=True), strict=True):
        study.write_csv(pd.concat(parts, ignore_index=True), f"measure/{name}.csv")
    study.write_csv(pd.concat(pairs, ignore_index=True), "measure/pairs.csv")
    study.write_csv(pd.concat(decisions, ignore_index=True), "measure/decisions.csv")
