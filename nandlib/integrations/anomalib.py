"""anomalib: a trained model as a detector, and a trained model with added normalities inside `Engine.predict` and `Engine.test`."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import anomalib.models
import torch
from anomalib.data import InferenceBatch
from anomalib.models.components import AnomalibModule
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms as first
from torchvision.transforms import v2
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize
from torchvision.transforms.v2.functional import pil_to_tensor

from nandlib.data.images import ImageLike, as_image
from nandlib.data.maps import check_maps
from nandlib.errors import DataError, ModelError, nearest
from nandlib.method.adapt import AdaptedDetector
from nandlib.method.normality import add_normality

CROPS, COMPOSED, NORMALISES = (CenterCrop, first.CenterCrop), (Compose, first.Compose), (Normalize, first.Normalize)
KEEPS = (  # the whole image, upright, and nothing beside it
    nn.Identity, v2.Identity, v2.Resize, v2.ToDtype, v2.ToImage, v2.ToPureTensor, v2.ToTensor, v2.ConvertImageDtype, v2.Grayscale, v2.RGB,
    v2.GaussianBlur, first.Resize, first.ToTensor, first.ConvertImageDtype, first.Grayscale, first.GaussianBlur,
)  # fmt: skip
DECIDES = ("post_processor", "evaluator")  # parts of a model that hold thresholds and what was counted
BEYOND = 0.25  # of 0..1: further than the edges of a resized picture go


class AnomalibDetector:
    """A trained anomalib model as a detector: images to raw anomaly maps, neither normalised nor thresholded.

    A map shows the whole image: of a model that crops the centre it is 0 around that, where the model does not look. Images are brought
    to the model as `Engine.predict` brings them, but upright, as their EXIF orientation says.

    Args:
        module: Any anomalib model whose predictions have an ``anomaly_map``; one without is refused at the first image. It is put into
            evaluation mode.
        floor: Taken from the maps, which end at 0 then: for a model whose maps may be negative (Fastflow), the least value of normal
            images' maps (`floored`).

    Raises:
        ModelError: If normalities were added to the module already (`adapt_module`).
    """

    def __init__(self, module: AnomalibModule, floor: float | None = None) -> None:
        if isinstance(module, _WithNormality):
            raise ModelError("the module is adapted already: its detector is module.normality, to which more can be added")
        self.module, self.floor = module.eval(), floor

    def floored(self, normals: Sequence[ImageLike]) -> AnomalibDetector:
        """With the least value of normal images' maps as `floor`, where that is below 0."""
        least = min((float(self._raw(as_image(image)).min()) for image in normals), default=0.0)
        return self if least >= 0 else AnomalibDetector(self.module, least)

    def __call__(self, images: Sequence[ImageLike]) -> list[Tensor]:
        """One map ``(H, W)`` an image, of the size to which the model's pre-processor brings it before it crops.

        Raises:
            ModelError: If the model has no maps or is not fitted, or its pre-processor pads, turns or moves images.
            DataError: If it has maps below 0 and no `floor`.
        """
        return [self._map(as_image(image)) for image in images]

    @torch.no_grad()
    def _raw(self, image: Image.Image) -> Tensor:
        batch = pil_to_tensor(image)[None].float() / 255
        transform = _transform(self.module.pre_processor)  # calling the pre-processor is for export alone: it resizes without antialiasing
        batch = transform(batch) if transform else batch
        return _anomaly_map(self.module, _predicted(self.module, batch.to(self.module.device)))[0]

    def _map(self, image: Image.Image) -> Tensor:
        steps = _steps(_transform(self.module.pre_processor))
        moving = [step for step in steps if not isinstance(step, (*KEEPS, *CROPS, *NORMALISES))]
        again = [step for step in steps if isinstance(step, CROPS)][1:]
        if moving or again:
            what = f"has a {type((moving or again)[0]).__name__}{'' if moving else ' more'}"
            raise ModelError(
                f"the model's pre-processor {what}: where its maps lie in the image is not known; adapt_module looks at what the model sees"
            )
        whole, found = pil_to_tensor(image)[None].float() / 255, self._raw(image)
        if self.floor is None and float(found.min()) < 0:
            raise DataError(_below_zero(self.module, found, "AnomalibDetector(module).floored(normals), or --normals"))
        found = found if self.floor is None else (found - self.floor).clamp_min(0)
        for place, step in enumerate(steps):
            if isinstance(step, CROPS):
                return _uncropped(found, Compose(steps[:place])(whole) if place else whole, Compose(steps[: place + 1])(whole))
        return found


