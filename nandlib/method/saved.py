"""An adapted detector as a folder: YAML that can be read, safetensors beside it, no code."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, ValidationError
from ruamel.yaml import YAML
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nandlib.data.maps import Detector, MapFolder, check_maps
from nandlib.errors import DataError
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.method.descriptors import Descriptors
from nandlib.method.prompts import PromptSet
from nandlib.method.threshold import Threshold
from nandlib.settings import Section, read_yaml

NAMES = ("adapted.yaml", "adapted.safetensors")
SHOWN = "shown."  # before the name of a normality: the tensor of its examples
SAME = 1e-3  # share by which what one detector says of an image may differ among processors


Key = Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$")]  # hexadecimal


class Words(Section):
    """Templates and states of a `nandlib.method.prompts.PromptSet`."""

    templates: tuple[str, ...]
    normal_states: tuple[str, ...]
    abnormal_states: tuple[str, ...]
    config: PromptConfig

    @classmethod
    def of(cls, prompts: PromptSet) -> Words:
        """Those of a prompt set."""
        return cls(**{name: getattr(prompts, name) for name in cls.model_fields})

    def prompt_set(self, folder: Path) -> PromptSet:
        """The prompt set again, whose file is that of the folder."""
        return PromptSet(str(folder / NAMES[0]), phrases={}, **{name: getattr(self, name) for name in type(self).model_fields})


class Cut(Section):
    """A `nandlib.method.threshold.Threshold`."""

    value: float = Field(allow_inf_nan=False)
    level: float = Field(ge=0, le=1)
    n_normals: int = Field(ge=1)
    confidence: float | None = None


class Saved(Section):
    """What ``adapted.yaml`` holds. The base detector is named, not contained: whoever loads gives it."""

    format: Literal[1] = 1
    detector: str = Field(description="class of the base detector")
    probe: tuple[float, float] | None = Field(None, description="mean and maximum of its map of a drawn image, if a threshold is kept")
    maps: str | None = Field(None, description="folder of its maps, if it is one; relative to this folder where it can be")
    image_root: str | None = Field(None, description="of the images that those maps belong to; relative as `maps` is")
    noun: str
    normalities: dict[str, tuple[str, ...]]
    others: tuple[tuple[str, ...], ...] = ()
    nand: NandConfig
    prompts: Words
    threshold: Cut | None = None
    shown: tuple[str, ...] = Field((), description="names of normalities with examples, in order")
    keys: dict[str, tuple[Key, ...]] = Field({}, description="of the examples' pixels, by the name of their normality")
    level: float | None = Field(None, description="how high a normal image's map is; null: not known")
    highest: float | None = Field(None, description="how high the highest of them is; null: not known")


def relative(path: Path, folder: Path) -> str:
    """A path as it is written: as it is seen from the folder, or whole, where that lies on another drive."""
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:
        return path.absolute().as_posix()


def absolute(path: str, folder: Path) -> Path:
    """A path that was written so."""
    return Path(os.path.abspath(folder.resolve() / path))


def probe(detector: Detector) -> tuple[float, float] | None:
    """Mean and maximum of a detector's map of one drawn image, by which another detector is told; None where it takes no such image, or
    says something else of it each time."""
    squares = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    try:
        maps = [check_maps(detector([Image.fromarray(squares)]), 1, type(detector).__name__)[0] for _ in range(2)]
    except MemoryError:
        raise
    except Exception:  # of anybody's code, which may know files alone
        return None
    first, again = ((float(found.mean()), float(found.max())) for found in maps)
    return first if np.allclose(first, again, rtol=SAME, atol=0) else None


def detector_words(detector: Detector, folder: Path, threshold: Threshold | None) -> dict[str, Any]:
    """What `Saved` says of a base detector, and of the threshold that was set on it."""
    maps = detector if isinstance(detector, MapFolder) else None
    return {
        "detector": type(detector).__name__,
        "threshold": None if threshold is None else Cut(**asdict(threshold)),
        "probe": None if threshold is None or maps is not None else probe(detector),
        "maps": None if maps is None else relative(maps.folder, folder),
        "image_root": None if maps is None or maps.image_root is None else relative(maps.image_root, folder),
    }


def base_detector(found: Saved, folder: Path, given: Detector | str | Path | None) -> Detector:
    """The base detector that is given, or the folder of maps that was saved.

    Raises:
        DataError: If none is given where one is needed, or it is of another class.
    """
    if given is None and found.maps is None:
        raise DataError(f"{folder} was saved with a {found.detector} as base detector, which is not in it: load(folder, detector)")
    if given is None:
        given = absolute(str(found.maps), folder)
        if not given.is_dir():
            raise DataError(f"{folder / 'adapted.yaml'}: maps: there is no folder {given}: load(folder, FOLDER_OF_MAPS) names another")
    images = None if found.image_root is None else absolute(found.image_root, folder)
    detector = MapFolder(given, images) if isinstance(given, (str, Path)) else given
    if type(detector).__name__ != found.detector:
        how = " (nandlib.integrations.anomalib.AnomalibDetector(module) is one)" if found.detector == "AnomalibDetector" else ""
        raise DataError(f"{folder} was saved with {found.detector} as base detector{how}, not with {type(detector).__name__}")
    return detector


def kept_threshold(found: Saved, folder: Path, detector: Detector) -> Threshold | None:
    """The threshold that was saved; None, with a warning, if another detector is given than it was set on, as far as that can be told."""
    if found.threshold is None:
        return None
    now = None if found.probe is None else probe(detector)
    if found.probe is None or (now is not None and np.allclose(now, found.probe, rtol=SAME, atol=0)):
        return Threshold(**found.threshold.model_dump())
    said = f"was set on another {found.detector} than is given" if now else f"cannot be told to be of the {found.detector} that is given"
    warnings.warn(f"{folder}: the threshold {said}, and is left out: adapted.calibrate(normals)", stacklevel=3)
    return None


def write(folder: Path, saved: Saved, tensors: Mapping[str, Tensor]) -> None:
    """Write both files, each whole or not at all.

    Raises:
        DataError: If there can be no such folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be a folder ({error.strerror}): give another") from error
    yaml = YAML()
    yaml.width = 4096

    def text(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(saved.model_dump(mode="json"), file)

    _replace(folder / NAMES[1], lambda path: save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path))
    _replace(folder / NAMES[0], text)


