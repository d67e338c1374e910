"""A table of README: what became of detectors whose settings were chosen anew."""

from __future__ import annotations

from pathlib import Path

from nandlib.show.scale_tables import markdown
from nandlib.show.style import LABELS
from nandlib.study.frames import read_table

REAL = {"magnetic_tile": "Magnetic Tile", "bottle": "MVTec AD's bottle", "pcb": "circuit boards"}
NAMES = {"mini_detectors": "drawn (mini)", **REAL}


def settings(root: Path) -> str:
    """Ordinary AUROC with the settings of before and with those that came first on the validation products."""
    figures = root / "figures"
    before = read_table(figures / "validation/model/settings_before.csv")  # measured once, with these settings under a preset's `trained`
    tried = read_table(figures / "validation/model/detector_selection.csv").set_index(["detector", "changed"])["auroc_map"].to_dict()
    found = {study: read_table(figures / study / "model/detectors.csv").set_index("detector")["auroc_map"].to_dict() for study in NAMES}
    rows = []
    for (detector, changed), own in before.groupby(["detector", "settings"], sort=False):
        earlier = own.set_index("study")["auroc_map"].to_dict()
        changes = [_change(tried[detector, changed], tried[detector, "{}"])]
        changes += [_change(earlier[study], found[study][detector]) for study in NAMES]
        rows.append([LABELS[str(detector)], f"`{changed}`", *changes])
    return markdown(["detector", "changed from", "validation products", *NAMES.values()], rows)


def _change(before: float, after: float) -> str:
    return f"{before:.1f} → {after:.1f}"
