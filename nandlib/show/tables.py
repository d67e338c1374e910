"""Our tables in the paper's layout."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from nandlib.evaluation import paper
from nandlib.show.style import LABELS


def table2_layout(deltas: pd.DataFrame) -> pd.DataFrame:
    """Ours in the order of the paper's Table 2: the average of each class, then its groups, then the overall mean.

    Args:
        deltas: class, group, auroc_before, auroc_after, delta, auroc_others, origin for one detector.

    Returns:
        Its columns, and the paper's values where class and group are the same.
    """
    values, printed = ["auroc_before", "auroc_after", "delta", "auroc_others"], paper.table2()
    places = printed.reset_index(names="place")[["place", "class", "group"]]
    deltas = deltas.merge(places, on=["class", "group"], how="left").sort_values("place", kind="stable")  # others last, as they come
    means = deltas.groupby("class", sort=False)[values].mean()
    rows = []
    for class_name, part in deltas.groupby("class", sort=False):
        rows.append({"class": class_name, "group": "average", **means.loc[class_name]})
        rows += part[["class", "group", *values, "origin"]].to_dict("records")
    rows.append({"class": "average", "group": "average", **means.mean()})
    table = pd.DataFrame(rows).fillna({"origin": ""})
    if not set(deltas["class"]) & set(printed["class"]):
        return table
    published = printed.rename(columns={"auroc_before": "paper_before", "auroc_after": "paper_after"})
    published = published.assign(paper_delta=(published["paper_after"] - published["paper_before"]).round(1))
    return table.merge(published, on=["class", "group"], how="left")


def with_paper(table3: pd.DataFrame, classes: Iterable[str]) -> pd.DataFrame:
    """Table 3 with the paper's published columns, for a study of the paper's 14 classes; else as it is."""
    if set(classes) != set(paper.deltas()["class"]):
        return table3
    printed = paper.table3().rename(columns={"auroc_before": "paper_before", "auroc_after": "paper_after"})
    return table3.merge(printed, on="detector", how="left")


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """A table in which ``<name>_low`` and ``<name>_high`` are one column ``<name>_ci`` of words, "–" where nothing is known."""
    columns: dict[str, pd.Series] = {}
    for column in map(str, table.columns):
        if column.endswith("_low"):
            name = column.removesuffix("_low")
            ends = zip(table[column], table[f"{name}_high"], strict=True)
            said = ["–" if pd.isna(low) or pd.isna(high) else f"[{low:.1f}, {high:.1f}]" for low, high in ends]
            columns[f"{name}_ci"] = pd.Series(said, table.index)
        elif not column.endswith("_high"):
            columns[column] = table[column]
    return pd.DataFrame(columns)


ORIGINS = {  # `nandlib.evaluation.origin`
    "shared_primitive": "Where a function draws the defect that also drew training images of the embedded model",
    "product_specific": "Where the product itself is drawn otherwise, by code that no training image has seen",
    "given": "On images that are not drawn",
}


def origin_sentence(origins: pd.DataFrame, detector: str) -> str:
    """Mean Δ over the groups of each origin, for one detector, in words; empty where there is only one origin.

    Args:
        origins: `nandlib.evaluation.uncertainty.origin_table`.
        detector: Its name.
    """
    rows = origins[origins["detector"] == detector]
    if len(rows) < 2:
        return ""
    said = (
        f"{ORIGINS[str(row['origin'])]}: **{row['delta']:+.1f}** points ({between(row)}), {row['n_improved']} of "
        f"{row['n_groups']} groups up, {row['n_better']} significantly better, {row['n_worse']} worse."
        for _, row in rows.iterrows()
    )
    return " ".join(said)


def between(row: pd.Series) -> str:
    """The 95 % interval of Δ over images, in words."""
    if pd.isna(row["delta_low"]):
        return "no interval: a class has one good image"
    return f"95 % interval over images {row['delta_low']:+.1f} to {row['delta_high']:+.1f}"


def most_and_least(table: pd.DataFrame) -> str:
    """Which detectors a text helps most and least, in words.

    Args:
        table: `nandlib.evaluation.uncertainty.detector_summary`.
    """
    said = [
        f"{LABELS[row.detector]}: {row.delta:+.1f} points ({between(row)}; "
        f"{row.n_improved} of {row.n_groups} groups up, {row.n_better} significantly)"
        for _, row in table.loc[[table["delta"].idxmax(), table["delta"].idxmin()]].iterrows()
    ]
    return f"The text does most for {said[0]}, and least for {said[1]}." if len(table) > 1 else f"{said[0]}."


def over_classes(row: pd.Series, count: int) -> str:
    """What a mean Δ says of other products than the study's, in words.

    Args:
        row: Of `nandlib.evaluation.uncertainty.uncertainty`'s second table.
        count: Number of classes.
    """
    if count < 2:
        return "The interval is over images of this one product: of others nothing is known."
    ends = f"{row['classes_low']:+.1f} to {row['classes_high']:+.1f}"
    return (
        f"The interval is over images of these {count} products; over products it is {ends}, and the signs of Δ, those of a class "
        f"together, flip by chance this far with p = {row['p_groups']:.2g} (no less than {2.0 ** (1 - count):.2g} of {count} classes)."
    )


def gap_closed(row: pd.Series) -> str:
    """The share of the gap that is closed (`nandlib.evaluation.uncertainty.gap_closed`), in words; ``row`` may have its interval."""
    if pd.isna(row["gap_closed"]):
        return "the gap is too small, or not clear, for a share of it"
    between = f" [{row['gap_closed_low']:.0f}, {row['gap_closed_high']:.0f}]" if "gap_closed_low" in row else ""
    return f"{row['gap_closed']:.0f}% of the gap{between}"


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """A table to one decimal; what rounds to nothing has no sign."""
    return table.assign(**{str(column): table[column].round(1) + 0.0 for column in table.select_dtypes("float")})


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, AUROC to one decimal, counts as they are."""
    shown = rounded(table)
    for column in shown.select_dtypes("float"):
        shown[column] = shown[column].map(lambda v: "–" if pd.isna(v) else f"{v:.1f}")
    return shown.to_markdown(index=False, disable_numparse=True) + "\n"