def load_module(name: str, checkpoint: str | Path) -> AnomalibModule:
    """A trained anomalib model from the checkpoint that its Engine wrote.

    Args:
        name: Its class in `anomalib.models` ("Patchcore").
        checkpoint: The .ckpt file.

    Raises:
        ModelError: If there is no such class or file, or the checkpoint is of another model.
    """
    known = {k: v for k, v in vars(anomalib.models).items() if isinstance(v, type) and issubclass(v, AnomalibModule)}
    if name not in known:
        raise ModelError(f"anomalib has no model '{name}': {nearest(name, known)}")
    if not Path(checkpoint).is_file():
        raise ModelError(f"{checkpoint} does not exist: give the .ckpt file that anomalib's Engine wrote")
    try:
        with torch.serialization.safe_globals([(_member, "builtins.getattr")]):
            return known[name].load_from_checkpoint(checkpoint, map_location="cpu").eval()
    except Exception as error:  # of libraries that trust what they read
        why = " ".join(str(error).rpartition("WeightsUnpickler error: ")[2].partition(" Please use")[0].split())  # no advice to trust it
        raise ModelError(f"{checkpoint} is not a checkpoint of anomalib's {name}, as its Engine writes it: {why}") from error


def _member(kind: type[Enum], name: str) -> Enum:
    """What `getattr` may do in a checkpoint: Python 3.11.0 to 3.11.3 write a member of an enumeration as ``getattr(kind, name)``."""
    if not issubclass(kind, Enum) or name not in kind.__members__:
        raise pickle.UnpicklingError(f"it asks for '{name}' of {kind}, which is no member of an enumeration")
    return kind[name]


def adapt_module(
    module: AnomalibModule, text: str | Sequence[str] | AdaptedDetector = (), *, floor: float | None = None, **options: Any
) -> AnomalibModule:
    """Eq. 5 and 6 for a trained anomalib model: the same model, with what `text` says as normal, wherever anomalib predicts.

    In `Engine.predict`, `Engine.test` and when it is called, its raw anomaly maps are damped before they are normalised and
    thresholded. Thresholds and normalisation are copies of the unadapted model's, since validation is not touched. The image score
    is the model's own times max A_final / max A: for a model whose score is the maximum of its map, that is the paper's max A_final.

    A_sup is computed on what the model sees, resized and cropped by its pre-processor, so that the two maps fit. anomalib can neither
    train, export nor save the result: save ``adapted.normality``, as in the example; `nandlib.integrations.onnx` exports an adapted
    detector of the embedded model.

    Args:
        module: Trained; any anomalib model whose predictions have an ``anomaly_map``. It is put into evaluation mode and stays unadapted;
            the two share their weights, and what is set on one's thresholds is not set on the other's.
        text: A phrase, or several for the same thing; more normalities by calling this on the result. Or what was saved of an adapted
            model, loaded with an `AnomalibDetector` of this one.
        floor: What counts as 0 in maps that may be negative, and in scores that are their maxima: the least value of normal images' maps
            (``AnomalibDetector(module).floored(normals).floor``). 0.0 where scores alone are negative: these stay as they are.
        options: As for `nandlib.add_normality`: ``examples``, ``model``, ``noun``, ``method``, ``normals``, and so on.

    Returns:
        A model of a subclass of the module's class.

    Example:
        >>> adapted = adapt_module(patchcore, "loose thread", noun="carpet")  # doctest: +SKIP
        >>> predictions = Engine().predict(adapted, data_path="carpet/test")  # doctest: +SKIP
        >>> folder = adapted.normality.save("carpet_threads")  # doctest: +SKIP
        >>> again = AdaptedDetector.load(folder, AnomalibDetector(patchcore))  # (patchcore, floor) if it has one  # doctest: +SKIP
        >>> adapted = adapt_module(patchcore, again)  # doctest: +SKIP
    """
    if isinstance(text, AdaptedDetector):
        if floor is not None or options or isinstance(module, _WithNormality) or getattr(text.detector, "module", None) is not module:
            raise ModelError(
                "a normality that was saved is given alone, and was loaded for this very module, which is not adapted: "
                "adapt_module(module, AdaptedDetector.load(folder, AnomalibDetector(module, floor)))"
            )
        normality = text
    elif isinstance(module, _WithNormality):
        if floor is not None:
            raise ModelError("the module is adapted already and keeps its floor: give it when the first normality is added")
        normality = add_normality(module.normality, text, **options)
    else:
        normality = add_normality(AnomalibDetector(module, floor), text, **options)
    adapted = _sharing(module.eval())
    if not isinstance(adapted, _WithNormality):
        adapted.__class__ = _with_normality(type(module))
    assert isinstance(adapted, _WithNormality)  # now
    adapted.normality = normality
    return adapted


