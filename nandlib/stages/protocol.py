"""The tables of the protocol, and the identity that checks them."""

from __future__ import annotations

import json

from nandlib.evaluation.origin import group_origins
from nandlib.evaluation.protocol import check_identity, identity_residuals, summary
from nandlib.evaluation.uncertainty import protocol_tables
from nandlib.study.open_study import OpenStudy


def write_protocol(study: OpenStudy) -> None:
    """AUROC before and after of every detector, class and group with intervals and tests, means, and the identity's residuals."""
    scores = study.scores
    tables = protocol_tables(scores, group_origins(study))
    residuals = identity_residuals(tables["deltas"], tables["base_auroc"], scores)
    check_identity(residuals)
    study.write_scores(scores, "scores.parquet")
    for name, table in (tables | {"identity": residuals}).items():
        study.write_csv(table, f"{name}.csv")
    metrics = summary(tables["deltas"], residuals) | ({"weights": "random"} if study.config.random else {})
    (study.figures / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
