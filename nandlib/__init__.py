"""The reproducible study of NAND: normality addition via normality detection in industrial image anomaly detection.

The two entries that most users need::

    from nandlib import add_normality, load_model
    adapted = add_normality(detector, "thread on carpet", model=load_model("mini", "data/models/mini/heads.safetensors"))
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

# anomalib imports what timm and anomalib itself call deprecated: nothing that a reader of a notebook could mend
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(timm|anomalib)\.")

if TYPE_CHECKING:
    from nandlib.method.adapt import AdaptedDetector, add_normality
    from nandlib.models import load_model
    from nandlib.study.open_study import open_study

__all__ = ["AdaptedDetector", "add_normality", "load_model", "open_study"]
__version__ = "0.1.0"

_HOMES = {
    "AdaptedDetector": "nandlib.method.adapt",
    "add_normality": "nandlib.method.adapt",
    "load_model": "nandlib.models",
    "open_study": "nandlib.study.open_study",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use: notebooks that only read tables need not load torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nandlib' has no attribute '{name}'")
