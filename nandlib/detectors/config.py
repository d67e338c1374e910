"""Names and settings of the study's detectors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from nandlib.settings import Section

TrainedName = Literal["uniad", "onenip", "pbas", "pradot", "hetnet_style", "fader_style"]
DetectorName = Literal["aprilgan", "aprilgan_1", "aprilgan_5", "winclip_0", "winclip_1", "winclip_5", "patchcore", TrainedName]
TRAINED_NAMES: tuple[TrainedName, ...] = get_args(TrainedName)
STAGES = 6  # of the embedded tower
TOGETHER = ("uniad", "onenip")  # one model for all classes of a study


def family_of(detector: str) -> str:
    """What detectors that differ in the number of reference images alone have in common: ``winclip`` of ``winclip_5``."""
    return re.sub(r"_\d+$", "", detector)


Count = Annotated[int, Field(ge=1)]


class WinClipConfig(Section):
    """WinCLIP, zero- and few-shot; and the reference images of every few-shot detector."""

    seed: int = Field(0, ge=0, description="draw of the reference images from train/good, without replacement")
    weights: Path | None = Field(None, description="CLIP ViT-B-16-plus-240 (full-size study), relative to the project; or 'random'")
    grid: int = Field(20, ge=4, description="patch tokens per side after pooling (embedded model)")


class PatchCoreConfig(Section):
    """PatchCore."""

    weight_fields: ClassVar[tuple[str, ...]] = ("backbone_weights",)

    seed: int = Field(0, ge=0)
    coreset_ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    coreset_projection: bool = Field(False, description="choose the coreset after a random projection, as anomalib does")
    max_patches: int | None = Field(
        20_000, ge=1, description="normal patches from which the coreset is drawn, evenly over the images; None: all (memory grows)"
    )
    shard_images: int | None = Field(
        None,
        ge=1,
        description="normal images whose patches (max_patches of them) are held at a time: choice within shards, then across; None: all",
    )
    interpolation: Literal["nearest", "bilinear"] = Field("nearest", description="of the map: anomalib's, or the original's")
    backbone_weights: Path | None = Field(None, description="wide_resnet50_2.tv_in1k (full-size study); or 'random'")


class TrainedConfig(Section):
    """What the settings of every trained detector have. Defaults are those of the embedded size; ``size: full`` sets what is not given to
    the published values."""

    published: ClassVar[dict[str, Any]] = {}
    weight_fields: ClassVar[tuple[str, ...]] = ("backbone_weights",)

    size: Literal["embedded", "full"] = Field("embedded", description="full: the published backbone, sizes and schedule")
    seed: int = Field(0, ge=0)
    backbone: Literal["embedded", "efficientnet_b4", "wide_resnet50_2", "resnet50"] = "embedded"
    backbone_weights: Path | None = Field(None, description="of a published backbone; or 'random'")
    image_size: int = Field(0, ge=0, description="side of the input of a published backbone")
    stages: tuple[int, ...] = Field((3, 4), description="of the embedded tower (strides 4, 8, 16, 16, 32, 32), the finest first")
    epochs: int = Field(30, ge=1)
    batch_size: int = Field(8, ge=1)
    official: bool = Field(
        False,
        description="maps as the official code gives them, without the floor of normal images (OneNIP's constant of a whole test set and "
        "random prompts: its `official_maps`)",
    )

    @model_validator(mode="before")
    @classmethod
    def _published(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("size") != "full":
            return given
        if not cls.published:
            raise ValueError("size: no published values are known of this detector: leave size out")
        return cls.published | given

    @model_validator(mode="after")
    def _of_its_size(self) -> Self:
        if (self.size == "embedded") != (self.backbone == "embedded"):
            raise ValueError(f"backbone: {self.backbone} does not go with size: {self.size}")
        if not self.stages and type(self).model_fields["stages"].default:
            raise ValueError("stages: one or more")
        if self.size == "embedded" and not all(0 <= stage < STAGES for stage in self.stages):
            raise ValueError(f"stages: the embedded tower has those from 0 to {STAGES - 1}")
        if len(set(self.stages)) < len(self.stages):
            raise ValueError("stages: each once")
        return self


class UniAdConfig(TrainedConfig):
    """UniAD; at embedded size narrower, with fewer layers, and fewer epochs at a higher rate on standardised features."""

    published: ClassVar[dict[str, Any]] = {
        **{"backbone": "efficientnet_b4", "image_size": 224, "stages": (0, 1, 2, 3), "grid": 14, "standardise": False, "dropout": 0.1},
        **{"width": 256, "heads": 8, "feedforward": 1024, "layers": (4, 4), "epochs": 1000, "rate": 1e-4},
    }

    standardise: bool = Field(True, description="features of every channel to mean 0 and deviation 1; published: as they are")
    stages: tuple[int, ...] = (5,)
    grid: int = Field(10, ge=2, description="cells a side to which features are resized; published: 14")
    width: int = Field(128, ge=1)
    heads: int = Field(4, ge=1)
    feedforward: int = Field(256, ge=1)
    layers: tuple[Count, Count] = Field((2, 2), description="of encoder and decoder; published: 4 and 4")
    window: tuple[Count, Count] = (7, 7)
    dropout: float = Field(0.0, ge=0, lt=1, description="published: 0.1, over many more epochs")
    epochs: int = Field(120, ge=1, description="published: 1000")
    rate: float = Field(1e-3, gt=0, description="published: 1e-4; a tenth of it for the last fifth of the epochs")

    @model_validator(mode="after")
    def _of_whole_heads(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} must be a multiple of heads: {self.heads}")
        return self


class OneNipConfig(UniAdConfig):
    """OneNIP; at embedded size as UniAD's, with synthetic images that are drawn once."""

    published: ClassVar[dict[str, Any]] = {**UniAdConfig.published, "refiner": 128, "versions": None}

    stages: tuple[int, ...] = (4, 5)
    epochs: int = Field(80, ge=1, description="published: 1000")
    refiner: int = Field(32, ge=1, description="width of the refiner; published: 128")
    versions: int | None = Field(2, ge=1, description="synthetic images of each normal one; None, as published: new ones in every epoch")


