"""Any detector of the study for one's own images, by its name. What others need is not imported: anomalib takes seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nandlib.data.images import ImageLike, as_image, refuse_single
from nandlib.detectors.aprilgan import AprilGan
from nandlib.detectors.base import TorchDetector
from nandlib.detectors.config import TRAINED_NAMES, PatchCoreConfig, WinClipConfig, family_of
from nandlib.detectors.training import Run
from nandlib.errors import DataError, PresetError, nearest, short
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.method.prompts import PromptSet, load_prompts
from nandlib.models import VisionLanguageModel, load_model

FAMILIES = re.compile(r"aprilgan(_\d+)?|winclip_\d+|patchcore")
NAMES = ("aprilgan", "aprilgan_<k>", "winclip_<k>", "patchcore", *TRAINED_NAMES)


def fit_detector(
    name: str,
    model: VisionLanguageModel | None = None,
    *,
    noun: str = "object",
    normals: Sequence[ImageLike] = (),
    prompts: PromptSet | None = None,
    nand: NandConfig = NandConfig(),
    patchcore: PatchCoreConfig = PatchCoreConfig(),
    window_grid: int = WinClipConfig().grid,
    run: Run = Run(),
) -> TorchDetector:
    """A detector for images of one kind.

    Args:
        name: ``aprilgan`` (zero-shot), ``aprilgan_<k>``, ``winclip_0`` (zero-shot), ``winclip_<k>``, ``patchcore``, or one that is
            trained, for which more can be set by its own ``fit``: ``uniad``, ``onenip``, ``pbas``, ``pradot``, ``hetnet_style``,
            ``fader_style``. k is the number of
            reference images: the first k of `normals`.
        model: Its image and text towers; None: the embedded one.
        noun: What the images show, for the texts of APRIL-GAN and WinCLIP.
        normals: Normal images: all of them fit PatchCore and those that are trained, the first k are references.
        prompts: APRIL-GAN's templates and states; default: its own.
        nand: Map size and interpolation of APRIL-GAN.
        patchcore: Coreset ratio, seed, interpolation.
        window_grid: Patch tokens a side for WinCLIP's windows.
        run: Progress of a training, and where its state is kept.

    Raises:
        PresetError: If there is no detector of that name.
        DataError: If there are too few normal images, `noun` is no word, or `model` no model.
    """
    check_name(name)
    if not isinstance(noun, str) or not noun.strip():
        raise DataError(f"noun must be a word that says what the images show, not {short(noun)}")
    if model is not None and not hasattr(model, "encode_text"):
        raise DataError(
            f"model must be a vision-language model, as load_model gives it, not {short(model)}; normal images are normals=[...]"
        )
    if not isinstance(normals, Mapping):
        refuse_single(normals, "normals")
    elif name not in TRAINED_NAMES:
        raise DataError(f"{name} is for images of one class: give their list, not {len(normals)} classes")
    if name in TRAINED_NAMES:
        from nandlib.detectors.trained import TRAINED

        return TRAINED[name].fit(normals, model or load_model("mini"), run=run)
    family, few = family_of(name), shots(name)
    least = 1 if family == "patchcore" else few
    if len(normals) < least:
        how = "give them as normals=[...] (on the command line --normals FOLDER)"
        raise DataError(f"{name} needs {least} normal image(s), not {len(normals)}: {how}")
    model = model or load_model("mini")
    if family == "patchcore":
        from nandlib.detectors.patchcore import PatchCore

        return PatchCore(model, normals, patchcore)
    references = [as_image(image) for image in normals[:few]]
    if family == "winclip":
        from nandlib.detectors.winclip import WinClip, WindowEncoder

        return WinClip(WindowEncoder(model, window_grid), noun, references)
    return AprilGan(model, prompts or load_prompts(PromptConfig(file="aprilgan")), noun, nand, references)


def shots(name: str) -> int:
    """How many normal images are references of the detector of that name, the first ones; 0 of one that has none."""
    family, _, count = name.partition("_")
    return int(count) if family in ("aprilgan", "winclip") and count.isdecimal() else 0


def check_name(name: str) -> None:
    """Raise PresetError if there is no detector of that name."""
    if not isinstance(name, str) or (name not in TRAINED_NAMES and FAMILIES.fullmatch(name) is None):
        raise PresetError(f"no detector '{name}': {nearest(str(name), NAMES)}")
