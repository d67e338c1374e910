"""A study of surfaces: its preset, one frozen, validated object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from nandlib.method.config import ExampleConfig
from nandlib.settings import Section, each_once
from nandlib.surfaces.parts import PARTS


class DrawnParts(Section):
    """Procedural parts (`nandlib.surfaces.parts`) with faults made by hand (`nandlib.surfaces.faults`)."""

    layout: Literal["drawn"]
    seed: int = Field(0, ge=0)
    points: int = Field(4096, ge=256, description="tried on every piece")
    n_train: int = Field(16, ge=4, description="pieces to train on, a part")
    n_good: int = Field(16, ge=1, description="tested pieces without a fault, a part")
    n_fault: int = Field(12, ge=1, description="tested pieces, a part and fault")


class ScannedParts(Section):
    """MVTec 3D-AD, whose clouds are organised."""

    layout: Literal["mvtec_3d"]
    root: Path = Field(description="folder of the data set, relative to the project")
    points: int = Field(4096, ge=256, description="about as many cells of the grid are kept of every scan")


class MemoryConfig(Section):
    """Point feature histograms against a memory of normal ones (`nandlib.surfaces.memory`). The defaults are those of an untuned one."""

    neighbours: tuple[Annotated[int, Field(ge=4)], ...] = Field((32,), min_length=1, description="k of every neighbourhood")
    smooth: int = Field(1, ge=1, description="nearest points over which a map is averaged, itself among them")
    coreset_ratio: float = Field(0.02, gt=0, le=1)
    seed: int = Field(0, ge=0)


class SurfaceStudy(Section):
    """A study of surfaces."""

    kind: Literal["surfaces"]
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    data: Annotated[DrawnParts | ScannedParts, Field(discriminator="layout")]
    parts: Annotated[tuple[str, ...], AfterValidator(each_once)] = Field(
        tuple(PARTS), min_length=1, description="their names, or those of the data set's classes"
    )
    untuned: MemoryConfig = MemoryConfig()
    tuned: MemoryConfig = Field(MemoryConfig(), description="by `nand surface-selection`, on Perlin anomalies")
    reach: int = Field(64, ge=2, description="nearest points among which a peak is the highest; by `nand surface-selection`")
    examples: ExampleConfig = ExampleConfig()
    draws: int = Field(10, ge=1, description="of examples")

    @model_validator(mode="after")
    def _of_its_data(self) -> SurfaceStudy:
        if isinstance(self.data, ScannedParts) and "parts" not in self.model_fields_set:
            raise ValueError("parts: name the classes of the data set, [bagel, carrot]")
        return self
