"""A table of README: what became of detectors whose settings were chosen anew."""

from __future__ import annotations

from pathlib import Path

from nandlib.show.scale_tables import markdown
from nandlib.show.style import LABELS
from nandlib.study.frames import read_table

IMAGES = "validation products", "drawn (mini)", "circuit boards", "Magnetic Tile", "MVTec AD's bottle"  # validation, then as in the file


def settings(root: Path) -> str:
    """Ordinary AUROC with the settings of before and with those that came first on the validation products."""
    figures = root / "figures"
    before = read_table(figures / "validation/model/settings_before.csv")  # measured once, with these settings under a preset's `trained`
    tried = read_table(figures / "validation/model/detector_selection.csv").set_index(["detector", "changed"])["auroc_map"]
    found = {
        study: read_table(figures / study / "model/detectors.csv").set_index("detector")["auroc_map"] for study in before["study"].unique()
    }
    rows: dict[str, list[str]] = {}
    for study, detector, changed, auroc in before.itertuples(index=False):
        first = [LABELS[detector], f"`{changed}`", _change(tried[detector, changed], tried[detector, "{}"])]
        rows.setdefault(detector, first).append(_change(auroc, found[study][detector]))
    return markdown(["detector", "changed from", *IMAGES], list(rows.values()))


def _change(before: float, after: float) -> str:
    return f"{before:.1f} → {after:.1f}"
