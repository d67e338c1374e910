"""Tables of the page about many images (`SCALE.md`), from what benchmarks and campaigns have written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from nandlib.study.frames import read_table

MILLION = 10**6


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)) + "\n"


def rates(root: Path) -> str:
    """Measured rates, and what a million images would take at them."""
    rows = []
    for row in read_table(root / "figures/pcb/model/apply.csv").to_dict("records"):
        hours = MILLION / row["images_s"] / 3600
        rows.append([row["what"], f"{row['images_s']:.1f}", f"{row['ratio']:.2f} × {row['to']}", f"{hours:.0f}"])
    return markdown(["", "images a second", "as a ratio", "hours for a million images"], rows)


def memory(root: Path) -> str:
    """The largest process, by the number of images."""
    found = read_table(root / "figures/pcb/model/scale.csv")
    more = 100 * (found["peak_mb"] / found.groupby("what")["peak_mb"].transform("first") - 1)
    columns = found["what"].astype(str), found["images"], found["peak_mb"], more
    rows = [[what, f"{images:,}", f"{peak:,}", f"{one:+.0f} %"] for what, images, peak, one in zip(*columns, strict=True)]
    return markdown(["what", "images", "largest process, MB", "against fewer"], rows)


def coreset(root: Path) -> str:
    """PatchCore's memory chosen over shards of normal images, against the choice among all of them: means over seeds."""
    found = read_table(root / "figures/pcb/model/coreset.csv")
    luck = found.loc[found["shards"] == 1, "auroc"]
    rows = []
    for shards, part in found.groupby("shards"):
        gap = part["difference"]
        against = (
            f"seeds: {luck.min():.1f} to {luck.max():.1f}" if shards == 1 else f"{gap.mean():+.1f} ({gap.min():+.1f} to {gap.max():+.1f})"
        )
        rows.append([str(shards), f"{part['radius'].mean():.1f}", f"{part['auroc'].mean():.1f}", against])
    return markdown(["shards", "farthest normal patch", "AUROC", "against one shard"], rows)


def precision(root: Path) -> str:
    """Settings of the full-size image tower against its bare float32 pass, on every device that was measured."""
    found = read_table(root / "figures/mvtec_ad_random/model/precision.csv")
    rows = []
    for row in found.to_dict("records"):
        apart = "" if math.isnan(row["difference"]) else f"{row['difference']:.4f}"
        device = row["device"] if row["setting"] == "bare" and row["images"] == 1 else ""
        batch = str(row["images"]) if row["setting"] == "bare" else ""
        rows.append([device, batch, row["setting"], f"{row['seconds']:.3g}", f"{row['ratio']:.2f}", apart])
    apart = "largest difference of maps to float32's (range 0 to 4)"
    return markdown(["device", "images in a batch", "setting", "seconds an image", "of the bare pass", apart], rows)


def gpu(root: Path) -> str:
    """How well images fill a GPU: rates of reading and of `nand apply` at full size, against the bare tower's."""
    found = read_table(root / "figures/mvtec_ad_random/model/gpu.csv")
    rows = [
        [str(size), *(f"{part['images_s'][what]:.0f} ({part['ratio'][what]:.2f})" for what in found["what"].unique())]
        for size, part in ((size, own.set_index("what")) for size, own in found.groupby("batch"))
    ]
    return markdown(["images in a batch", *found["what"].unique()], rows)


def kills(root: Path) -> str:
    """Runs that were killed, and how many ended in the same bytes."""
    found = read_table(root / "figures/kills.csv")
    rows = [[row["what"], row["killed"], str(row["kills"]), f"{row['same_bytes']} of {row['runs']}"] for row in found.to_dict("records")]
    total = ["all", "", str(found["kills"].sum()), f"{found['same_bytes'].sum()} of {found['runs'].sum()}"]
    return markdown(["run", "what was killed", "kills", "runs that ended in the bytes of an undisturbed one"], [*rows, total])


def cases(root: Path) -> str:
    """Damaged and hostile inputs that were tried."""
    found = read_table(root / "figures/fuzz.csv")
    rows = [[row["input"], f"{row['cases']:,}", str(row["failures"])] for row in found.to_dict("records")]
    return markdown(["input", "cases", "failures"], [*rows, ["all", f"{found['cases'].sum():,}", str(found["failures"].sum())]])
