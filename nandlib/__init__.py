"""The reproducible study of NAND: normality addition via normality detection in industrial image anomaly detection.

What most users need::

    from nandlib import add_normality, fit_detector
    detector = fit_detector("patchcore", noun="carpet", normals=normal_images)  # or any detector of your own
    adapted = add_normality(detector, "loose thread", noun="carpet")
    maps = adapted(images)
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nandlib.extras import advice

# anomalib imports what timm and anomalib itself call deprecated: nothing that a reader of a notebook could mend
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(timm|anomalib)\.")

if TYPE_CHECKING:
    from nandlib.detectors.fit import fit_detector
    from nandlib.method.adapt import AdaptedDetector
    from nandlib.method.examples import Example
    from nandlib.method.normality import add_normality
    from nandlib.models.load import load_model
    from nandlib.study.open_study import open_study

__all__ = ["AdaptedDetector", "Example", "add_normality", "fit_detector", "load_model", "open_study"]
__version__ = "0.2.0"

PUBLIC = {  # name → the module that it lives in
    "AdaptedDetector": "nandlib.method.adapt",
    "Example": "nandlib.method.examples",
    "add_normality": "nandlib.method.normality",
    "fit_detector": "nandlib.detectors.fit",
    "load_model": "nandlib.models.load",
    "open_study": "nandlib.study.open_study",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use: notebooks that only read tables need not load torch."""
    if name in PUBLIC:
        try:
            return getattr(import_module(PUBLIC[name]), name)
        except ModuleNotFoundError as error:
            line = advice(error)
            raise ImportError(f"nandlib.{name}: {line}" if line else str(error)) from error
    raise AttributeError(f"module 'nandlib' has no attribute '{name}'")


def __dir__() -> list[str]:
    """What is public, for whoever asks what there is."""
    return [*__all__, "__version__"]
