"""The paper's published numbers, what they imply, and ours beside them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from nandlib.data.groups import load_grouping
from nandlib.evaluation.statistics import rank_correlation
from nandlib.settings import RESOURCES

# image AUROC on MVTec AD in their papers (UniAD's: of its repository's checkpoint; its paper says 96.5)
# PBAS's epoch was selected on the test set, OneNIP's and UniAD's evaluation looked at it
PUBLISHED_A0 = {"aprilgan": 86.1, "winclip_0": 91.8, "winclip_1": 93.1, "patchcore": 99.1} | {
    "uniad": 96.7,
    "onenip": 98.0,
    "pbas": 99.8,
    "pradot": 97.3,
}


@cache
def _resource(name: str) -> pd.DataFrame:
    return pd.read_csv(RESOURCES / "paper" / f"{name}.csv")


def table2() -> pd.DataFrame:
    """Table 2 as printed: class, group, auroc_before, auroc_after (percent, one decimal).

    Rows with group ``average`` are the class means; the row with class ``average`` is the mean over classes.
    """
    return _resource("table2").copy()


def table3() -> pd.DataFrame:
    """Table 3, as far as it is known here: detector, auroc_before, auroc_after (percent; missing where not known)."""
    return _resource("table3").copy()


def deltas() -> pd.DataFrame:
    """The groups of Table 2 with their delta: class, group, auroc_before, auroc_after, delta."""
    table = table2()
    table = table[table["group"] != "average"].reset_index(drop=True)
    return table.assign(delta=(table["auroc_after"] - table["auroc_before"]).round(1))


def published(class_name: str, group: str) -> str:
    """A sentence with the paper's values for one group of MVTec AD; empty if the paper has none."""
    table = deltas()
    row = table[(table["class"] == class_name) & (table["group"] == group)]
    if row.empty:
        return ""
    before, after, delta = row[["auroc_before", "auroc_after", "delta"]].iloc[0]
    return f" The paper, on MVTec AD with APRIL-GAN: {before:.1f} → {after:.1f} ({delta:+.1f})."


def published_overall() -> str:
    """A sentence with the paper's headline: means over classes as printed, groups that improve."""
    table, groups = table2(), deltas()
    mean = table[table["class"] == "average"].iloc[0]
    return (
        f"The paper, on MVTec AD: {mean['auroc_before']:.1f} → {mean['auroc_after']:.1f}, "
        f"{(groups['delta'] > 0).sum()} of {len(groups)} groups improve."
    )


def counts() -> pd.DataFrame:
    """Test images of MVTec AD by the paper's groups: class, group, n_good, n_group."""
    images = _resource("mvtec_ad_test_images").set_index(["class", "type"])["n_images"]
    return pd.DataFrame(
        [
            {"class": c, "group": group, "n_good": images[c, "good"], "n_group": sum(images[c, t] for t in types)}
            for c, groups in (load_grouping("mvtec_ad").classes or {}).items()
            if len(groups) > 1
            for group, types in groups.items()
        ]
    )


def implied_a0(before: pd.DataFrame | None = None) -> pd.DataFrame:
    """The ordinary image AUROC A0 that *before* columns imply, class by class, from the identity of the protocol.

    ``A0 = (Σ_t (n_g + n_t)(N - n_t) AUROC_t - Σ_{t<s} n_t n_s) / ((G - 1) n_g N)``

    Args:
        before: class, group, auroc_before, n_good, n_group; None: the paper's Table 2 on MVTec AD.

    Returns:
        class, a0 (percent), rounding: by how much a0 may be off if `before` was rounded to 0.1.
    """
    table = deltas().merge(counts(), on=["class", "group"]) if before is None else before
    rows = []
    for class_name, part in table.groupby("class", sort=False):
        weights, pairs, scale = _identity(part)
        a0 = (weights @ part["auroc_before"].to_numpy() - 100 * pairs) / scale
        rows.append({"class": class_name, "a0": a0, "rounding": 0.05 * weights.sum() / scale})
    return pd.DataFrame(rows)


def _identity(part: pd.DataFrame) -> tuple[np.ndarray, float, float]:
    """Weights of the groups' AUROC, pairs of anomalous images of two groups, and the factor of A0."""
    n_good, n = int(part["n_good"].iloc[0]), part["n_group"].to_numpy()
    total = n.sum()
    return (n_good + n) * (total - n), float(total**2 - (n**2).sum()) / 2, float((len(n) - 1) * n_good * total)


