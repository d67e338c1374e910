"""The tables of the project's pages, written from the committed csv files: between ``<!-- table: name -->`` and ``<!-- end -->``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from nandlib.show import contest_tables, detector_tables, scale_tables
from nandlib.show.comparison import comparison
from nandlib.show.detector_tables import DRAWN, NAMES, REAL, gained, improved, over_products
from nandlib.show.style import LABELS
from nandlib.study.frames import read_table

PAGES = ("README.md", "REPRODUCING.md", "SCALE.md", "nandlib/models/MODEL_CARD.md")
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
RULES = {
    "nand": "the paper's rule",
    "plus": "`nand_plus`",
    "known": "`nand_plus`, closed world",
    "open": "`nand_plus`, half of the names wrong",
}
MOST_LOSS = 1.0  # points on the validation products that the disjoint model may lose and still be the default
MODELS = {"mini": "shared (the default)", "mini_disjoint": "disjoint"}


def _read(root: Path, name: str) -> pd.DataFrame:
    return read_table(root / "figures" / name)


def _spread(row: pd.Series, name: str, form: str = ".1f", sign: str = "") -> str:
    return f"{row[name]:{sign}{form}} ± {row[f'{name}_sd']:{form}}"


def _results(root: Path) -> str:
    means, origins = _read(root, "mini/detectors.csv"), _read(root, "mini/origins.csv").set_index(["detector", "origin"])
    rows = []
    for row in means.to_dict("records"):
        parts = [row, *(dict(origins.loc[(row["detector"], origin)]) for origin in ("shared_primitive", "product_specific"))]
        cells = [over_products(pd.Series(part)) for part in parts]
        rows.append([LABELS[row["detector"]], f"{row['auroc_before']:.1f} → {row['auroc_after']:.1f}", *cells])
    head = [
        "detector",
        "AUROC, mean over classes",
        "gain, mean over classes",
        "mean of groups whose defects are drawn by what also drew training images",
    ]
    return scale_tables.markdown([*head, "mean of groups of product-specific defects"], rows)


def _real(root: Path) -> str:
    rows = []
    for study, name in REAL.items():
        if not (root / "figures" / study / "detectors.csv").is_file():
            continue
        means, groups = _read(root, f"{study}/detectors.csv"), _read(root, f"{study}/deltas.csv")
        for row in means[means["detector"].isin(["aprilgan", "patchcore"])].to_dict("records"):
            own = groups[groups["detector"] == row["detector"]]
            ends = [own.loc[own["delta"].idxmax()], own.loc[own["delta"].idxmin()]]
            said = [f"{end['group']} {end['auroc_before']:.1f} → {end['auroc_after']:.1f}" for end in ends]
            closed = "–" if pd.isna(row["gap_closed"]) else f"{row['gap_closed']:.0f} %"
            series = pd.Series(row)
            cells = [f"{row['auroc_before']:.1f} → {row['auroc_after']:.1f}", gained(series), closed, improved(series), *said]
            rows.append([name, LABELS[row["detector"]], *cells])
    return scale_tables.markdown(
        ["images", "detector", "AUROC", "gain", "of the gap", "groups up (better, worse)", "best group", "worst group"], rows
    )


def _heartbeat(root: Path) -> str:
    """`nandlib.stages.signals`: detection of records, and AUROC before and after with one and four examples."""
    found = _read(root, "heartbeat/records.csv").set_index(["part", "detector", "score"])["auroc"]
    shown: dict[tuple[Any, ...], Any] = {
        (row["detector"], row["k"], row["method"]): row for row in _read(root, "heartbeat/summary.csv").to_dict("records")
    }
    rows = []
    for detector in ("nearest_records", "mmae_ecg_style"):
        cells = ["{:.1f}, {:.1f}".format(*(found[part, detector, score] for score in ("mean", "maximum"))) for part in ("untyped", "typed")]
        cells += ["{auroc_before:.1f} → {auroc_after:.1f} ± {sd:.1f}".format(**shown[detector, k, "examples"]) for k in (1, 4)]
        cells.append("{auroc_after:.1f}".format(**shown[detector, 4, "bank"]) if (detector, 4, "bank") in shown else "–")
        rows.append([LABELS[detector], *cells, "{removed_own:.0f} %, {removed_other:.0f} %".format(**shown[detector, 4, "examples"])])
    head = ["detector", "records: AUROC by mean, maximum of A", "beats with types", "one example added", "four", "four into the memory"]
    return scale_tables.markdown([*head, "removed of own, of others (k = 4)"], rows)


def _parts(root: Path) -> str:
    """`nandlib.stages.surfaces`: detection, untuned and tuned, and AUROC before and after with examples, mean over parts."""
    areas = _read(root, "parts/objects.csv").groupby("detector")[["auroc_object", "auroc_point"]].mean()
    found: dict[tuple[Any, ...], Any] = {(row["k"], row["method"]): row for row in _read(root, "parts/summary.csv").to_dict("records")}
    rows = []
    for k in sorted({k for k, _ in found}):
        cells = ["{auroc_before:.1f} → {auroc_after:.1f} ± {sd:.1f}".format(**found[k, method]) for method in ("examples", "bank")]
        cells += ["{removed_own:.0f} %, {removed_other:.0f} %".format(**found[k, method]) for method in ("examples", "bank")]
        rows.append([str(k), *cells])
    areas["kinds"] = _read(root, "parts/types.csv").groupby("detector")["auroc_point"].mean()
    first = "per object {:.1f} → {:.1f}, per point {:.1f} → {:.1f} (mean over kinds of faults {:.1f} → {:.1f})".format(
        *(areas.loc[own, column] for column in ("auroc_object", "auroc_point", "kinds") for own in ("untuned", "tuned"))
    )
    head = ["k", "k parts shown", "k parts into the memory", "removed of own, of others, shown", "in the memory"]
    return f"AUROC before any addition, untuned → tuned on Perlin anomalies: {first}.\n\n{scale_tables.markdown(head, rows)}"


def _trained(root: Path) -> str:
    """`nandlib.show.comparison`: ordinary AUROC, NAND by both rules and with an example, cost."""
    rows = []
    for row in comparison(root / "figures", list(NAMES)).to_dict("records"):
        own = pd.Series(row)
        a0 = f"{row['auroc_any']:.1f}, {row['auroc_official']:.1f}"
        gains = [f"{row['auroc_before']:.1f} → {row['auroc_after']:.1f}", gained(own), improved(own)]
        gains += [f"{row['delta_plus']:+.1f}", f"{row['delta_both']:+.1f}"]
        cost = [f"{row['train_s']:.0f} s", f"{row['image_ms']:.0f} ms ({row['backbone_ratio']:.2f})", f"{row['state_mb']:.1f} MB"]
        published = "–" if pd.isna(row["published"]) else f"{row['published']:.1f}"
        rows.append([NAMES[row["study"]], LABELS[row["detector"]], a0, published, *gains, *cost])
    head = ["images", "detector", "any defect: AUROC by the map, by the official score", "published, MVTec AD", "text added: AUROC", "gain"]
    head += ["groups up (better, worse)", "by `nand_plus`", "with one example too", "to train", "an image (of the bare backbone)", "state"]
    return scale_tables.markdown(head, rows)


def _harm(root: Path) -> str:
    """`nandlib.evaluation.harm`: harmful texts caught, useful ones kept, and of how many nothing is said."""
    rows = []
    for study, name in {"validation": "validation products", "mini": DRAWN, **REAL}.items():
        if not (root / "figures" / study / "measure/harm.csv").is_file():
            continue
        table = _read(root, f"{study}/measure/harm.csv").set_index("images")
        first = table.iloc[0]
        pairs = (f"{first[kind]:.0f} ({first[f'{kind}_texts']:.0f})" for kind in ("harmful", "useful"))
        cells = (f"{row['caught']:.0f} %, {row['kept']:.0f} %, {row['unsaid']:.0f} %" for _, row in table.iterrows())
        rows.append([name, ", ".join(pairs), *cells])
    head = ["texts of", "harmful, useful", "unlabelled rejects: caught, kept, unsaid", "5 accepted and 5 rejected: caught, kept, unsaid"]
    return scale_tables.markdown([*head, "the same, by images that it does not see"], rows)


def _models(root: Path) -> str:
    rows = []
    for study, name in MODELS.items():
        if not (root / "figures" / study / "plus/seed_origins.csv").is_file():
            continue
        seeds, origins = _read(root, f"{study}/plus/seeds.csv"), _read(root, f"{study}/plus/seed_origins.csv")
        for row in seeds[seeds["kind"].isin(["nand", "plus"])].to_dict("records"):
            own = origins[(origins["step"] == row["step"]) & (origins["detector"] == row["detector"])].set_index("origin")
            cells = [f"{row['auroc_before']:.1f}", _spread(pd.Series(row), "delta", sign="+")]
            cells += [_spread(own.loc[origin], "delta", sign="+") for origin in ("shared_primitive", "product_specific")]
            rows.append([name, LABELS[row["detector"]], RULES[row["kind"]], *cells])
    head = [
        "model",
        "detector",
        "rule",
        "before",
        "Δ, mean over classes",
        "Δ, groups with a shared primitive (35)",
        "Δ, product-specific (21)",
    ]
    return scale_tables.markdown(head, rows)


def _choice(root: Path) -> str:
    rows, after = [], dict[tuple[str, str], float]()
    for study, name in (("validation", "validation products"), ("pcb", "circuit boards")):
        for model, suffix in (("shared", ""), ("disjoint", "_disjoint")):
            means = _read(root, f"{study}{suffix}/detectors.csv").set_index("detector").loc[["aprilgan", "patchcore"]]
            after[study, model] = means["auroc_after"].mean()
            cells = [f"{row['auroc_before']:.1f} → {row['auroc_after']:.1f}" for _, row in means.iterrows()]
            rows.append([name, model, *cells, f"{after[study, model]:.1f}"])
    loss, lower = after["validation", "shared"] - after["validation", "disjoint"], after["pcb", "shared"] - after["pcb", "disjoint"]
    chosen = "disjoint" if loss <= MOST_LOSS and lower <= 0 else "shared"
    table = scale_tables.markdown(["images", "model", "APRIL-GAN", "PatchCore", "mean AUROC after"], rows)
    said = f"The disjoint model loses {loss:.1f} points on the validation products and {lower:.1f} on the boards (of unrounded means)"
    return f"{table}\n{said}: the default is **{chosen}**.\n"


def _plus(root: Path) -> str:
    seeds, one = _read(root, "mini/plus/seeds.csv"), _read(root, "mini/plus/ablation.csv")
    origins = _read(root, "mini/plus/seed_origins.csv")
    rows = []
    for detector, part in seeds[seeds["kind"].isin(RULES)].groupby("detector", sort=False):
        for row in part.to_dict("records"):
            series, same = pd.Series(row), one[(one["step"] == row["step"]) & (one["detector"] == detector)].iloc[0]
            own = origins[(origins["step"] == row["step"]) & (origins["detector"] == detector)].set_index("origin")
            cells = [_spread(series, "delta", sign="+"), _spread(own.loc["shared_primitive"], "delta", sign="+")]
            cells += [_spread(own.loc["product_specific"], "delta", sign="+"), f"{row['n_improved']:.0f} ({same['n_better']:.0f})"]
            cells += [f"{same[name]:.1f} %" for name in ("removed_own", "removed_other", "removed_other_nand")]
            rows.append([f"{LABELS[str(detector)]}: {RULES[row['kind']]}", *cells])
    head = ["three seeds, mean ± sd", "Δ AUROC", "shared primitive", "product-specific", "groups up (significantly)"]
    return scale_tables.markdown([*head, "removed of the added type", "of the others", "the paper's rule at equal strength"], rows)


def _claims(root: Path) -> str:
    means = _read(root, "mini/detectors.csv").set_index("detector")
    origins = _read(root, "mini/origins.csv").set_index(["detector", "origin"])["delta"]
    controls = _read(root, "mini/measure/controls.csv").set_index(["detector", "control"])["delta"]
    ablation = _read(root, "mini/plus/ablation.csv").query("kind == 'plus'").set_index("detector")
    failures, tables = _read(root, "mini/measure/failures.csv"), _read(root, "mini/table1.csv")
    both = ("aprilgan", "patchcore")
    others = controls.drop(index=["its text", "shuffled words", "mask oracle"], level="control")
    counted = f"{tables['class'].nunique()} classes, {tables.groupby(['class', 'group']).ngroups} groups, {len(tables)} types"
    said = "; ".join(f"{LABELS[str(name)]} {row['auroc_before']:.1f} → {row['auroc_after']:.1f}" for name, row in means.iterrows())
    split = "; ".join(
        f"{LABELS[name]} {origins[name, 'shared_primitive']:+.1f} there, {origins[name, 'product_specific']:+.1f} elsewhere"
        for name in both
    )
    its, shuffled = (" and ".join(f"{controls[name, which]:+.1f}" for name in both) for which in ("its text", "shuffled words"))
    plus = ", ".join(f"{float(ablation['delta'][name]):+.1f} ({LABELS[name]})" for name in both)
    lost = " and ".join(f"{float(ablation['removed_other'][name]):.1f} %" for name in both)
    rows = [
        ["Table 1", "`table1@mini`", "table1.csv", counted, "exact ✓"],
        ["Table 3 (and the mean of Table 2)", "`table3@mini`", "detectors.csv", said, "1.0 point ✓"],
        ["the gain sits on defects that are laid over the product", "`protocol@mini`", "origins.csv", split, "1.0 point ✓"],
        [
            "controls lose, shuffled words do not",
            "`measure_notebook@mini`",
            "measure/controls.csv",
            f"its text {its}; shuffled {shuffled}; all others but the mask oracle, which knows the answer, at most {others.max():+.1f}",
            "1.0 point ✓",
        ],
        ["`nand_plus`", "`plus_notebook@mini`", "plus/ablation.csv", f"{plus}; removed from other types {lost}", "1.0 point ✓"],
        ["where it fails", "`failures_notebook@mini`", "measure/failures.csv", f"{len(failures)} group × detector", "5"],
    ]
    linked = [[row[0], row[1], f"[{row[2]}](figures/mini/{row[2]})", *row[3:]] for row in rows]
    return scale_tables.markdown(["claim", "`nand repro …`", "file", "expected", "tolerance"], linked)


def _wordings(root: Path) -> str:
    table = _read(root, "mini/model/wordings.csv")
    rows = []
    for held_out, name in ((True, "held-out phrases"), (False, "training phrases; nearest family without the phrase itself")):
        own = table[table["held_out"].astype(str) == str(held_out)]
        ranked = f"{own['retrieval_auroc'].mean():.1f} ({(own['retrieval_auroc'] > 50).sum()} of {len(own)} above chance)"
        rows.append(
            [f"{name} ({len(own)})", f"{100 * (own['rank'] == 1).mean():.0f} %", f"{100 * (own['rank'] <= 3).mean():.0f} %", ranked]
        )
    head = ["", f"nearest family is its own (of {table['family'].nunique()})", "among the nearest three"]
    return scale_tables.markdown([*head, "ranks patches of its own family above all others (AUROC)"], rows)


def _overlap(root: Path) -> str:
    table = _read(root, "mini/model/overlap.csv")
    rows = [[str(r.study), str(r.model), f"{r.equal} of {r.phrases}", f"{r.contain} of {r.phrases}"] for r in table.itertuples()]
    return scale_tables.markdown(["phrases of", "training words of", "equal a training phrase", "contain one"], rows)


TABLES: dict[str, Callable[[Path], str]] = {
    "kshot": contest_tables.kshot,
    "worth": contest_tables.worth,
    "anew": contest_tables.anew,
    "heartbeat": _heartbeat,
    "parts": _parts,
    "masks": contest_tables.masks,
    "halves": contest_tables.halves,
    "harm": _harm,
    "trained": _trained,
    "trained_origins": detector_tables.trained_origins,
    "settings": detector_tables.settings,
    "results": _results,
    "real": _real,
    "models": _models,
    "plus": _plus,
    "claims": _claims,
    "choice": _choice,
    "wordings": _wordings,
    "overlap": _overlap,
    "rates": scale_tables.rates,
    "memory": scale_tables.memory,
    "coreset": scale_tables.coreset,
    "precision": scale_tables.precision,
    "gpu": scale_tables.gpu,
    "kills": scale_tables.kills,
    "cases": scale_tables.cases,
}


def _blocks(root: Path) -> Iterator[tuple[str, re.Match[str]]]:
    for page in PAGES:
        for block in BLOCK.finditer((root / page).read_text(encoding="utf-8")):
            yield page, block


def stale_tables(root: Path) -> list[tuple[str, str]]:
    """Page and name of every table that is not what the csv files give."""
    return [(page, block[2]) for page, block in _blocks(root) if block[3] != TABLES[block[2]](root)]


def write_tables(root: Path) -> None:
    """Write the tables of all pages anew."""
    for page in PAGES:
        path = root / page
        text = BLOCK.sub(lambda block: block[1] + TABLES[block[2]](root) + block[4], path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
