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

from nandlib.data.images import ImageLike, pixel_key, refuse_single
from nandlib.errors import DataError
from nandlib.method.threshold import Threshold

LOST = 2.0  # percent
LITTLE = 1.0  # percent of a score: less removed of any is nothing done
Verdict = Literal["harms", "may harm", "does nothing", "helps", "no harm seen", "not known"]


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
    """Shares of scores ``(n,)`` that are removed, in percent; none of a score of 0 or less."""
    left: np.ndarray = np.divide(after, before, out=np.ones(len(before)), where=before > 0)
    return 100 * (1 - left)


@dataclass(frozen=True)
class Scores:
    """Image scores of one kind of images, ``(n,)``, before and after a normality is added; and, where they are at hand, their maps."""

    before: np.ndarray
    after: np.ndarray
    maps: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    @property
    def removed(self) -> float:
        """Mean share of the scores that is removed, in percent; NaN without images."""
        return float(removed(self.before, self.after).mean()) if len(self.before) else float("nan")

    def __add__(self, other: Scores) -> Scores:
        return Scores(np.r_[self.before, other.before], np.r_[self.after, other.after], self.maps + other.maps)


@dataclass(frozen=True)
class Check:
    """What a normality does to a few images.

    Attributes:
        verdict: In three words at most.
        reason: Why, and what to do, in a sentence.
        removed_normals, removed_rejects: Percent of the scores of normal images, and of all others; NaN without such images.
        removed_regions: Percent of all that lies above the threshold in the maps of others; NaN where nothing does.
        detection_before, detection_after: AUROC in percent of normal images against all others but accepted ones; NaN without these.
        lost: Share of it that is lost, in percent (`lost_detection`).
        separation_before, separation_after: AUROC of normal and accepted against rejected images; NaN unless there are both.
        threshold: From which score on images are rejected; the detector's, or one of the normal images.
        overkill_before, overkill_after: Accepted images that are rejected at it.
        escapes_before, escapes_after: Rejected images that pass it.
    """

    verdict: Verdict
    reason: str
    removed_normals: float
    removed_rejects: float
    removed_regions: float
    detection_before: float
    detection_after: float
    lost: float
    separation_before: float
    separation_after: float
    threshold: Threshold
    overkill_before: Rate | None
    overkill_after: Rate | None
    escapes_before: Rate | None
    escapes_after: Rate | None

    def __str__(self) -> str:
        return f"{self.verdict}: {self.reason}"

    def __repr__(self) -> str:
        return f"Check({self})"


def lost_detection(normals: Scores, rejects: Scores) -> float:
    """(before - after) / (before - 50 %) of the AUROC of normal images against rejects, in percent; 0 where nothing was detected before."""
    before, after = _auroc(normals.before, rejects.before), _auroc(normals.after, rejects.after)
    return 100 * (before - after) / (before - 50) if before > 50 else 0.0


def separation(passing: Scores, rejected: Scores) -> tuple[float, float]:
    """AUROC in percent, before and after, of images that should pass against those that should not."""
    return _auroc(passing.before, rejected.before), _auroc(passing.after, rejected.after)


def check(normals: Scores, rejects: Scores, accepted: Scores, rejected: Scores, threshold: Threshold, said: bool = True) -> Check:
    """The verdict on one normality.

    Args:
        normals: Of normal images that the detector was not trained on.
        rejects: Of images that were rejected, of which it is not known whether they are acceptable now.
        accepted, rejected: Of some that are, and of some that are not.
        threshold: From which score on images are rejected.
        said: Whether a text was added: then the advice is to show an example.
    """
    others, none = rejects + rejected, (np.nan, np.nan)  # what accepted images lose is what was asked for
    detection = separation(normals, others) if len(others.before) else none
    lost = lost_detection(normals, others) if len(others.before) else np.nan
    split = separation(normals + accepted, rejected) if len(accepted.before) and len(rejected.before) else none
    every = normals + rejects + accepted + rejected
    most = float(removed(every.before, every.after).max())
    verdict, reason = _verdict(lost, most, split, detection, "show an example" if said else "show another example, or where it is")
    damped = others + accepted
    lost_scores = normals.removed, damped.removed, removed_above(damped.maps, threshold.value)
    overkill, escapes = _rates(accepted, threshold.value, above=True), _rates(rejected, threshold.value, above=False)
    return Check(verdict, reason, *lost_scores, *detection, lost, *split, threshold, *overkill, *escapes)


def removed_above(maps: Sequence[tuple[np.ndarray, np.ndarray]], value: float) -> float:
    """Of all that lies above a value in maps before, the percentage that is removed after; NaN where nothing does."""
    pairs = [(before[before > value], after[before > value]) for before, after in maps]
    whole = sum(float(before.sum()) for before, _ in pairs)
    return 100 * (1 - sum(float(after.sum()) for _, after in pairs) / whole) if whole else float("nan")


def as_kinds(**given: Sequence[ImageLike]) -> dict[str, list[ImageLike]]:
    """Images by their kind; DataError if one image is given for a list."""
    for kind, images in given.items():
        refuse_single(images, kind)
    return {kind: list(images) for kind, images in given.items()}


def refuse_contradictions(kinds: Mapping[str, Sequence[ImageLike]], known: Mapping[str, Sequence[bytes]] | None = None) -> None:
    """Raise DataError if an image is given as two kinds, or twice as one: by its pixels, not by its name.

    Args:
        kinds: Images by their kind.
        known: Further kinds, by `nandlib.data.images.pixel_key` of their images.
    """
    seen = {key: (kind, k) for kind, keys in (known or {}).items() for k, key in enumerate(keys, 1)}
    for kind, images in kinds.items():
        for k, image in enumerate(images, 1):
            key = pixel_key(image)
            if key in seen:
                first, number = seen[key]
                raise DataError(f"image {k} of {kind} is image {number} of {first}: every image is of one kind, and counts once")
            seen[key] = (kind, k)


def _verdict(lost: float, most: float, split: tuple[float, float], detection: tuple[float, float], advice: str) -> tuple[Verdict, str]:
    if most < LITTLE:
        return "does nothing", f"less than {LITTLE:.0f} % of any image's score is removed: say it in other words, or {advice}"
    if not np.isnan(split[0]):
        moved = f"the AUROC of what should pass against what should not goes from {split[0]:.0f} to {split[1]:.0f} %"
        if split[1] < split[0]:
            return "harms", f"{moved}: {advice} instead, or train the detector again"
        return ("helps", moved) if split[1] > split[0] else ("no harm seen", f"{moved}: give more images of either kind")
    if np.isnan(lost):
        return "not known", "no image was given that may show a defect: give some that were rejected"
    if detection[0] <= 50:
        return "not known", f"the detector does not tell these rejects from normal images (AUROC {detection[0]:.0f} %): give others"
    told = f"{lost:.0f} % of what tells rejected from normal images is lost (AUROC {detection[0]:.0f} to {detection[1]:.0f} %)"
    if lost >= LOST:
        return "may harm", f"{told}, as when anomalies of every kind are damped: {advice} instead, or give some of either kind"
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
