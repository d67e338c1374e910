"""A study of signals: its preset, one frozen, validated object."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from nandlib.method.config import ExampleConfig, PlusConfig
from nandlib.settings import Section


class AutoencoderConfig(Section):
    """MMAE-ECG-style; sizes and schedule are this study's (`nandlib.signals.autoencoder_network`)."""

    seed: int = Field(0, ge=0)
    segments: int = Field(20, ge=2, description="T; must divide the samples of a record")
    local: int = Field(5, ge=1, description="δ, consecutive segments of the local set")
    mask_ratio: float = Field(0.5, gt=0, lt=1, description="θ, of either set")
    masks: int = Field(8, ge=1, description="at test, in complementary parts")
    width: int = Field(64, ge=8, multiple_of=4, description="of the tokens; four heads share it")
    layers: int = Field(2, ge=1, description="of the encoder")
    epochs: int = Field(60, ge=1)
    batch_size: int = Field(64, ge=1)
    rate: float = Field(1e-3, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> AutoencoderConfig:
        if self.local > self.segments:
            raise ValueError(f"local: {self.local} segments of {self.segments}: at most all of them")
        if round(self.mask_ratio * self.segments) >= self.segments:
            raise ValueError(f"mask_ratio: {self.mask_ratio:g} of {self.segments} segments are all of them: one must be seen")
        return self


class SignalData(Section):
    """Where the records are."""

    layout: Literal["ecg5000", "ptbxl"]
    root: Path = Field(description="file (ecg5000) or folder (ptbxl), relative to the project")
    seed: int = Field(0, ge=0, description="of the draw of normal beats that are trained on (ecg5000, typed beats)")
    rate: Literal[100, 500] = Field(100, description="samples a second (ptbxl)")


class SignalStudy(Section):
    """A study of signals."""

    kind: Literal["signals"]
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    data: SignalData
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    nearest: int = Field(3, ge=1, description="k of the baseline: how many normal records nearest by")
    window: int = Field(40, ge=3, description="samples around a point that describe it, for normality by example")
    draws: int = Field(10, ge=1, description="of examples")
    plus: PlusConfig = Field(
        PlusConfig(peak_distance=0.5), description="how regions are found; window and distance: by `nand signal-selection`"
    )
    examples: ExampleConfig = ExampleConfig()