def a0_of_mean(mean_before: float) -> float:
    """The A0 that a mean over classes implies, if A0 were the same in all classes and a class's groups were equally hard.

    Args:
        mean_before: Mean over the paper's 14 classes of AUROC before (percent).
    """
    slopes, offsets = [], []
    for _, part in counts().groupby("class"):
        weights, pairs, scale = _identity(part)
        slopes.append(scale / weights.sum())
        offsets.append(100 * pairs / weights.sum())
    return float((mean_before - np.mean(offsets)) / np.mean(slopes))


def baselines() -> pd.DataFrame:
    """Table 3's *before* values with the A0 that they imply and the one that the detectors' own papers publish.

    Returns:
        detector, auroc_before, implied_a0, published_a0 (percent; NaN: five-shot WinCLIP is not published).
    """
    known = table3()
    return pd.DataFrame(
        {
            "detector": known["detector"],
            "auroc_before": known["auroc_before"],
            "implied_a0": known["auroc_before"].map(a0_of_mean),
            "published_a0": known["detector"].map(PUBLISHED_A0),
        }
    )


def comparison(ours: pd.DataFrame) -> pd.DataFrame:
    """Ours beside the paper's, for the groups that both have.

    Args:
        ours: `nandlib.evaluation.protocol.delta_table` of any detectors.

    Returns:
        table (2 or 3), detector, class, group, and for before, after and delta: ours, paper, difference (points). Table 2 is
        APRIL-GAN by group; Table 3 is the mean over classes by detector, given only where ours has all of the paper's classes.
    """
    theirs, columns = deltas(), ["auroc_before", "auroc_after", "delta"]
    own = ours[ours["detector"] == "aprilgan"].merge(theirs, on=["class", "group"], suffixes=("_ours", "_paper")).assign(table=2)
    parts = [own]
    if set(ours["class"]) == set(theirs["class"]):
        means = ours.groupby(["detector", "class"])[columns].mean().groupby("detector").mean().reset_index()
        paper = table3().assign(delta=lambda t: t["auroc_after"] - t["auroc_before"])
        mean = means.merge(paper, on="detector", suffixes=("_ours", "_paper"))
        parts.append(mean.assign(table=3, group="average", **{"class": "average"}))
    joined = pd.concat(parts, ignore_index=True)
    values: dict[str, pd.Series] = {}
    for column in columns:
        name = column.removeprefix("auroc_")
        values |= {f"ours_{name}": joined[f"{column}_ours"], f"paper_{name}": joined[f"{column}_paper"]}
        values[f"difference_{name}"] = joined[f"{column}_ours"] - joined[f"{column}_paper"]
    return joined[["table", "detector", "class", "group"]].assign(**values)


def by_class(compared: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """Class means of a `comparison` of Table 2, and the A0 that the paper's scores must have had beside ours.

    Args:
        compared: From `comparison`.
        base: `nandlib.evaluation.protocol.base_table`.

    Returns:
        class, n_groups, ours and paper before, after and delta (means over the groups), paper_a0, ours_a0 (percent).
    """
    own = compared[compared["table"] == 2]
    values = [f"{who}_{what}" for what in ("before", "after", "delta") for who in ("ours", "paper")]
    table = own.groupby("class", sort=False)[values].mean()
    table.insert(0, "n_groups", own.groupby("class", sort=False).size())
    implied = implied_a0().set_index("class")["a0"].rename("paper_a0")
    mine = base[base["detector"] == "aprilgan"].set_index("class")["auroc"].rename("ours_a0")
    return table.join(implied).join(mine).reset_index()


def agreement(compared: pd.DataFrame) -> dict[str, float]:
    """How far Table 2 of ours agrees with the paper's: number of groups, rank correlations with their intervals, mean absolute
    differences, signs."""
    own = compared[compared["table"] == 2]
    found: dict[str, float] = {"n_groups": len(own)}
    for what in ("before", "after", "delta"):
        ours, theirs = own[f"ours_{what}"], own[f"paper_{what}"]
        names = (f"spearman_{what}{end}" for end in ("", "_low", "_high"))
        found |= zip(names, rank_correlation(ours, theirs), strict=True)
        found[f"mean_absolute_difference_{what}"] = float((ours - theirs).abs().mean())
    found["same_sign"] = int((np.sign(own["ours_delta"]) == np.sign(own["paper_delta"])).sum())
    return found
