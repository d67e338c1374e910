"""The detectors that are trained here, by name."""

from __future__ import annotations

from typing import Any

from nandlib.detectors.fader import FaderStyle
from nandlib.detectors.fitted import FittedDetector
from nandlib.detectors.hetnet import HetNetStyle
from nandlib.detectors.onenip import OneNip
from nandlib.detectors.pbas import Pbas
from nandlib.detectors.pradot import Pradot
from nandlib.detectors.uniad import UniAd

TRAINED: dict[str, type[FittedDetector[Any]]] = {own.name: own for own in (UniAd, OneNip, Pbas, Pradot, HetNetStyle, FaderStyle)}
