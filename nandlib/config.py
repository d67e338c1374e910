"""Study presets: one frozen, validated object made once from a YAML file and passed on explicitly.

Every ambiguity of the paper is a named parameter here, with the default that the study uses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nandlib.errors import PresetError, nearest

Detector = Literal["aprilgan", "aprilgan_1", "aprilgan_5", "winclip_0", "winclip_1", "winclip_5", "patchcore"]
RANDOM = Path("random")  # in place of a file of weights: exercises the code path; never results
DETECTORS: tuple[Detector, ...] = get_args(Detector)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DrawnConfig(_Section):
    """The embedded data set, drawn when the study runs."""

    catalogue: Literal["mvtec_ad", "validation"] = Field(
        "mvtec_ad", description="products in the image of MVTec AD, or those of validation"
    )
    seed: int = 0
    size: int = Field(256, ge=64, le=1024, description="side of the images in pixels")
    n_train: int = Field(16, ge=1, description="train/good images a class")
    n_good: int = Field(16, ge=1, description="test/good images a class")
    n_defect: int = Field(8, ge=1, description="images an anomaly type")
    classes: tuple[str, ...] | None = Field(None, description="draw only these; all 15 if not given")


class DataConfig(_Section):
    """Where the images are and how anomaly types are grouped."""

    root: Path = Field(description="folder in MVTec AD layout, relative to the project")
    drawn: DrawnConfig | None = None
    groups: str = Field("types", description="'types' (each type its own group), 'mvtec_ad' (Table 1), or a YAML file")
    classes: tuple[str, ...] | None = Field(None, description="use only these classes")
    exclude_classes: tuple[str, ...] = ()
    exclude_types: tuple[str, ...] = Field((), description="types left out of the test set ('combined' in the paper)")
    abnormal_types: tuple[str, ...] = Field((), description="types that are in no group and always stay abnormal")
    on_unreadable: Literal["error", "skip"] = "error"


class TrainingConfig(_Section):
    """How the pipeline trains an embedded model of its own."""

    seed: int
    n_images: int = Field(6000, ge=8, description="auxiliary images")
    steps: int = Field(1000, ge=1, description="of the optimiser")


class ModelConfig(_Section):
    """The vision-language model."""

    name: Literal["mini", "clip"] = "mini"
    weights: Path = Field(description="file of the trained projections, relative to the project; or 'random'")
    clip_weights: Path | None = Field(None, description="CLIP's own weights (name: clip), relative to the project; or 'random'")
    training: TrainingConfig | None = Field(
        None,
        description="train `weights` (data/models/<name>/heads.safetensors) for this study; None: they are there already",
    )
    precision: Literal["float32", "autocast"] = "float32"
    device: str = Field("cpu", description="torch device")


class PromptConfig(_Section):
    """The texts: which phrases stand for a group, and how they become one feature (Eq. 3)."""

    file: str = Field("mvtec_ad", description="a prompt file of the package, or a YAML file")
    group_text: Literal["union", "group_name"] = Field("union", description="a group of several types: all their phrases, or its name")
    class_name: Literal["verbatim", "cleaned"] = Field("verbatim", description="in the normal and abnormal states: metal_nut or metal nut")
    average: Literal["normalised", "raw_mean"] = "normalised"


class PlusConfig(_Section):
    """`nand_plus` (`nandlib.method.plus`). The defaults were chosen on the validation products alone."""

    regions: bool = Field(True, description="suppress by region of the anomaly map; else patch by patch")
    competitors: Literal["bank", "types", "normal"] = Field(
        "bank",
        description="what the added text competes with: generic defects, the class's other types, or (as in the paper) the normal state",
    )
    calibrate: bool = Field(True, description="take from every similarity its mean over training-normal images")
    sharpness: float = Field(0.7, gt=0, description="factor on the temperature")
    prior: float = Field(0.3, gt=0, description="weight of each competitor against the added text: more means less suppression")
    synonym: float = Field(0.4, ge=-1, le=1, description="cosine from which on a text of the bank stands for the added one")
    peak_distance: float = Field(1 / 16, gt=0, le=1, description="between peaks, of the map's side")
    focus: float = Field(8.0, ge=0, description="a pixel of a region counts (A / peak)^focus")


class NandConfig(_Section):
    """Normality detection and suppression (Eq. 4 and 6)."""

    method: Literal["nand", "nand_plus"] = Field(
        "nand",
        description="the paper's, or this study's own, for which only `plus`, temperature and map_size say what A_sup is",
    )
    plus: PlusConfig = PlusConfig()

    temperature: float | None = Field(None, gt=0, description="of the softmax; None: the model's own (100 for CLIP)")
    layers: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, min_length=1, description="0-based subset of the model's layers for A_sup; None: all"
    )
    layer_aggregation: Literal["mean", "clipped_sum", "sum", "max"] = Field("mean", description="of A_sup")
    softmax_against: tuple[Literal["normal", "abnormal"], ...] = Field(
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


class WinClipConfig(_Section):
    """WinCLIP, zero- and few-shot; and the reference images of every few-shot detector."""

    seed: int = Field(0, description="draw of the reference images from train/good, without replacement")
    weights: Path | None = Field(None, description="CLIP ViT-B-16-plus-240 (full-size study), relative to the project; or 'random'")
    grid: int = Field(20, ge=4, description="patch tokens per side after pooling (embedded model)")


class PatchCoreConfig(_Section):
    """PatchCore."""

    seed: int = 0
    coreset_ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    coreset_projection: bool = Field(False, description="choose the coreset after a random projection, as anomalib does")
    max_patches: int | None = Field(
        20_000, ge=1, description="normal patches from which the coreset is drawn, evenly over the images; None: all (memory grows)"
    )
    interpolation: Literal["nearest", "bilinear"] = Field("nearest", description="of the map: anomalib's, or the original's")
    backbone_weights: Path | None = Field(None, description="wide_resnet50_2.tv_in1k (full-size study); or 'random'")


class FigureConfig(_Section):
    """What the figures show; nothing here changes a number."""

    class_name: str | None = Field(None, description="class of Figures 1 to 3; None: the study's first")
    group: str | None = Field(None, description="normality that is added in Figures 1 and 3; None: the class's first")


class Study(_Section):
    """One study: data, model, texts, method, detectors. Every section must be there (``{}`` for its defaults): DVC
    watches the sections of the preset file by name."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    data: DataConfig
    model: ModelConfig
    prompts: PromptConfig
    nand: NandConfig
    detectors: tuple[Detector, ...] = Field(min_length=1)
    winclip: WinClipConfig
    patchcore: PatchCoreConfig
    figures: FigureConfig

    def required_for_clip(self) -> dict[str, Path | None]:
        """The full-size networks of the detectors in use: key of the preset → file of weights."""
        families = {name.split("_")[0] for name in self.detectors}
        files = {"model.clip_weights": self.model.clip_weights}
        if "winclip" in families:
            files["winclip.weights"] = self.winclip.weights
        if "patchcore" in families:
            files["patchcore.backbone_weights"] = self.patchcore.backbone_weights
        return files

    def weight_files(self) -> dict[str, Path]:
        """Key of the preset → file of weights, of all that this study loads."""
        full = self.required_for_clip() if self.model.name == "clip" else {}
        files = {"model.weights": self.model.weights, "patchcore.backbone_weights": self.patchcore.backbone_weights, **full}
        if "patchcore" not in self.detectors:
            del files["patchcore.backbone_weights"]
        return {key: path for key, path in files.items() if path is not None}

    @property
    def random(self) -> bool:
        """Whether any weights are random: nothing that this study computes is a result."""
        return RANDOM in self.weight_files().values()


def read_yaml(path: Path) -> Any:
    """A YAML 1.2 file as plain dictionaries and lists.

    Raises:
        PresetError: If the file is missing or is not YAML.
    """
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        siblings = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise PresetError(f"{path} does not exist: {nearest(path, siblings)}") from None
    except YAMLError as error:
        raise PresetError(f"{path} is not valid YAML: {error}") from error


def load_study(path: str | Path) -> Study:
    """Read and validate a study preset.

    Raises:
        PresetError: If the file is missing, or a key or value is not valid; the message names the key and suggests
            the nearest valid one.
    """
    path = Path(path)
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
    return f"{path}: key '{key}': {problem['msg']} (got {problem['input']!r})"


def _section(location: tuple[Any, ...]) -> type[BaseModel]:
    section: type[BaseModel] = Study
    for part in location:
        annotation = section.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return section
