"""scikit-learn: a detector with added normalities as an outlier detector."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from nandlib.data.images import ImageLike, refuse_single
from nandlib.data.maps import Detector, check_maps
from nandlib.detectors.fit import fit_detector
from nandlib.errors import DataError, short
from nandlib.method.adapt import AdaptedDetector
from nandlib.method.config import METHODS, MethodName, NandConfig
from nandlib.method.descriptors import Descriptors
from nandlib.method.examples import Example
from nandlib.method.normality import add_normality
from nandlib.method.prompts import free_name
from nandlib.models import VisionLanguageModel, load_model


class NormalityDetector(OutlierMixin, BaseEstimator):
    """Images in, inliers (1) and outliers (-1) out; what the texts say counts as normal.

    An ``X`` is a sequence of images: paths, PIL images or uint8 arrays ``(H, W, 3)``; a uint8 array ``(N, H, W, 3)`` is one too.

    Args:
        detector: Name of a detector that is fitted on ``X`` ("patchcore", "aprilgan", "winclip_0", "winclip_1", …), or a trained
            detector, which is used as it is.
        texts: Normalities to add; may be empty.
        examples: Images that show one more (`nandlib.method.examples`); may be empty. With one text they show what it says: one normality.
        noun: What the images show ("carpet").
        method: ``"nand"``, the paper's rule, or ``"nand_plus"``, which is calibrated on ``X``.
        contamination: Share of the normal images of ``fit`` that may be called outliers; it sets the threshold, once, with the
            detector **as it was given**, or fitted: adding a text never moves it.
        model: Vision-language model; None: the embedded one.

    Attributes:
        detector_: The fitted `nandlib.AdaptedDetector` (or the bare detector, without texts).
        offset_: Threshold on `score_samples`: below it, an outlier.

    A detector that remembers its training images (PatchCore) scores them lower than new ones. Where it is fitted here, by its name, its own
    leave-one-out maps set the threshold; to a trained detector, and to one that has no such maps, give images that it has not seen.
    """

    def __init__(
        self,
        detector: str | Detector = "patchcore",
        texts: Sequence[str] = (),
        *,
        examples: Sequence[ImageLike | Example] = (),
        noun: str = "object",
        method: MethodName = "nand",
        contamination: float = 0.05,
        model: VisionLanguageModel | None = None,
    ) -> None:
        self.detector, self.texts, self.examples, self.noun = detector, texts, examples, noun
        self.method, self.contamination, self.model = method, contamination, model

    def fit(self, X: Sequence[ImageLike], y: Any = None) -> NormalityDetector:
        """Fit the detector, if it is a name, and the threshold on normal images; `y` is ignored.

        Raises:
            DataError: If there is no image, one is given for a list, `texts` is one string, a setting has no meaning, a detector that is
                given was trained on one of the images, or its maps are not as they must be.
        """
        refuse_single(X, "X")
        refuse_single(self.examples, "examples")
        if self.method not in METHODS:
            raise DataError(f"method is {self.method!r}: {' or '.join(map(repr, METHODS))}")
        X = list(X)
        if not X or (self.detector == "patchcore" and len(X) < 2):
            raise DataError("fit needs a sequence of normal images: one or more, two or more for PatchCore")
        if isinstance(self.texts, str) or not isinstance(self.texts, Sequence):
            raise DataError(f'texts must be a sequence of phrases, as texts=["hair"] or texts=(), not {short(self.texts)}')
        if not (isinstance(self.detector, str) or callable(self.detector)):
            raise DataError(f"detector must be a name or what gives maps when it is called, not {short(self.detector)}")
        if isinstance(self.detector, AdaptedDetector) and (self.noun, self.method, self.model) != ("object", "nand", None):
            raise DataError("the detector is adapted already and keeps its noun, method and model: leave them out")
        share: object = self.contamination
        if not (isinstance(share, Real) and 0 <= float(share) <= 0.5):
            raise DataError(f"contamination must be a number between 0 and 0.5, not {short(self.contamination)}")
        model = self.model or load_model("mini")
        base = fit_detector(self.detector, model, noun=self.noun, normals=X) if isinstance(self.detector, str) else self.detector
        trained = base.detector if isinstance(base, AdaptedDetector) else base
        if not isinstance(self.detector, str) and any(map(Descriptors(trained, model).knows, X)):
            raise DataError("the detector was trained on some of these images, which score too low: fit it by its name, or give others")
        normal_maps = base.normal_maps(range(len(X))) if isinstance(self.detector, str) and hasattr(base, "normal_maps") else base(X)
        offset = float(np.quantile(-_maxima(normal_maps, X, base), self.contamination, method="lower"))  # at most that share
        found: AdaptedDetector | Detector = base
        together = len(self.texts) == 1
        added = [(text, self.examples if together else ()) for text in self.texts]
        for text, examples in [*added, *([((), self.examples)] if len(self.examples) and not together else [])]:
            more = (
                {"name": None if len(text) else free_name(found.names)} if isinstance(found, AdaptedDetector) else self._options(model, X)
            )
            found = add_normality(found, text, examples=examples, **more)
        self.offset_, self.detector_ = offset, found
        return self

    def _options(self, model: VisionLanguageModel, normals: Sequence[ImageLike]) -> dict[str, Any]:
        needed = NandConfig(method=self.method).calibrated or len(self.examples) > 0
        return {"model": model, "noun": self.noun, "method": self.method, "normals": normals if needed else ()}

    def score_samples(self, X: Sequence[ImageLike]) -> np.ndarray:
        """``(N,)``, larger is more normal: minus the maximum of the adapted anomaly map."""
        check_is_fitted(self)
        refuse_single(X, "X")
        return -_maxima(self.detector_(X), X, self.detector_)

    def decision_function(self, X: Sequence[ImageLike]) -> np.ndarray:
        """``(N,)``: `score_samples` less `offset_`; negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Sequence[ImageLike]) -> np.ndarray:
        """``(N,)``: 1 for inliers, -1 for outliers."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def anomaly_maps(self, X: Sequence[ImageLike]) -> list[np.ndarray]:
        """A_final: one float32 ``(H, W)`` map an image."""
        check_is_fitted(self)
        refuse_single(X, "X")
        return check_maps(self.detector_(X), len(X), type(self.detector_).__name__)


def _maxima(maps: Any, images: Sequence[ImageLike], detector: Any) -> np.ndarray:
    return np.array([float(single.max()) for single in check_maps(maps, len(images), type(detector).__name__)])