def read(folder: Path) -> tuple[Saved, dict[str, Tensor]]:
    """Read both files.

    Raises:
        DataError: If one is missing, of another version, or not what `write` writes; the message names the file and the key.
    """
    paths = [folder / name for name in NAMES]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is missing: {folder} must be a folder that AdaptedDetector.save has written")
    content: Any = read_yaml(paths[0])
    try:
        saved = Saved.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"])) or "the file"
        raise DataError(f"{paths[0]}: {key}: {problem['msg']} (this version of nandlib reads format 1)") from None
    try:
        tensors = {name: tensor.clone() for name, tensor in load_file(paths[1]).items()}  # aligned as a new tensor is
    except SafetensorError as error:
        raise DataError(f"{paths[1]} is not a safetensors file: {error}") from error
    widths = {name: tensor.shape[1] for name, tensor in tensors.items() if name.startswith((SHOWN, "normal_patches")) and tensor.ndim == 2}
    for name, tensor in tensors.items():
        if (
            tensor.dtype != torch.float32
            or not tensor.numel()
            or not tensor.isfinite().all()
            or tensor.ndim != (name != "normal_token") + 1
        ):
            raise DataError(f"{paths[1]} is damaged: '{name}' holds no features; save the detector again")
    if missing := next((name for name in saved.shown if SHOWN + name not in tensors), None):
        raise DataError(f"{paths[1]} is damaged: it lacks the examples of '{missing}'; save the detector again")
    if len(set(widths.values())) > 1:
        raise DataError(f"{paths[1]} is damaged: {', '.join(widths)} are features of several widths; save the detector again")
    return saved, tensors


def shown(folder: Path, tensors: Mapping[str, Tensor], order: Sequence[str], descriptors: Descriptors) -> dict[str, Tensor]:
    """The examples among the tensors, by the name of their normality, in the order in which they were added (as far as it is known).

    Raises:
        DataError: If they are none of the descriptors of the detector that is given.
    """
    found = {name.removeprefix(SHOWN): tensor for name, tensor in tensors.items() if name.startswith(SHOWN)}
    if found and (width := next(iter(found.values())).shape[1]) != (own := descriptors.normal.shape[1]):
        raise DataError(
            f"{folder} holds examples by {width} features a patch, and the detector that is given has {own}: load the right one"
        )
    return {name: found[name] for name in dict.fromkeys((*order, *found))}


def _replace(path: Path, fill: Callable[[Path], None]) -> None:
    """Write a file beside its place, then move it there."""
    other = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fill(other)
        other.replace(path)
    finally:
        other.unlink(missing_ok=True)


def refuse_other_texts(folder: Path, tensors: Mapping[str, Tensor], texts: Tensor) -> None:
    """Raise DataError if the text features ``(K, D)`` of `texts` are not those that were saved."""
    kept = tensors.get("texts", torch.empty(0))
    if kept.shape != texts.shape or not float((kept * texts).sum(-1).min()) >= 1 - 1e-4:
        raise DataError(f"{folder} was saved with another vision-language model: its texts have other features; load(…, model=…)")
