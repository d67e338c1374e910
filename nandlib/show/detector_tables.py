"""Tables of README: what became of detectors whose settings were chosen anew, and where the gain of every detector sits."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nandlib.evaluation.uncertainty import SHARED, SPECIFIC
from nandlib.show.scale_tables import markdown
from nandlib.show.style import IMAGES, LABELS
from nandlib.study.frames import read_table

DRAWN, REAL = IMAGES["mini"], {name: IMAGES[name] for name in ("magnetic_tile", "bottle", "pcb")}
NAMES = {"mini_detectors": DRAWN, **REAL}


def settings(root: Path) -> str:
    """Ordinary AUROC with the settings of before and with those that came first on the validation products."""
    figures = root / "figures"
    before = read_table(figures / "validation/model/settings_before.csv")  # measured once, with these settings under a preset's `trained`
    tried = read_table(figures / "validation/model/detector_selection.csv").set_index(["detector", "changed"])["auroc_map"].to_dict()
    studies = [study for study in NAMES if study in set(before["study"])]
    found = {study: read_table(figures / study / "model/detectors.csv").set_index("detector")["auroc_map"].to_dict() for study in studies}
    rows = []
    for (detector, changed), own in before.groupby(["detector", "settings"], sort=False):
        earlier = own.set_index("study")["auroc_map"].to_dict()
        changes = [_change(tried[detector, changed], tried[detector, "{}"])]
        changes += [_change(earlier[study], found[study][detector]) for study in studies]
        rows.append([LABELS[str(detector)], f"`{changed}`", *changes])
    return markdown(["detector", "changed from", "validation products", *(NAMES[study] for study in studies)], rows)


def _change(before: float, after: float) -> str:
    return f"{before:.1f} → {after:.1f}"


def trained_origins(root: Path) -> str:
    """Gain by the paper's rule on the drawn images, by where the defect comes from (`nandlib.evaluation.origin`)."""
    origins = read_table(root / "figures/mini_detectors/origins.csv")
    shown = read_table(root / "figures/mini_detectors/model/detectors.csv")["detector"]
    rows = []
    for detector in shown:
        own = origins[origins["detector"] == detector].set_index("origin")
        rows.append([LABELS[detector], *(over_products(own.loc[origin]) for origin in (SHARED, SPECIFIC))])
    return markdown(["detector", "defects drawn by what also drew training images", "product-specific defects"], rows)


def gained(row: pd.Series) -> str:
    """Points gained, with the 95 % interval over images."""
    return f"{row['delta']:+.1f} [{row['delta_low']:+.1f}, {row['delta_high']:+.1f}]"


def over_products(row: pd.Series) -> str:
    """The same, with the interval over products beside that over images, and how many groups improve."""
    return f"{gained(row)[:-1]}; products {row['classes_low']:+.1f}, {row['classes_high']:+.1f}], {improved(row)}"


def improved(row: pd.Series) -> str:
    """How many groups improve, and how many are significantly better and worse."""
    return f"{row['n_improved']:.0f} of {row['n_groups']:.0f} ({row['n_better']:.0f}, {row['n_worse']:.0f})"