class PbasConfig(TrainedConfig):
    """PBAS; at embedded size with a narrower embedding and fewer epochs at higher rates."""

    published: ClassVar[dict[str, Any]] = {
        **{"backbone": "wide_resnet50_2", "image_size": 288, "stages": (2, 3)},
        **{"width": 1536, "hidden": 1024, "epochs": 640, "rate_factor": 1.0},
    }

    stages: tuple[int, ...] = (2, 3)
    width: int = Field(256, ge=1, description="of the embedding; published: 1536")
    hidden: int = Field(256, ge=1, description="of the discriminator; published: 1024")
    epochs: int = Field(80, ge=1, description="published: 640")
    rate_factor: float = Field(5.0, gt=0, description="of both published rates, 1e-4 and 2e-4")


class PradotConfig(TrainedConfig):
    """PRADOT; at embedded size with fewer prototypes and epochs, and one level of features."""

    published: ClassVar[dict[str, Any]] = {
        **{"backbone": "resnet50", "image_size": 224, "stages": (2, 3)},
        **{"per_cell": 16.0, "epochs": 50, "batch_size": 64},
    }

    stages: tuple[int, ...] = Field((3,), description="of the embedded tower, one model each; published: two levels")
    per_cell: float = Field(1.0, gt=0, description="prototypes a cell; published: 16")
    alphas: tuple[float, ...] = Field((0.0, 0.3), min_length=1, description="how much places count, one model each")
    epochs: int = Field(25, ge=1, description="published: 50")
    batch_size: int = Field(8, ge=1, description="published: 64, the incomplete batch dropped; here it is kept")
    official: bool = Field(False, description="scaled by each image's own maximum, and without the floor of normal images")


class HetNetConfig(TrainedConfig):
    """HetNet-style. Only what the project page shows is known (`nandlib.detectors.hetnet_network`); sizes and schedule are this study's, at
    full size too: there the teachers are Wide ResNet-50-2 and DeiT-B, whose three maps lie behind a third of its layers each."""

    published: ClassVar[dict[str, Any]] = {
        **{"backbone": "wide_resnet50_2", "image_size": 224, "stages": (1, 2, 3), "second": "deit_base_patch16_224"},
        **{"width": 256, "epochs": 100, "rate": 1e-3},
    }
    weight_fields: ClassVar[tuple[str, ...]] = ("backbone_weights", "second_weights")

    stages: tuple[int, ...] = Field((1, 3, 5), min_length=3, max_length=3, description="of the first teacher, each half as fine")
    second: Literal["random", "self_trained", "deit_base_patch16_224"] = Field(
        "random",
        description="the second teacher: a transformer on pixels (as it starts; trained to fill in patches), or DeiT-B",
    )
    second_weights: Path | None = Field(None, description="of DeiT-B; or 'random'")
    second_epochs: int = Field(20, ge=1, description="of that training")
    width: int = Field(64, ge=8, multiple_of=4, description="of the fused features and the students")
    epsilon: float = Field(1e-2, gt=0, description="added to the variance of every channel of the noise, as a share of their mean")
    boxes: int = Field(2, ge=1, description="that are replaced by noise, at most, in each training image")
    epochs: int = Field(30, ge=1)
    rate: float = Field(2e-3, gt=0)

    @model_validator(mode="after")
    def _of_one_size(self) -> HetNetConfig:
        if (self.backbone == "embedded") == self.second.startswith("deit"):
            raise ValueError("second: deit_base_patch16_224 goes with size: full, the other teachers with size: embedded")
        return self


class FaderConfig(TrainedConfig):
    """FADeR-style. Only the abstract's description is known (`nandlib.detectors.fader_network`); sizes and schedule are this study's."""

    published: ClassVar[dict[str, Any]] = {}

    size: Literal["embedded"] = Field("embedded", description="the only one")
    stages: tuple[int, ...] = Field((), max_length=0, description="no backbone: it sees pixels")
    side: int = Field(128, ge=32, description="pixels a side of what the U-Net sees")
    widths: tuple[Count, ...] = Field((8, 16, 32, 48), min_length=2, description="channels of the U-Net's levels, the finest first")
    cell: int = Field(8, ge=1, description="pixels a side of the mask's cells, at `side`")
    epochs: int = Field(40, ge=1, description="of the U-Net")
    gate_epochs: int = Field(20, ge=1, description="of the gates, with the U-Net frozen")
    versions: int = Field(2, ge=1, description="synthetic corruptions of each normal image")
    rate: float = Field(2e-3, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> FaderConfig:
        fold = 2 ** (len(self.widths) - 1)
        if self.side % fold or 2 * self.cell > self.side:
            raise ValueError(
                f"side: {self.side} must be a multiple of {fold}, by its {len(self.widths)} widths, and hold two cells or more"
            )
        return self


class TrainedDetectors(Section):
    """The detectors that are trained on a study's normal images."""

    uniad: UniAdConfig = UniAdConfig()
    onenip: OneNipConfig = OneNipConfig()
    pbas: PbasConfig = PbasConfig()
    pradot: PradotConfig = PradotConfig()
    hetnet_style: HetNetConfig = HetNetConfig()
    fader_style: FaderConfig = FaderConfig()

    def of(self, name: str) -> TrainedConfig:
        """The settings of one of `TRAINED_NAMES`."""
        found: TrainedConfig = getattr(self, name)
        return found
