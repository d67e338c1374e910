"""What a folder of images holds, before anything is computed: layout, types, what is missing, and a page with pictures of every type."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from nandlib.data.config import DataConfig
from nandlib.data.groups import Grouping
from nandlib.data.images import evenly, load_image, load_mask
from nandlib.data.layouts import LAYOUTS, layout_of
from nandlib.data.manifest import build_manifest
from nandlib.errors import DataError

PICTURES, SIDE = 6, 120  # of a type; pixels
FEWEST = 5  # images of a type: below, an AUROC says little
ALWAYS = "always abnormal"


@dataclass(frozen=True)
class DataSheet:
    """What a data set holds.

    Attributes:
        root: Its folder.
        layout: Name of it.
        manifest: `nandlib.data.manifest.MANIFEST`.
        notes: What is odd, each with what to do.
        damaged: Classes that cannot be used, each with why.
    """

    root: Path
    layout: str
    manifest: pd.DataFrame
    notes: list[str]
    damaged: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, root: Path, layout: str = "auto", progress: bool = True) -> DataSheet:
        """Read a folder; images that cannot be read are noted and left out.

        Args:
            root: Of the data set.
            layout: One of `LAYOUTS`; ``auto``: the first that fits.
            progress: Show a bar.

        Raises:
            DataError: If it has no known layout, or no class that can be used: one that holds nothing to train on or no good image to test,
                or of which an address cannot be read, is left out, and named.
        """
        own = layout_of(root, layout)

        def read(classes: Sequence[str] | None) -> tuple[pd.DataFrame, list[str]]:
            given = {"root": root, "layout": own.name, "on_unreadable": "skip", "classes": classes}
            return build_manifest(root, DataConfig.model_validate(given), Grouping("types", None), progress and classes is None)

        try:
            parts, damaged = [read(None)], list[str]()
        except DataError:
            parts, damaged = [], []
            for name in own.classes(root):
                try:
                    parts.append(read([name]))
                except DataError as error:
                    damaged.append(f"class '{name}' cannot be used: {error}")
            if not parts:
                raise
        manifest = pd.concat([frame for frame, _ in parts], ignore_index=True)
        notes = list(dict.fromkeys(note for _, found in parts for note in found))
        return cls(root, own.name, manifest, [*map(_with_advice, notes), *_more(manifest)], damaged)

    @property
    def protocol(self) -> bool:
        """Whether a class has two groups of anomalies or more, as a study needs."""
        groups = self.manifest[~self.manifest["group"].isin(["good", ""])].drop_duplicates(["class", "group"])
        return bool(groups["class"].duplicated().any())

    @property
    def counts(self) -> pd.DataFrame:
        """class, split, type, group, images, masks: a row a class, split and type."""
        frame = self.manifest.assign(has=self.manifest["mask"] != "", group=self.manifest["group"].replace("", ALWAYS))
        grouped = frame.groupby(["class", "split", "type", "group"], sort=False)["has"]
        return grouped.agg(images="size", masks="sum").reset_index()

    def __str__(self) -> str:
        lines = [f"{self.root}: layout {self.layout} ({LAYOUTS[self.layout].described})", "", self.counts.to_string(index=False)]
        said = [*self.damaged, *self.notes]
        lines += ["", *(f"- {note}" for note in said)] if said else ["", "nothing is missing"]
        if not self.protocol:
            return "\n".join([*lines, "", "no study can be run: a class needs two types of defects or more"])
        root = json.dumps(str(self.root.resolve()), ensure_ascii=False)  # YAML, whatever its name holds
        skip = ", on_unreadable: skip" if any(note.startswith("skipped") for note in self.notes) else ""
        return "\n".join([*lines, "", f"in a preset: data: {{root: {root}, layout: {self.layout}, groups: types{skip}}}"])

    def page(self) -> str:
        """HTML with some pictures of every type, masks outlined; nothing is loaded from elsewhere."""
        parts = [
            f"<h1>{html.escape(self.root.name)}: {self.layout}</h1>",
            "<ul>",
            *(f"<li>{html.escape(n)}</li>" for n in (*self.damaged, *self.notes)),
            "</ul>",
        ]
        for (class_name, split, kind, group), rows in self.manifest.groupby(["class", "split", "type", "group"], sort=False):
            what = ALWAYS if group == "" else split
            parts.append(f"<h2>{html.escape(f'{class_name}: {kind}')} <small>{what}, {len(rows)} images</small></h2>")
            parts += self._pictures(rows)
        style = "body{font-family:sans-serif;margin:1.5em;max-width:60em} small{color:#666;font-weight:normal} img{margin:2px}"
        head = f"<meta charset=utf-8><title>{html.escape(self.root.name)}</title><style>{style}</style>"
        return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"

    def _pictures(self, rows: pd.DataFrame) -> Iterator[str]:
        for row in rows.iloc[evenly(len(rows), PICTURES)].to_dict("records"):
            picture = load_image(self.root / row["image"]).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            if row["mask"]:
                picture = _outlined(picture, load_mask(self.root / row["mask"], (SIDE, SIDE)))
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=85)
            name = html.escape(row["image"])
            yield f'<img alt="{name}" title="{name}" src="data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}">'


def _outlined(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    drawn = Image.fromarray((255 * mask).astype(np.uint8))
    rim = np.asarray(drawn.filter(ImageFilter.MaxFilter(3))) > np.asarray(drawn)
    pixels = np.asarray(picture).copy()
    pixels[rim] = (0, 229, 255)
    return Image.fromarray(pixels)


def _with_advice(note: str) -> str:
    advice = {
        "no masks": "image measures are complete, pixel measures leave these out: add masks to have them",
        "empty mask": "nothing is marked in it: draw it anew, or take it away",
        "everything is marked": "the whole image counts as defect: draw the mask anew, or take it away",
        "the same picture": "what trains is no test, and what is normal no defect: take all but one away",
        "class": "its images can be looked at, but no normality can be told from others: a second type is needed",
    }
    key = next((key for key in advice if note.startswith(key)), "")
    return f"{note} ({advice[key]})" if key else note


def _more(manifest: pd.DataFrame) -> Sequence[str]:
    typed = manifest[~manifest["group"].isin(["good", ""])]
    few = [f"{name}/{kind} ({len(rows)})" for (name, kind), rows in typed.groupby(["class", "type"], sort=False) if len(rows) < FEWEST]
    several = manifest[(manifest["group"] == "") & (manifest["type"] != "good")]
    good = manifest[(manifest["split"] == "test") & (manifest["type"] == "good")].groupby("class", sort=False).size()
    found = []
    if len(scarce := good[good < FEWEST]):
        said = ", ".join(f"{name} ({count})" for name, count in scarce.items())
        found.append(f"fewer than {FEWEST} good test images: {said} (every AUROC is against these, and says little)")
    if few:
        found.append(f"fewer than {FEWEST} images: {', '.join(few)} (their AUROC says little: put look-alikes into one group)")
    if len(several):
        found.append(f"{len(several)} images show several types, or one that is in no group: they are always abnormal")
    return found
