"""The tables of the protocol, and the identity that checks them."""

from __future__ import annotations

import json

from nandlib.evaluation.origin import group_origins
from nandlib.evaluation.protocol import base_table, check_identity, delta_table, identity_residuals, summary
from nandlib.evaluation.uncertainty import detector_summary, origin_table, uncertainty
from nandlib.study.open_study import OpenStudy


def write_protocol(study: OpenStudy) -> None:
    """AUROC before and after of every detector, class and group with intervals and tests, means, and the identity's residuals."""
    scores = study.scores
    deltas, base = delta_table(scores), base_table(scores)
    residuals = identity_residuals(deltas, base, scores)
    check_identity(residuals)
    groups, detectors = uncertainty(scores)
    table = deltas.merge(groups, on=["detector", "class", "group"], validate="one_to_one")
    table["origin"] = table[["class", "group"]].apply(tuple, axis=1).map(group_origins(study))
    study.write_csv(table, "deltas.csv")
    study.write_csv(origin_table(scores, table), "origins.csv")
    study.write_csv(detector_summary(deltas, detectors), "detectors.csv")
    study.write_csv(base, "base_auroc.csv")
    study.write_csv(residuals, "identity.csv")
    metrics = summary(deltas, residuals) | ({"weights": "random"} if study.config.random else {})
    (study.figures / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
