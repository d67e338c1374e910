"""Settings of texts and of the method: every ambiguity of the paper is a named parameter here."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from nandlib.errors import PresetError
from nandlib.settings import Section, each_once

MethodName = Literal["nand", "nand_plus"]
METHODS: tuple[MethodName, ...] = get_args(MethodName)


class PromptConfig(Section):
    """The texts: which phrases stand for a group, and how they become one feature (Eq. 3)."""

    file: str = Field("mvtec_ad", description="a prompt file of the package, or a YAML file")
    group_text: Literal["union", "group_name"] = Field("union", description="a group of several types: all their phrases, or its name")
    class_name: Literal["verbatim", "cleaned"] = Field("verbatim", description="in the normal and abnormal states: metal_nut or metal nut")
    average: Literal["normalised", "raw_mean"] = "normalised"


class PlusConfig(Section):
    """`nand_plus` (`nandlib.method.plus`). The defaults are what `nandlib.evaluation.selection` gives on the validation products."""

    regions: bool = Field(True, description="suppress by region of the anomaly map; else patch by patch")
    competitors: Literal["bank", "types", "normal"] = Field(
        "bank",
        description="what the added text competes with: generic defects, the class's other types, or (as in the paper) the normal state",
    )
    calibrate: bool = Field(True, description="take from every similarity its mean over training-normal images")
    sharpness: float = Field(0.7, gt=0, description="factor on the temperature")
    prior: float = Field(0.2, gt=0, description="weight of each competitor against the added text: more means less suppression")
    known_prior: float = Field(1.0, gt=0, description="the same where the class's types are named, of which there are few")
    synonym: float = Field(0.3, ge=-1, le=1, description="cosine from which on a text of the bank stands for the added one")
    peak_distance: float = Field(1 / 32, gt=0, le=1, description="between peaks, of the map's side")
    focus: float = Field(8.0, ge=0, le=50, description="a pixel of a region counts (A / peak)^focus")


class ExampleConfig(Section):
    """Normality by example (`nandlib.method.examples`). The defaults are what `nandlib.evaluation.example_selection` gives."""

    similarity: float = Field(0.6, ge=-1, le=1, description="cosine of a region's residual with an example's at which A_sup is one half")
    sharpness: float = Field(20.0, gt=0, description="how steeply A_sup rises there")
    several: Literal["nearest", "odds"] = Field("nearest", description="of several examples the nearest, or the mean of their odds")
    turned: Literal["none", "mirrored", "all"] = Field(
        "all", description="an example shows itself as it is, also mirrored both ways, or in all eight positions of a square (images only)"
    )
    text_weight: float = Field(0.1, ge=0, le=1, description="how much a text counts beside examples of the same normality (log odds)")


class NandConfig(Section):
    """Normality detection and suppression (Eq. 4 and 6)."""

    method: MethodName = Field(
        "nand",
        description="the paper's, or this study's own, for which only `plus`, temperature and map_size say what A_sup is",
    )
    plus: PlusConfig = PlusConfig()
    examples: ExampleConfig = ExampleConfig()
    temperature: float | None = Field(None, gt=0, description="of the softmax; None: the model's own (100 for CLIP)")
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...] | None, AfterValidator(each_once)] = Field(
        None, min_length=1, description="0-based subset of the model's layers for A_sup; None: all"
    )
    layer_aggregation: Literal["mean", "clipped_sum", "sum", "max"] = Field("mean", description="of A_sup")
    softmax_against: Annotated[tuple[Literal["normal", "abnormal"], ...], AfterValidator(each_once)] = Field(
        ("normal",), min_length=1, description="texts beside f_add in the softmax"
    )
    map_size: int = Field(256, ge=8, description="side of all maps in pixels")
    resize: Literal["logits", "probabilities"] = "logits"
    align_corners: bool = True
    base_normalisation: Literal["none", "train_normal"] = Field(
        "none", description="subtract the 99% quantile of training-normal maps, clamp at 0"
    )
    image_score: Literal["max", "topk_mean", "max_plus_image"] = "max"
    top_fraction: float = Field(0.001, gt=0, le=1, description="of the pixels, for topk_mean")

    @property
    def by_regions(self) -> bool:
        """Whether A_sup is made region by region of an anomaly map, so that detectors have different ones."""
        return self.method == "nand_plus" and self.plus.regions

    @property
    def calibrated(self) -> bool:
        """Whether A_sup needs normal images."""
        return self.method == "nand_plus" and self.plus.calibrate

    @property
    def competitors(self) -> Literal["bank", "types", "normal"] | None:
        """What the added text competes with beyond the texts of the paper's softmax."""
        return self.plus.competitors if self.method == "nand_plus" else None

    def layers_of(self, n_layers: int) -> list[int]:
        """Those of a model's `n_layers` that A_sup is made of.

        Raises:
            PresetError: If ``layers`` names one that the model does not have.
        """
        found = list(range(n_layers) if self.layers is None else self.layers)
        if max(found) >= n_layers:
            raise PresetError(f"nand.layers: the model has the layers 0 to {n_layers - 1}, not {max(found)}")
        return found
