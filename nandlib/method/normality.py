"""`add_normality`: Eq. 5, a trained detector and a text or examples in, an adapted detector out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from nandlib.data.images import ImageLike, refuse_single
from nandlib.data.maps import Detector, MapFolder
from nandlib.errors import DataError, short
from nandlib.method.adapt import AdaptedDetector
from nandlib.method.batches import mean_token
from nandlib.method.config import METHODS, MethodName, NandConfig, PromptConfig
from nandlib.method.descriptors import Descriptors
from nandlib.method.examples import Example
from nandlib.method.prompts import PromptSet, checked_phrases, load_prompts
from nandlib.method.shown import Shown
from nandlib.models import VisionLanguageModel, load_model


def add_normality(
    detector: Detector | str | Path,
    text: str | Sequence[str] = (),
    *,
    examples: Sequence[ImageLike | Example] = (),
    model: VisionLanguageModel | None = None,
    noun: str = "object",
    name: str | None = None,
    prompts: PromptSet | None = None,
    nand: NandConfig = NandConfig(),
    method: MethodName | None = None,
    normals: Sequence[ImageLike] = (),
    others: Sequence[str | Sequence[str]] = (),
) -> AdaptedDetector:
    """Eq. 5: make what `text` says, or `examples` show, normal for a trained detector, without training.

    Args:
        detector: Anything that maps a sequence of images to anomaly maps ``(N, H, W)`` (larger is more anomalous), a
            folder of such maps as .npy or .tiff, or a detector that was adapted before. Photographs are seen upright, as their EXIF
            orientation says: one that opens files by itself must turn them too (``PIL.ImageOps.exif_transpose``).
        text: A phrase ("thread on carpet"), or several phrases for the same thing.
        examples: Images that show it: paths, PIL images or arrays, whose region of highest anomaly counts, or
            `nandlib.method.examples.Example` with a mask, box or point.
        model: Finds where an image shows what the text says: ``load_model(...)``; default: the embedded one.
        noun: What the images show, for the normal state ("carpet").
        name: Under which the normality can be removed again; default: its first phrase, or ``example``.
        prompts: Templates and states; default: APRIL-GAN's.
        nand: Parameters of Eq. 4 and 6, and of `nand_plus`.
        method: ``"nand"``, the paper's rule, or ``"nand_plus"``, this study's (`nandlib.method.plus`); default: what `nand` says.
        normals: Some normal images, such as the detector was trained on, with which `nand_plus` is calibrated, and from which
            examples are told (PatchCore lends its own memory for that).
        others: Defects that stay abnormal, in words, for `nand_plus` with ``plus.competitors: types``.

    Returns:
        A detector: call it on images; `add` and `remove` give detectors with more or fewer normalities.

    Raises:
        UnheardWarning: A warning: no word of a phrase is among those that trained the embedded model.
        DataError: If there is neither text nor example, a phrase is none, an example shows nothing, the folder of maps does not exist, a
            parameter has no meaning here, or normal images are missing where they are needed.
        ModelError: If a model's weights are missing or do not fit.

    Example:
        >>> adapted = add_normality(detector, "loose thread", noun="carpet")  # doctest: +SKIP
        >>> maps = adapted(["carpet/000.png"])  # doctest: +SKIP
        >>> adapted = add_normality(detector, examples=["rejected_yesterday.png"])  # doctest: +SKIP
    """
    refuse_single(normals, "normals")
    for key, word in {"noun": noun, "name": name or ""}.items():
        if not isinstance(word, str):
            raise DataError(f"{key} must be text, not {short(word)}")
    if not noun.strip():
        raise DataError("noun is empty: say in a word what the images show, or leave it out")
    for key, value, kind in (("nand", nand, NandConfig), ("prompts", prompts, PromptSet)):
        if value is not None and not isinstance(value, kind):
            raise DataError(f"{key} must be a {kind.__name__}, not {short(value)}")
    if model is not None and not hasattr(model, "encode_text"):
        raise DataError(f"model must be a vision-language model, as load_model gives it, not {short(model)}")
    if isinstance(detector, AdaptedDetector):
        kept = (model, prompts, method) == (None, None, None) and noun == "object" and nand == NandConfig() and not (len(normals) or others)
        if not kept:
            raise DataError("the detector is adapted already and keeps its model, noun, prompts and parameters: give the text alone")
        return detector.add(text, name, examples=examples)
    if method is not None:
        if method not in METHODS:
            raise DataError(f"method is {method!r}: {' or '.join(map(repr, METHODS))}")
        nand = nand.model_copy(update={"method": method})
    _check(nand, normals, others)
    if isinstance(detector, (str, Path)):
        detector = MapFolder(detector)
    elif isinstance(detector, nn.Module) and hasattr(detector, "pre_processor"):
        raise DataError(
            f"{type(detector).__name__} is a model of anomalib, which takes tensors: "
            "give nandlib.integrations.anomalib.AnomalibDetector(module), or adapt_module(module, text)"
        )
    elif not callable(detector) or isinstance(detector, type):
        how = "is a class: give one that is fitted" if isinstance(detector, type) else "cannot be called"
        raise DataError(f"a detector gives anomaly maps of images when it is called; {short(detector)} {how}")
    model = model or load_model("mini")
    prompts = prompts or load_prompts(PromptConfig(file="aprilgan"))
    token = mean_token(model, normals) if nand.calibrated else None
    stay = tuple(map(checked_phrases, others))
    if () in stay:
        raise DataError("others: a defect that stays abnormal needs at least one phrase")
    if text:
        _check_noun(model, prompts, noun)
    shown = Shown(Descriptors(detector, model, normals), nand)
    return AdaptedDetector(detector, model, prompts, noun, nand, {}, shown, stay, token).add(text, name, examples=examples)


def _check_noun(model: VisionLanguageModel, prompts: PromptSet, noun: str) -> None:
    """Raise DataError for a noun that the model cannot read, before any image comes."""
    try:
        model.encode_text([max((*prompts.normal(noun), *prompts.abnormal(noun)), key=len)])
    except DataError as error:
        raise DataError(f"noun: {error}") from error


def _check(nand: NandConfig, normals: Sequence[ImageLike], others: Sequence[str | Sequence[str]]) -> None:
    """Raise DataError for parameters that have no meaning for a detector alone, or lack what they need."""
    if isinstance(others, str) or others is None:
        raise DataError(f"others must be a sequence of defects, not one: [{others!r}]")
    if nand.calibrated and not len(normals):
        raise DataError(
            "nand_plus is calibrated on normal images: give some as normals=[...], or nand=NandConfig(method='nand_plus', "
            "plus=PlusConfig(calibrate=False))"
        )
    if nand.competitors == "types" and not others:
        raise DataError("plus.competitors 'types' needs the defects that stay abnormal: others=[\"hole\", ...], or competitors 'bank'")
    if nand.layer_aggregation == "sum":
        raise DataError("layer_aggregation 'sum' goes beyond 1, and maps below 0: 'clipped_sum', or 'mean', the default")
    if others and nand.competitors != "types":
        raise DataError("others=[...] are rivals of nand_plus with plus.competitors 'types': they do nothing here, leave them out")
    if nand.image_score == "max_plus_image" or nand.base_normalisation != "none":
        raise DataError("add_normality sees maps only: image_score 'max_plus_image' and base_normalisation belong to a study")
