"""The paper's published tables, and ours in the paper's layout."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from nandlib.groups import RESOURCES

# The paper's Table 3: AUROC (%) before adding a group, as far as it is known here.
PAPER_TABLE3_BEFORE = {"aprilgan": 70.6, "winclip_0": 65.9, "patchcore": 72.3}
PAPER_TABLE3_AFTER = {"aprilgan": 75.1}


def paper_table2() -> pd.DataFrame:
    """The paper's Table 2 as printed: class, group, auroc_before, auroc_after (percent, one decimal).

    Rows with group ``average`` are the class means; the row with class ``average`` is the mean over classes.
    """
    return pd.read_csv(RESOURCES / "paper" / "table2.csv")


def paper_deltas() -> pd.DataFrame:
    """The groups of the paper's Table 2 with their delta: class, group, auroc_before, auroc_after, delta."""
    table = paper_table2()
    table = table[table["group"] != "average"].reset_index(drop=True)
    return table.assign(delta=(table["auroc_after"] - table["auroc_before"]).round(1))


def published(class_name: str, group: str) -> str:
    """A sentence with the paper's values for one group of MVTec AD; empty if the paper has none."""
    table = paper_deltas()
    row = table[(table["class"] == class_name) & (table["group"] == group)]
    if row.empty:
        return ""
    before, after, delta = row[["auroc_before", "auroc_after", "delta"]].iloc[0]
    return f" The paper, on MVTec AD with APRIL-GAN: {before:.1f} → {after:.1f} ({delta:+.1f})."


def published_overall() -> str:
    """A sentence with the paper's headline: means over classes as printed, groups that improve."""
    table, groups = paper_table2(), paper_deltas()
    mean = table[table["class"] == "average"].iloc[0]
    return (
        f"The paper, on MVTec AD: {mean['auroc_before']:.1f} → {mean['auroc_after']:.1f}, "
        f"{(groups['delta'] > 0).sum()} of {len(groups)} groups improve."
    )


def table2_layout(deltas: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Ours in the order of the paper's Table 2: the average of each class, then its groups, then the overall mean.

    Args:
        deltas: class, group, auroc_before, auroc_after, delta, auroc_ceiling for one detector.
        paper: `paper_table2`; its values are joined where class and group are the same.
    """
    values = ["auroc_before", "auroc_after", "delta", "auroc_ceiling"]
    means = deltas.groupby("class", sort=False)[values].mean()
    rows = []
    for class_name, part in deltas.groupby("class", sort=False):
        rows.append({"class": class_name, "group": "average", **means.loc[class_name]})
        rows += part[["class", "group", *values]].to_dict("records")
    rows.append({"class": "average", "group": "average", **means.mean()})
    table = pd.DataFrame(rows)
    if not set(deltas["class"]) & set(paper["class"]):
        return table
    published = paper.rename(columns={"auroc_before": "paper_before", "auroc_after": "paper_after"})
    published = published.assign(paper_delta=(published["paper_after"] - published["paper_before"]).round(1))
    return table.merge(published, on=["class", "group"], how="left")


def with_paper(table3: pd.DataFrame, classes: Iterable[str]) -> pd.DataFrame:
    """Table 3 with the paper's published columns, for a study of the paper's 14 classes; else as it is."""
    if set(classes) != set(paper_deltas()["class"]):
        return table3
    before, after = table3["detector"].map(PAPER_TABLE3_BEFORE), table3["detector"].map(PAPER_TABLE3_AFTER)
    return table3.assign(paper_before=before, paper_after=after)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, AUROC to one decimal, counts as they are."""
    shown = table.copy()
    for column in shown.select_dtypes("float"):
        shown[column] = shown[column].map(lambda v: "–" if pd.isna(v) else f"{v:.1f}")
    return shown.to_markdown(index=False, disable_numparse=True) + "\n"
