"""The pages' tables of texts against examples (`nandlib.evaluation.kshot`), from the committed csv files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from nandlib.evaluation.result_tables import kshot_summary
from nandlib.show import scale_tables
from nandlib.show.detector_tables import DRAWN, REAL
from nandlib.show.style import CONTEST
from nandlib.study.frames import read_table


def _read(root: Path, name: str) -> pd.DataFrame:
    return read_table(root / "figures" / name)


def kshot(root: Path) -> str:
    """`nandlib.evaluation.kshot`: AUROC after by k, mean ± sd over draws; how much is removed of other groups at k = 4."""
    ks, rows = (1, 2, 4, 8, 16), []
    drawn = {"mini": {"product_specific": "drawn, product-specific", "shared_primitive": "drawn, shared primitive"}}
    for study, names in ({study: {"": name} for study, name in REAL.items()} | drawn).items():
        if not (root / "figures" / study / "kshot/kshot.csv").is_file():
            continue
        every, origins = _read(root, f"{study}/kshot/kshot.csv"), _read(root, f"{study}/deltas.csv")[["class", "group", "origin"]]
        every = every.merge(origins.drop_duplicates(["class", "group"]), on=["class", "group"], validate="many_to_one")
        for origin, name in names.items():
            table = kshot_summary(every[every["origin"] == origin] if origin else every).set_index(["method", "k"])
            for method, label in ((method, label) for method, label in CONTEST.items() if method in table.index):
                found = table.loc[[method]].droplevel("method").reindex(ks)  # a k without groups: empty
                pairs = found[["auroc_after", "sd"]].to_numpy(float)
                cells = ["–" if np.isnan(after) else f"{after:.1f} ± {sd:.1f}" for after, sd in pairs]
                own, other = found.loc[4, ["removed_own", "removed_other"]].to_numpy(float)
                rows.append([name, label, *cells, "–" if np.isnan(own) else f"{own:.0f} %, {other:.1f} %"])
    return scale_tables.markdown(["images", "what is given", *(f"k = {k}" for k in ks), "removed of own, of others (k = 4)"], rows)


def _contests(root: Path, name: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Label and table ``kshot/<name>.csv`` of every study that has one."""
    for study, label in {**REAL, "mini": DRAWN}.items():
        if (root / "figures" / study / "kshot" / f"{name}.csv").is_file():
            yield label, _read(root, f"{study}/kshot/{name}.csv")


def anew(root: Path) -> str:
    """AUROC after with PatchCore fitted anew, and by the other methods on the same draws."""
    names = {"nothing": CONTEST["nothing"], "examples": CONTEST["examples"], "bank": CONTEST["bank"], "retrained": "PatchCore fitted anew"}
    ks, rows = (1, 2, 4, 8, 16), []
    for label, table in _contests(root, "kshot"):
        drawn = table.loc[table["method"] == "retrained", "draw"].unique()
        means = table[table["draw"].isin(drawn)].groupby(["method", "k"])["auroc_after"].mean()
        for method, name in names.items() if len(drawn) else ():
            found = means[method].reindex(ks)
            rows.append([label, name, *("–" if np.isnan(after) else f"{after:.1f}" for after in found)])
    return scale_tables.markdown(["images", "what is given", *(f"k = {k}" for k in ks)], rows)


def masks(root: Path) -> str:
    """`nandlib.evaluation.kshot.mask_rows`: mean over groups."""
    rows = []
    for label, table in _contests(root, "masks"):
        means = table.groupby(["k", "method"])[["removed_own", "removed_other"]].mean()
        for k in sorted(set(table["k"])):
            cells = ["{:.1f} %, {:.1f} %".format(*means.loc[(k, method)]) for method in ("text", "examples", "both", "bank")]
            rows.append([label, str(k), *cells])
    return scale_tables.markdown(["images", "k", *(CONTEST[method] for method in ("text", "examples", "both", "bank"))], rows)


def worth(root: Path) -> str:
    """`nandlib.evaluation.result_tables.kshot_worth`: how many groups need how many images to do as well as the text."""
    rows = []
    for study, name in {"mini": DRAWN, **REAL}.items():
        if not (root / "figures" / study / "kshot/worth.csv").is_file():
            continue
        table = _read(root, f"{study}/kshot/worth.csv")
        for column, label in (("examples", "examples"), ("bank", "images into PatchCore's memory")):
            counts = [int(chosen.sum()) for chosen in (table[column] == 1, table[column] > 1, table[column].isna())]
            raising = f"{(table['delta_text'] > 0).sum()} of {len(table)}"
            rows.append([name, raising, label, *map(str, counts), f"{table[f'{column}_draws'].mean():.0f} %"])
    head = ["texts of", "raise AUROC", "as good as the text are", "one image", "more", "none that there are", "single draws of one image"]
    return scale_tables.markdown(head, rows)


def halves(root: Path) -> str:
    """`nandlib.evaluation.kshot.a2n_rows`, mean over groups: AUROC after, and S-AUROC."""
    names, rows = ("nothing", "text", "examples", "both", "bank"), []
    for label, table in _contests(root, "a2n"):
        means = table.groupby("method")[["auroc_after", "s_auroc"]].mean()
        cells = ["{:.1f}, {:.1f}".format(*means.loc[name]) for name in names]
        rows.append([label, str(table.groupby(["class", "group"]).ngroups), *cells])
    head = [CONTEST[name].replace("k examples", "examples").replace("k images", "images") for name in names]
    return scale_tables.markdown(["images", "groups", *head], rows)
