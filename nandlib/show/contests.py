"""The figure of several studies: how many images a text is worth, from committed csv files alone."""

from __future__ import annotations

from pathlib import Path

from nandlib.study.open_study import open_study
from nandlib.study.registry import presets


def write_contests(root: Path) -> Path:
    """Write ``figures/kshot.png``: every study whose contest has run."""
    import matplotlib as mpl

    mpl.use("Agg")
    from nandlib.show.contest_charts import kshot_curves
    from nandlib.show.style import IMAGES, save, use_style

    use_style()
    names, known = [path.stem for path in presets(root)], list(IMAGES)
    names.sort(key=lambda name: (known.index(name) if name in known else len(known), name))
    studies = [open_study(name, root) for name in names]
    ran = {IMAGES.get(study.name, study.config.title): study for study in studies if (study.figures / "kshot/intervals.csv").is_file()}
    figure = kshot_curves(*({title: study.kshot(name) for title, study in ran.items()} for name in ("summary", "intervals")))
    path = root / "figures/kshot.png"
    save(figure, path)
    return path