def _sharing(module: AnomalibModule) -> AnomalibModule:
    """A copy with the same weights, and parts of its own that decide."""
    copied = copy.copy(module)
    for own in ("_modules", "_parameters", "_buffers"):  # the dictionaries too, or what is set on one would be set on both
        setattr(copied, own, dict(getattr(module, own)))
    for own in DECIDES:
        if (part := getattr(module, own, None)) is not None:
            logs = (vars(part).get(name) for name in ("log", "log_dict"))  # an Engine gives its callbacks those of the model that it runs
            setattr(copied, own, copy.deepcopy(part, {id(log.__self__): copied for log in logs if hasattr(log, "__self__")}))
    return copied


class _WithNormality(AnomalibModule):
    """Mixed into the class of an adapted model."""

    normality: AdaptedDetector

    def __reduce__(self) -> tuple[Any, ...]:  # its class is made here, and has no name that pickle could look up
        return _blank, (type(self).__bases__[1],), self.__getstate__()

    def to_onnx(self, *args: Any, **kwargs: Any) -> Any:
        raise ModelError(
            "a model with added normalities cannot be exported by anomalib: export the model that was adapted, or see 'nand export'"
        )

    to_torch = to_openvino = to_onnx

    def setup(self, stage: str) -> None:
        if stage == "fit":  # it would fit the weights of the model that was adapted, too
            raise ModelError("a model with added normalities is not trained: train the model that was adapted, and adapt it again")
        super().setup(stage)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        raise ModelError(
            "a checkpoint holds no added normality: keep module.normality.save(folder), the model that was adapted, and its floor; "
            "adapt_module(module, AdaptedDetector.load(folder, AnomalibDetector(module, floor))) takes them"
        )

    def forward(self, batch: Tensor, *args: Any, **kwargs: Any) -> InferenceBatch:
        batch = self.pre_processor(batch) if self.pre_processor else batch
        predictions = self._damped(batch, _predicted(self, batch))
        return self.post_processor(predictions) if self.post_processor else predictions

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return batch.update(**self._damped(batch.image, _predicted(self, batch.image))._asdict())

    def test_step(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> Any:
        return batch.update(**self._damped(batch.image, _predicted(self, batch.image))._asdict())

    @torch.no_grad()
    def _damped(self, batch: Tensor, predictions: InferenceBatch) -> InferenceBatch:
        floor: float | None = getattr(self.normality.detector, "floor", None)
        raw, score, zero = _anomaly_map(self, predictions), predictions.pred_score, floor or 0.0
        assert predictions.anomaly_map is not None  # else `_anomaly_map` has raised
        for found in (raw, *(() if score is None else (score,))):
            if floor is None and float(found.min()) < 0:
                raise DataError(_below_zero(self, found, "adapt_module(module, text, floor=…)"))
        maps = raw if floor is None else (raw - zero).clamp_min(0)
        images = [_as_seen(image, self.pre_processor) for image in batch]
        base = check_maps(maps, len(images), type(self).__name__)
        final = torch.stack([torch.from_numpy(single) for single in self.normality.damp(images, base)]).to(maps)
        before, after = maps.flatten(1).amax(1), final.flatten(1).amax(1)
        if score is not None:
            factor = torch.where(before > 0, after / before.clamp_min(torch.finfo(before.dtype).tiny), torch.ones_like(before))
            low = torch.where(torch.isclose(score, raw.flatten(1).amax(1).reshape(score.shape)), zero, 0.0)
            score = torch.where(score > low, low + (score - low) * factor.reshape(score.shape), score)
        final = final if floor is None else torch.where(raw > zero, zero + final, raw)
        return predictions._replace(anomaly_map=final.reshape(predictions.anomaly_map.shape), pred_score=score)


def _with_normality(kind: type) -> type:
    return type(kind.__name__, (_WithNormality, kind), {"__module__": __name__})


def _blank(kind: type) -> Any:
    """One of the class that a model of class `kind` has when it is adapted, whose state is to be set."""
    return object.__new__(_with_normality(kind))


def _predicted(module: AnomalibModule, batch: Tensor) -> InferenceBatch:
    """What a model's network gives for preprocessed images ``(N, 3, H, W)``; one that was put back to train would learn from them."""
    try:
        found = module.eval().model(batch)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        why = str(error).strip().partition("\n")[0]
        raise ModelError(f"{type(module).__name__} gives nothing for an image of {tuple(batch.shape)} ({why}): is it fitted?") from error
    if isinstance(found, tuple) and not isinstance(found, InferenceBatch) and len(found) == 2:  # scores and maps, of AnomalyVFM
        return InferenceBatch(pred_score=found[0], anomaly_map=found[1])
    return found


def _anomaly_map(module: AnomalibModule, predictions: Any) -> Tensor:
    """Maps ``(N, H, W)`` of a model's predictions."""
    maps = getattr(predictions, "anomaly_map", None)
    if maps is None:
        raise ModelError(f"{type(module).__name__} yields no anomaly maps: normality can only be added where a model says where")
    return maps[:, 0] if maps.ndim == 4 else maps


def _below_zero(module: AnomalibModule, found: Tensor, fix: str) -> str:
    least, name = float(found.min()), type(module).__name__
    return f"maps or scores of {name} go down to {least:.3g}, and only what is 0 or more can be damped (Eq. 6): say what is 0, {fix}"


def _transform(pre_processor: Any) -> Any:
    """What brings images to a model in training and in `Engine.predict`, or None; a transform of torchvision has a method of that name."""
    own = pre_processor if isinstance(pre_processor, v2.Transform) else getattr(pre_processor, "transform", pre_processor)
    return own or None


def _uncropped(found: Tensor, whole: Tensor, cropped: Tensor) -> Tensor:
    """A map ``(h, w)`` of what was cropped ``(1, 3, H', W')`` from the centre of the whole ``(1, 3, H, W)``, as one of the whole."""
    (height, width), (tall, wide) = whole.shape[-2:], cropped.shape[-2:]
    if tall > height or wide > width:
        raise ModelError(f"an image of {width} x {height} pixels is smaller than the {wide} x {tall} that the model crops: resize it first")
    found = found if found.shape == (tall, wide) else F.interpolate(found[None, None], (tall, wide), mode="bilinear")[0, 0]
    map_of_all, top, left = found.new_zeros(height, width), round((height - tall) / 2), round((width - wide) / 2)
    map_of_all[top : top + tall, left : left + wide] = found
    return map_of_all


def _as_seen(image: Tensor, pre_processor: Any) -> Image.Image:
    """The preprocessed image ``(3, H, W)`` of a model as a picture again.

    Raises:
        ModelError: If it cannot be that, normalised otherwise.
    """
    for step in reversed(_steps(_transform(pre_processor))):
        if isinstance(step, NORMALISES):
            mean, std = (torch.as_tensor(v, device=image.device)[:, None, None] for v in (step.mean, step.std))
            image = image * std + mean
    if float(image.min()) < -BEYOND or float(image.max()) > 1 + BEYOND:
        found = f"{float(image.min()):.2f} to {float(image.max()):.2f}"
        raise ModelError(f"an image of numbers from {found} is no picture: give the module its pre_processor, or batches in 0..1")
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels).convert("RGB")


def _steps(transform: Any) -> list[Any]:
    """A transform, or the parts of a composed one, in order."""
    if not transform:
        return []
    parts = transform if isinstance(transform, nn.Sequential) else transform.transforms if isinstance(transform, COMPOSED) else None
    return [transform] if parts is None else [step for part in parts for step in _steps(part)]
