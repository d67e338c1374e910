"""When to reject: a threshold from normal images alone, with the level that it attains."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from nandlib.errors import DataError


@dataclass(frozen=True)
class Threshold:
    """Images whose score is above `value` are rejected.

    Attributes:
        value: On image scores.
        level: Share of normal images that are at most rejected, if they are exchangeable with those that set it. It says nothing of parts
            that changed since, and bounds no missed defect.
        n_normals: How many images set it.
        confidence: With which the level holds for every set of images (`certain_threshold`); None: it holds on average over such sets.
    """

    value: float
    level: float
    n_normals: int
    confidence: float | None = None

    @property
    def fresh(self) -> bool:
        """Whether it is one of scores after an addition: it promises nothing of any other detector."""
        return self.confidence is not None


def lasting(threshold: Threshold | None) -> Threshold | None:
    """What of it holds when scores may have risen since: nothing of one that was set after an addition."""
    return None if threshold is not None and threshold.fresh else threshold


def promised_threshold(normals: ArrayLike, level: float) -> Threshold:
    """That of `conformal_threshold`; with a warning, where so few scores promise no such level."""
    value, attained = conformal_threshold(normals, level)
    n = np.size(normals)
    if attained > level + 1e-9:
        few = f"{n} normal images promise a level of {attained:.3f}, not {level:g}: give {int(np.ceil(1 / level - 1 - 1e-9))} or more"
        warnings.warn(few, stacklevel=3)
    return Threshold(value, attained, n)


def conformal_threshold(normals: ArrayLike, level: float) -> tuple[float, float]:
    """A threshold that a new normal image exceeds with a probability of at most `level`, if it is exchangeable with those given.

    The ⌈(n + 1)(1 - level)⌉-th smallest of n scores. With fewer than 1 / level - 1 scores no threshold among them promises as much:
    then it is the largest.

    Args:
        normals: Scores of normal images ``(n,)`` that the detector was not fitted on.
        level: Share of false alarms.

    Returns:
        The threshold, and the level that it attains: 1 - k / (n + 1) for the k-th smallest.

    Raises:
        DataError: If there is no score or one is NaN, or the level is no share.
    """
    if not _is_share(level):
        raise DataError(f"level is a share of normal images between 0 and 1, not {level!r}")
    ordered = np.sort(_scores(normals, "normal images"))
    n = len(ordered)
    k = min(n, max(1, int(np.ceil((n + 1) * (1 - level) - 1e-9))))
    return float(ordered[k - 1]), 1 - k / (n + 1)


def _is_share(value: object) -> bool:
    return isinstance(value, Real) and 0 < float(value) < 1


def _scores(given: ArrayLike, of: str) -> np.ndarray:
    scores = np.asarray(given, float)
    if not scores.size:
        raise DataError(f"a threshold needs {of}: none were given")
    if np.isnan(scores).any():
        raise DataError(f"a score of {of} is no number: no threshold follows")
    return scores


def certain_threshold(passing: ArrayLike, level: float, confidence: float) -> float:
    """The lowest threshold that, with a given confidence, at most a share `level` of images like these exceeds.

    MAPIE's control of the false positive rate, learn then test (Angelopoulos et al., 2021): thresholds are tried from the highest score
    down, until one cannot be vouched for.

    Args:
        passing: Scores ``(n,)`` of images that should pass, on which nothing was fitted.
        level: Share of false alarms.
        confidence: Probability over such sets of images that the promise holds.

    Raises:
        DataError: If so few images vouch for no threshold at all, a score is NaN, or a share is not between 0 and 1.
    """
    if not (_is_share(level) and _is_share(confidence)):
        raise DataError(f"level and confidence are shares between 0 and 1, not {level!r} and {confidence!r}")
    scores = _scores(passing, "images that should pass")
    from mapie.risk_control import BinaryClassificationController

    values, place = np.unique(scores, return_inverse=True)
    share = 1 / (len(values) + 1)  # MAPIE wants scores from 0 to 1: the order is all that counts
    controller = BinaryClassificationController(
        lambda given: np.c_[1 - np.ravel(given), np.ravel(given)],
        "fpr",
        target_level=level,
        confidence_level=confidence,
        list_predict_params=(np.arange(len(values))[::-1] + 1.5) * share,
        fwer_method="fixed_sequence",
        best_predict_param_choice="accuracy",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says in its words what is said below
        controller.calibrate(((place + 1) * share)[:, None], np.zeros(len(place), int))
    valid = np.asarray(controller.valid_predict_params, float)
    if not valid.size:
        least = int(np.ceil(np.log(1 - confidence) / np.log(1 - level)))
        raise DataError(
            f"{len(place)} images vouch for no threshold at a level of {level:g} with a confidence of {confidence:g}: give {least} or more"
        )
    return float(values[round(float(valid.min()) / share - 1.5)])
