"""One image and one or more texts: where each text is seen, and what that does to the anomaly map, as a figure and in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nandlib.data.images import as_image, pixel_key
from nandlib.data.maps import check_maps
from nandlib.errors import DataError
from nandlib.method.adapt import AdaptedDetector
from nandlib.show.pictures import before_after


@dataclass(frozen=True)
class Explanation:
    """What `explain` found.

    Attributes:
        score_before, score_after: Maxima of A and A_final.
        suppression_max: Name of a normality → maximum of its A_sup.
        suppression_at_peak: Name → its A_sup where A has its maximum.
        is_example: Whether the image is one of those that show a normality.
    """

    score_before: float
    score_after: float
    suppression_max: dict[str, float]
    suppression_at_peak: dict[str, float]
    is_example: bool = False

    def sentences(self) -> list[str]:
        """The numbers in words, a line a text, then the score."""
        lines = [
            f"“{name}”: A_sup is {self.suppression_at_peak[name]:.2f} where the image is most anomalous, {most:.2f} at most"
            for name, most in self.suppression_max.items()
        ]
        said = ["this image is one of the examples: what happens to it says nothing about others"] if self.is_example else []
        return [*said, *lines, f"score {self.score_before:.3f} before, {self.score_after:.3f} after"]

    def record(self) -> dict[str, Any]:
        """The numbers as JSON can hold them."""
        return asdict(self)


def explain(adapted: AdaptedDetector, image: Path) -> tuple[Explanation, Figure]:
    """Look at one image through an adapted detector.

    Args:
        adapted: From `nandlib.add_normality`.
        image: The file.

    Returns:
        The numbers, and a figure: image, A, A_sup and A_final, a row a text; a last row for all of them where there are several.

    Raises:
        DataError: If nothing was added, or the image or its map cannot be read.
    """
    if not adapted.names:
        raise DataError("no normality is added: there is nothing to explain")
    (before,) = check_maps(adapted.detector([image]), 1, type(adapted.detector).__name__)
    suppressed = {name: maps[0] for name, maps in adapted.suppression_maps([image], [before]).items()}
    (after,) = adapted.damp([image], [before])
    common = {"image": np.asarray(as_image(image)), "mask": None, "before": before}
    rows = [
        {**common, "label": "\n".join(name.split()), "suppression": sup, "after": before * (1 - sup)} for name, sup in suppressed.items()
    ]
    if len(rows) > 1:
        together = 1 - np.prod([1 - sup for sup in suppressed.values()], axis=0)
        rows.append({**common, "label": "all texts", "suppression": together, "after": after})
    found = Explanation(
        score_before=float(before.max()),
        score_after=float(after.max()),
        suppression_max={name: float(sup.max()) for name, sup in suppressed.items()},
        suppression_at_peak={name: float(sup.flat[before.argmax()]) for name, sup in suppressed.items()},
        is_example=pixel_key(image) in adapted.shown.every_key(),
    )
    return found, before_after(rows)
