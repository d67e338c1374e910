"""A study's preset: one frozen, validated object made once from a YAML file and passed on explicitly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from nandlib.data.config import DataConfig
from nandlib.detectors.config import TRAINED_NAMES, DetectorName, PatchCoreConfig, TrainedDetectors, WinClipConfig, family_of
from nandlib.errors import PresetError, nearest
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.settings import EMBEDDED_HEADS, RANDOM, Section, each_once, read_yaml

HELD_OUT_SEED = 424242  # of auxiliary images that train no model
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class TrainingConfig(Section):
    """How the pipeline trains an embedded model of its own."""

    seed: int = Field(ge=0, description=f"any but {HELD_OUT_SEED}, whose images test models")
    n_images: int = Field(6000, ge=8, description="auxiliary images")
    steps: int = Field(1000, ge=1, description="of the optimiser")
    drawing: Literal["shared", "disjoint"] = Field(
        "shared", description="defects and words of the training: as the embedded data set's, or sharing none with a study"
    )

    @model_validator(mode="after")
    def _trains_on_its_own(self) -> TrainingConfig:
        if self.seed == HELD_OUT_SEED:
            raise ValueError(f"seed: {HELD_OUT_SEED} draws the images that test embedded models: another one")
        return self


class ModelConfig(Section):
    """The vision-language model."""

    name: Literal["mini", "clip"] = "mini"
    weights: Path | None = Field(
        None, description="file of the trained projections, relative to the project; or 'random'; None: the embedded model's own"
    )
    clip_weights: Path | None = Field(None, description="CLIP's own weights (name: clip), relative to the project; or 'random'")
    training: TrainingConfig | None = Field(
        None,
        description="train `weights` (data/models/<name>/heads.safetensors) for this study; None: they are there already",
    )
    precision: Literal["float32", "autocast", "auto"] = Field(
        "float32",
        description="of the networks' passes; autocast: bfloat16 where torch deems it safe; auto: autocast where it is measured to be "
        "faster, so that another machine may give other digits",
    )
    compiled: bool = Field(False, description="CLIP's image tower by torch.compile: minutes at first, then faster; for many images")
    device: str = Field("cpu", description="torch device")

    @model_validator(mode="after")
    def _fits_together(self) -> ModelConfig:
        """The folder of trained weights names the model in the pipeline, whose commands go through a shell."""
        if self.compiled and self.name != "clip":
            raise ValueError("compiled: it is CLIP's image tower that is compiled: remove it, or set name: clip")
        if self.training is not None and self.weights is not None and not PLAIN_NAME.fullmatch(self.weights.parent.name):
            raise ValueError(
                f"weights: the folder's name '{self.weights.parent.name}' names the model: letters, digits, '_' and '-' only, "
                f"such as data/models/mine/heads.safetensors"
            )
        return self


class FigureConfig(Section):
    """What the figures show; nothing here changes a number."""

    class_name: str | None = Field(None, description="class of Figures 1 to 3; None: the study's first")
    group: str | None = Field(None, description="normality that is added in Figures 1 and 3; None: the class's first")


class EngineConfig(Section):
    """Where ``nand study run`` lets images pass through networks; nothing here changes a number, but by rounding."""

    name: Literal["local", "ray"] = "local"
    address: str | None = Field(None, description='of a running Ray cluster ("auto", "host:6379"); None: one on this machine')
    workers: int | None = Field(None, ge=1, description="on the cluster; None: one a processor")
    threads: int = Field(1, ge=1, description="of a worker on the cluster; another number rounds otherwise")


class Study(Section):
    """One study: data, model, texts, method, detectors. Every section but the engine must be there (``{}`` for its defaults): DVC
    watches the sections of the preset file by name."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    data: DataConfig
    model: ModelConfig
    prompts: PromptConfig
    nand: NandConfig
    detectors: Annotated[tuple[DetectorName, ...], AfterValidator(each_once)] = Field(min_length=1)
    winclip: WinClipConfig
    patchcore: PatchCoreConfig
    trained: TrainedDetectors
    figures: FigureConfig
    engine: EngineConfig = EngineConfig()

    def required_for_clip(self) -> dict[str, Path | None]:
        """The full-size networks of the detectors in use: key of the preset → file of weights."""
        families = {family_of(name) for name in self.detectors}
        files = {"model.weights": self.model.weights, "model.clip_weights": self.model.clip_weights}
        if "winclip" in families:
            files["winclip.weights"] = self.winclip.weights
        if "patchcore" in families:
            files["patchcore.backbone_weights"] = self.patchcore.backbone_weights
        return files

    def weight_files(self) -> dict[str, Path]:
        """Key of the preset → file of weights, of all that this study loads."""
        full = self.required_for_clip() if self.model.name == "clip" else {}
        files: dict[str, Path | None] = {
            "model.weights": self.model.weights or EMBEDDED_HEADS,
            "patchcore.backbone_weights": self.patchcore.backbone_weights,
            **full,
        }
        if "patchcore" not in self.detectors:
            del files["patchcore.backbone_weights"]
        for name in (name for name in TRAINED_NAMES if name in self.detectors):
            config = self.trained.of(name)
            files |= {f"trained.{name}.{key}": getattr(config, key) for key in config.weight_fields}
        return {key: path for key, path in files.items() if path is not None}

    @property
    def random(self) -> bool:
        """Whether any weights are random: nothing that this study computes is a result."""
        return RANDOM in self.weight_files().values()


def load_study(path: str | Path) -> Study:
    """Read and validate a study preset.

    Raises:
        PresetError: If the file is missing, or a key or value is not valid; the message names the key and suggests
            the nearest valid one.
    """
    path = Path(path)
    if not path.exists() and (other := path.parent / "kinds" / path.name).is_file():
        raise PresetError(f"{path} does not exist, {other} does: no study of images; nandlib.study.open_kind.open_kind opens it")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise PresetError(f"{path} must be a mapping with the keys {', '.join(Study.model_fields)}")
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise PresetError("\n".join(_explain(path, problem) for problem in error.errors())) from None
    if study.name != path.stem:
        raise PresetError(f"{path}: key 'name' is '{study.name}' but must be the file's name, '{path.stem}'")
    return study


def _explain(path: Path, problem: Any) -> str:
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key '{key}': {nearest(location[-1], _section(location[:-1]).model_fields)}"
    if problem["type"] == "literal_error":
        valid = [word.strip("' ") for word in problem["ctx"]["expected"].replace(" or ", ",").split(",")]
        return f"{path}: key '{key}' is '{problem['input']}': {nearest(problem['input'], valid)}"
    if problem["type"] == "missing":
        return f"{path}: key '{key}' is missing: copy it from studies/template.yaml"
    if problem["type"] == "tuple_type":
        return f"{path}: key '{key}': must be a list, such as [{problem['input']}]"
    if problem["type"] == "string_pattern_mismatch" and key == "name":
        return f"{path}: key 'name' is '{problem['input']}': small letters, digits and _ alone, a letter first, and the file's name too"
    return f"{path}: key '{key}': {problem['msg']} (got {problem['input']!r})"


def _section(location: tuple[Any, ...]) -> type[BaseModel]:
    section: type[BaseModel] = Study
    for part in location:
        annotation = section.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return section
