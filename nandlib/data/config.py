"""Settings of a study's images."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from nandlib.settings import Section, each_once

Catalogue = Literal["mvtec_ad", "validation"]


class DrawnConfig(Section):
    """The embedded data set, drawn when the study runs."""

    catalogue: Catalogue = Field("mvtec_ad", description="products in the image of MVTec AD, or those of validation")
    seed: int = Field(0, ge=0)
    size: int = Field(256, ge=64, le=1024, description="side of the images in pixels")
    n_train: int = Field(16, ge=1, description="train/good images a class")
    n_good: int = Field(16, ge=1, description="test/good images a class")
    n_defect: int = Field(8, ge=1, description="images an anomaly type")
    classes: Annotated[tuple[str, ...] | None, AfterValidator(each_once)] = Field(
        None, min_length=1, description="draw only these; all 15 if not given"
    )


class DataConfig(Section):
    """Where the images are and how anomaly types are grouped."""

    root: Path = Field(description="folder of the data set, relative to the project")
    layout: Literal["auto", "mvtec_ad", "mvtec_3d", "mvtec_loco", "ds_mvtec", "visa", "real_iad", "autovi", "table"] = Field(
        "mvtec_ad", description="how it lies there; auto: the first that fits"
    )
    drawn: DrawnConfig | None = None
    catalogue: Catalogue | None = Field(None, description="products of drawn images, where another study draws them")
    groups: str = Field("types", description="'types' (each type its own group), 'mvtec_ad' (Table 1), or a YAML file")
    classes: Annotated[tuple[str, ...] | None, AfterValidator(each_once)] = Field(None, min_length=1, description="use only these classes")
    exclude_classes: tuple[str, ...] = ()
    exclude_types: tuple[str, ...] = Field((), description="types left out of the test set ('combined' in the paper)")
    abnormal_types: tuple[str, ...] = Field((), description="types that are in no group and always stay abnormal")
    on_unreadable: Literal["error", "skip"] = "error"

    @model_validator(mode="after")
    def _one_catalogue(self) -> DataConfig:
        if self.drawn and self.catalogue:
            raise ValueError("catalogue says what another study has drawn: leave it out beside drawn, which has its own")
        return self

    @property
    def products(self) -> Catalogue | None:
        """The catalogue that the images were drawn from, here or by another study; None if they are not drawn."""
        return self.drawn.catalogue if self.drawn else self.catalogue

    def left_out(self, known: Collection[str]) -> set[str]:
        """Those of a data set's classes that the study does not take."""
        return {name for name in known if name in self.exclude_classes or (self.classes is not None and name not in self.classes)}
