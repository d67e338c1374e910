"""The tables of the protocol, and the identity that checks them."""

from __future__ import annotations

import json

from nandlib.protocol import base_table, check_identity, delta_table, identity_residuals, summary
from nandlib.study import OpenStudy


def write_protocol(study: OpenStudy) -> None:
    """AUROC before and after of every detector, class and group, and the identity's residuals."""
    scores = study.scores
    deltas, base = delta_table(scores), base_table(scores)
    residuals = identity_residuals(deltas, base, scores)
    check_identity(residuals)
    study.figures.mkdir(parents=True, exist_ok=True)
    deltas.to_csv(study.figures / "deltas.csv", index=False)
    base.to_csv(study.figures / "base_auroc.csv", index=False)
    residuals.to_csv(study.figures / "identity.csv", index=False)
    metrics = json.dumps(summary(deltas, residuals), indent=2)
    (study.figures / "metrics.json").write_text(metrics + "\n")
