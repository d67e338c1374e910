"""The contest of texts and examples, for a whole study."""

from __future__ import annotations

import pandas as pd

from nandlib.evaluation.contest import DRAWS
from nandlib.evaluation.kshot import every_detector, kshot
from nandlib.evaluation.result_tables import kshot_summary, kshot_worth
from nandlib.study.open_study import OpenStudy


def write_kshot(study: OpenStudy, draws: int = DRAWS, retrained: int = 1, progress: bool = True) -> pd.DataFrame:
    """Write ``kshot/{kshot,intervals,a2n,masks,summary,worth}.csv``; the summary is returned.

    Args:
        study: Whose maps and similarities have been computed.
        draws: Of examples.
        retrained: How many of them with PatchCore fitted anew.
        progress: Show a progress bar.
    """
    tables = kshot(study, draws, retrained, progress)
    tables |= {"summary": kshot_summary(tables["kshot"]), "worth": kshot_worth(tables["kshot"])}
    for name, table in tables.items():
        study.write_csv(table, f"kshot/{name}.csv")
    return tables["summary"]


def write_detectors(study: OpenStudy, draws: int = DRAWS, progress: bool = True) -> pd.DataFrame:
    """Write ``kshot/detectors.csv``: the summary with one example, for every detector of a study.

    Args:
        study: Whose maps and similarities have been computed.
        draws: Of examples.
        progress: Show a progress bar.
    """
    found = every_detector(study, draws, progress)
    table = pd.concat([kshot_summary(own).assign(detector=name) for name, own in found.items()], ignore_index=True)
    study.write_csv(table, "kshot/detectors.csv")
    return table
