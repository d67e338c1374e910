"""Will an added normality do harm? A verdict from a few images, before anything is trusted to it.

Two questions, by what is known of the images:

- *Unlabelled rejects.* How much of what tells them from normal images is lost, (before - after) / (before - 50 %) of the AUROC? A text that
  means one kind of defect takes that kind from it; one that damps anomalies of every kind takes all of it. `LOST` is the share from which
  on `nandlib.evaluation.harm` expects harm. What it cannot see: which of the rejects are the acceptable ones.
- *Some accepted, some rejected.* Normal and accepted images against rejected ones: does the AUROC fall?

Neither bounds the defects that will be missed: the intervals of `Rate` hold for parts like those that were given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binomtest

from nandlib.data.images import ImageLike, pixel_key
from nandlib.errors import DataError

LOST = 2.0  # percent
LITTLE = 1.0  # percent of the scores: less removed is nothing done
Verdict = Literal["harms", "may harm", "does nothing", "helps", "no harm seen"]


@dataclass(frozen=True)
class Rate:
    """How many of some images, with an exact (Clopper-Pearson) 95 % interval of the share in percent."""

    count: int
    total: int

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end, in percent."""
        found = binomtest(self.count, self.total).proportion_ci(0.95, "exact")
        return 100 * float(found.low), 100 * float(found.high)

    def __str__(self) -> str:
        return "{} of {} ({:.0f} to {:.0f} %)".format(self.count, self.total, *self.interval)


def removed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Shares of scores ``(n,)`` that are removed, in percent; none of a score of 0."""
    left: np.ndarray = np.divide(after, before, out=np.ones(len(before)), where=before > 0)
    return 100 * (1 - left)


@dataclass(frozen=True)
class Scores:
    """Image scores of one kind of images, ``(n,)``, before and after a normality is added."""

    before: np.ndarray
    after: np.ndarray

    @property
    def removed(self) -> float:
        """Mean share of the scores that is removed, in percent; NaN without images."""
        return float(removed(self.before, self.after).mean()) if len(self.before) else float("nan")

    def __add__(self, other: Scores) -> Scores:
        return Scores(np.r_[self.before, other.before], np.r_[self.after, other.after])


@dataclass(frozen=True)
class Check:
    """What a normality does to a few images.

    Attributes:
        verdict: In three words at most.
        reason: Why, and what to do, in a sentence.
        removed_normals, removed_rejects: Percent of the scores of normal images, and of all others; NaN without such images.
        detection_before, detection_after: AUROC in percent of normal images against all others but accepted ones; NaN without these.
        lost: Share of it that is lost, in percent (`lost_detection`).
        separation_before, separation_after: AUROC of normal and accepted against rejected images; NaN unless there are both.
        overkill_before, overkill_after: Accepted images that are rejected at the detector's threshold.
        escapes_before, escapes_after: Rejected images that pass it.
    """

    verdict: Verdict
    reason: str
    removed_normals: float
    removed_rejects: float
    detection_before: float
    detection_after: float
    lost: float
    separation_before: float
    separation_after: float
    overkill_before: Rate | None
    overkill_after: Rate | None
    escapes_before: Rate | None
    escapes_after: Rate | None

    def __str__(self) -> str:
        return f"{self.verdict}: {self.reason}"


def lost_detection(normals: Scores, rejects: Scores) -> float:
    """(before - after) / (before - 50 %) of the AUROC of normal images against rejects, in percent; 0 where nothing was detected before."""
    before, after = _auroc(normals.before, rejects.before), _auroc(normals.after, rejects.after)
    return 100 * (before - after) / (before - 50) if before > 50 else 0.0


def separation(passing: Scores, rejected: Scores) -> tuple[float, float]:
    """AUROC in percent, before and after, of images that should pass against those that should not."""
    return _auroc(passing.before, rejected.before), _auroc(passing.after, rejected.after)


def check(normals: Scores, rejects: Scores, accepted: Scores, rejected: Scores, threshold: float) -> Check:
    """The verdict on one normality.

    Args:
        normals: Of normal images that the detector was not trained on.
        rejects: Of images that were rejected, of which it is not known whether they are acceptable now.
        accepted, rejected: Of some that are, and of some that are not.
        threshold: From which score on images are rejected.
    """
    others, none = rejects + rejected, (np.nan, np.nan)  # what accepted images lose is what was asked for
    detection = separation(normals, others) if len(others.before) else none
    lost = lost_detection(normals, others) if len(others.before) else np.nan
    split = separation(normals + accepted, rejected) if len(accepted.before) and len(rejected.before) else none
    most = max(kind.removed for kind in (normals, rejects, accepted, rejected) if len(kind.before))
    verdict, reason = _verdict(lost, most, split, detection)
    removed = normals.removed, (others + accepted).removed
    overkill, escapes = _rates(accepted, threshold, above=True), _rates(rejected, threshold, above=False)
    return Check(verdict, reason, *removed, *detection, lost, *split, *overkill, *escapes)


def refuse_contradictions(kinds: Mapping[str, Sequence[ImageLike]]) -> None:
    """Raise DataError if an image is given as two kinds, or twice as one: by its pixels, not by its name."""
    seen: dict[bytes, tuple[str, int]] = {}
    for kind, images in kinds.items():
        for k, image in enumerate(images, 1):
            key = pixel_key(image)
            if key in seen:
                first, number = seen[key]
                raise DataError(f"image {k} of {kind} is image {number} of {first}: every image is of one kind, and counts once")
            seen[key] = (kind, k)


def _verdict(lost: float, most: float, split: tuple[float, float], detection: tuple[float, float]) -> tuple[Verdict, str]:
    if most < LITTLE:
        nothing = f"less than {LITTLE:.0f} % of the scores of any kind of images is removed"
        return "does nothing", f"{nothing}: say it in other words, or show an example"
    if not np.isnan(split[0]):
        moved = f"the AUROC of what should pass against what should not goes from {split[0]:.0f} to {split[1]:.0f} %"
        if split[1] < split[0]:
            return "harms", f"{moved}: show an example instead, or train the detector again"
        return ("helps", moved) if split[1] > split[0] else ("no harm seen", f"{moved}: give more images of either kind")
    if np.isnan(lost):
        return "no harm seen", "nothing was given that may be a defect: give some images that were rejected"
    told = f"{lost:.0f} % of what tells rejected from normal images is lost (AUROC {detection[0]:.0f} to {detection[1]:.0f} %)"
    if lost >= LOST:
        return "may harm", f"{told}, as when anomalies of every kind are damped: show an example instead, or give some of either kind"
    return (
        "no harm seen",
        f"{max(0, lost):.0f} % of what tells rejected from normal images is lost; which of them it damps only labels tell",
    )


def _rates(images: Scores, threshold: float, *, above: bool) -> tuple[Rate | None, Rate | None]:
    n = len(images.before)
    counts = [int(((scores > threshold) == above).sum()) for scores in (images.before, images.after)]
    return (Rate(counts[0], n), Rate(counts[1], n)) if n else (None, None)


def _auroc(passing: np.ndarray, others: np.ndarray) -> float:
    higher = others[:, None] > passing
    return 100 * float((higher + 0.5 * (others[:, None] == passing)).mean())
