"""Names and settings of the study's detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from nandlib.settings import Section

DetectorName = Literal["aprilgan", "aprilgan_1", "aprilgan_5", "winclip_0", "winclip_1", "winclip_5", "patchcore"]
DETECTORS: tuple[DetectorName, ...] = get_args(DetectorName)


class WinClipConfig(Section):
    """WinCLIP, zero- and few-shot; and the reference images of every few-shot detector."""

    seed: int = Field(0, description="draw of the reference images from train/good, without replacement")
    weights: Path | None = Field(None, description="CLIP ViT-B-16-plus-240 (full-size study), relative to the project; or 'random'")
    grid: int = Field(20, ge=4, description="patch tokens per side after pooling (embedded model)")


class PatchCoreConfig(Section):
    """PatchCore."""

    seed: int = 0
    coreset_ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    coreset_projection: bool = Field(False, description="choose the coreset after a random projection, as anomalib does")
    max_patches: int | None = Field(
        20_000, ge=1, description="normal patches from which the coreset is drawn, evenly over the images; None: all (memory grows)"
    )
    interpolation: Literal["nearest", "bilinear"] = Field("nearest", description="of the map: anomalib's, or the original's")
    backbone_weights: Path | None = Field(None, description="wide_resnet50_2.tv_in1k (full-size study); or 'random'")
