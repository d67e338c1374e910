"""Vision-language models behind one interface: patch tokens per layer, text features, temperature."""

from nandlib.models.base import ImageFeatures, Placement, VisionLanguageModel, whole_float32
from nandlib.models.load import load_model

__all__ = ["ImageFeatures", "Placement", "VisionLanguageModel", "load_model", "whole_float32"]
