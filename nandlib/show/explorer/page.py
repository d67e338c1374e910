"""What the explorer shows of an answer, as HTML: pictures, numbers, and the scores of all images."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from PIL import Image
from scipy import ndimage
from torch import Tensor

from nandlib.method.examples import Example
from nandlib.show.explorer.answer import Answer
from nandlib.show.explorer.gallery import SIDE, Gallery
from nandlib.show.style import MAP_COLOURS, OURS, OUTLINE, PAPER, SUPPRESSION_COLOURS, pretty

LETTERS = 18  # of a group's name that fit beside its scores
STYLE = """<style>
.nand-panels { display: flex; flex-wrap: wrap; gap: 10px; margin: 4px 0; }
.nand-panels figure { margin: 0; flex: 1 1 130px; max-width: 230px; }
.nand-panels img { box-sizing: border-box; width: 100%; height: auto; display: block; border: 1px solid rgba(128,128,128,.4); }
.nand-panels figcaption { font-size: 12px; line-height: 1.35; padding-top: 3px; color: var(--jp-ui-font-color1, inherit);
  overflow-wrap: anywhere; }
.nand-numbers { border-collapse: collapse; font-size: 13px; line-height: 1.3; color: var(--jp-ui-font-color1, inherit); }
.nand-numbers td, .nand-numbers th { padding: 3px 10px 3px 0; text-align: right; font-weight: normal; }
.nand-numbers th:first-child, .nand-numbers td:first-child { text-align: left; }
.nand-numbers thead th { border-bottom: 1px solid rgba(128,128,128,.6); font-weight: bold; }
.nand-note { overflow-wrap: anywhere; font-size: 12px; line-height: 1.4; color: var(--jp-ui-font-color1, inherit); max-width: 60em; }
.nand-error { font-size: 13px; color: #b3261e; background: #fdecea; padding: 6px 10px; border-radius: 4px; }
.nand-texts .jupyter-widget-tag { max-width: 100%; height: auto; white-space: normal; }
.nand-texts input { display: none; }
.nand-typed { align-self: stretch; }
.nand-thumb img { border: 1px solid rgba(128,128,128,.4); }
.nand-thumb .widget-html-content { font-size: 12px; line-height: 1.3; overflow-wrap: anywhere; }
.nand-side { display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start; }
.nand-side > div { max-width: 100%; min-width: 0; }
.nand-side svg { max-width: 100%; height: auto; }
</style>"""


@dataclass(frozen=True)
class View:
    """An answer as seen by a user.

    Attributes:
        gallery: The images.
        base: Their anomaly maps before, ``(N, S, S)``.
        answer: Maps and scores after.
        index: The image that is looked at.
        accepted: Groups that count as normal.
        limit: The threshold.
        box: In pixels of the picture, outlined in it.
    """

    gallery: Gallery
    base: Tensor
    answer: Answer
    index: int
    accepted: Sequence[str]
    limit: float
    box: tuple[float, float, float, float] | None = None

    def pictures(self) -> str:
        """Image, mask, A, A_sup and A_final of one image, side by side; they wrap where the page is narrow."""
        gallery, answer, k = self.gallery, self.answer, self.index
        picture, mask, sup = gallery.pictures[k], gallery.masks[k], answer.suppression[k].numpy()
        top = max(float(self.base[k].max()), 1e-9)
        before, after = (_coloured(maps[k].numpy(), top, MAP_COLOURS) for maps in (self.base, answer.final))
        panels = [
            (outlined(picture, Example(picture, box=self.box).where((SIDE, SIDE))), "image", gallery.names[k]),
            (outlined(picture, mask), "image with its mask outlined", "ground truth" if mask is not None else "no mask"),
            (before, "anomaly map before", f"A, before: score {answer.before[k]:.3f}"),
            (_coloured(sup, 1, SUPPRESSION_COLOURS), "suppression map", f"A_sup: {sup.min():.2f} to {sup.max():.2f} (scale 0 to 1)"),
            (after, "anomaly map after", f"A_final, after: score {answer.after[k]:.3f}"),
        ]
        figures = (
            f"<figure><img src='{_png(pixels)}' alt='{alt}'><figcaption>{html.escape(caption)}</figcaption></figure>"
            for pixels, alt, caption in panels
        )
        return f"<div class='nand-panels'>{''.join(figures)}</div>"

    def numbers(self) -> str:
        """AUROC before and after, and how many images of every group are above the threshold."""
        groups = self.gallery.groups
        areas = self.answer.auroc(groups, self.accepted)
        if areas is not None:
            before, after, others = areas
            line = (
                f"<b>AUROC {before:.1f} before, {after:.1f} after ({after - before:+.1f})</b>; "
                f"good against the others alone (the groups that stay abnormal, unchanged detector) {others:.1f}"
            )
        elif "" in groups:
            line = "AUROC: unknown, since nobody told what the images show"
        else:
            line = f"AUROC: {'nothing is left that is abnormal' if 'good' in groups else 'there is no good image to tell others from'}"
        rows = "".join(self._row(group) for group in dict.fromkeys(groups))
        head = "".join(f"<th>{word}</th>" for word in ("images above the threshold", "of", "before", "after"))
        table = f"<table class='nand-numbers'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return f"<p class='nand-auroc'>{line}</p>{table}"

    def _row(self, group: str) -> str:
        here = np.asarray(self.gallery.groups) == group
        above = [(scores[here] > self.limit).sum() for scores in (self.answer.before, self.answer.after)]
        name = (pretty(group) or "all images") + (" (counts as normal)" if group in self.accepted else "")
        return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in (name, here.sum(), *above)) + "</tr>"

    def scores(self) -> str:
        """Scores of all images as SVG, a row a group: hollow before, filled after; a line at the threshold."""
        groups, names = np.asarray(self.gallery.groups), list(dict.fromkeys(self.gallery.groups))
        top = max(float(self.answer.before.max()), self.limit, 1e-9)
        left, wide, high = 120, 300, 30
        width, bottom = left + wide + 12, 14 + high * len(names)

        def at(score: float) -> str:
            return f"{left + wide * float(score) / top:.1f}"

        marks = []
        for row, group in enumerate(names):
            y, name = 18 + high * row, pretty(group) or "images"
            label = html.escape(name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…") + f"<title>{html.escape(name)}</title>"
            marks.append(f"<text x='{left - 8}' y='{y + 9}' text-anchor='end' font-size='11'>{label}</text>")
            for k in np.flatnonzero(groups == group):
                ring = " stroke='currentColor' stroke-width='2'" if k == self.index else ""
                before, after = at(self.answer.before[k]), at(self.answer.after[k])
                marks.append(f"<circle cx='{before}' cy='{y}' r='3.5' fill='none' stroke='currentColor' opacity='.55'/>")
                marks.append(f"<circle cx='{after}' cy='{y + 11}' r='3.5' fill='{OURS}' opacity='.8'{ring}/>")
        x = at(self.limit)
        marks.append(f"<line x1='{x}' x2='{x}' y1='4' y2='{bottom}' stroke='{PAPER}' stroke-width='2'/>")
        legend = f"Scores of all images, 0 to {top:.2f}: hollow before, filled after; the line is the threshold."
        return (
            f"<svg viewBox='0 0 {width} {bottom + 4}' role='img' fill='currentColor' aria-label='scores of all images before and after' "
            f"style='color: var(--jp-ui-font-color1, #222); width: {width}px'>{''.join(marks)}</svg><div class='nand-note'>{legend}</div>"
        )


def _coloured(single: np.ndarray, top: float, colours: str) -> np.ndarray:
    """A map as RGB uint8, 0 to `top`."""
    table = (mpl.colormaps[colours](np.arange(256))[:, :3] * 255).astype(np.uint8)
    return table[(single.clip(0, top) / top * 255).astype(np.uint8)]


def outlined(picture: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """A picture with a mask's outline; without a mask, itself."""
    if mask is None:
        return picture
    edge = ndimage.binary_dilation(mask, iterations=2) & ~mask
    return np.where(edge[..., None], np.array(mpl.colors.to_rgb(OUTLINE)) * 255, picture).astype(np.uint8)


def _png(pixels: np.ndarray) -> str:
    """Pixels as a data URI, at most `SIDE` wide."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def png(pixels: np.ndarray, side: int = SIDE) -> bytes:
    """Pixels as a PNG file, at most `side` wide."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    image = image if max(image.size) <= side else image.resize((side, side), Image.Resampling.BILINEAR)
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
