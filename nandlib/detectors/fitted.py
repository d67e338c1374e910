"""What the trained detectors share: a state on disk, classes, a floor from training-normal images, two image scores."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nandlib.data.held import written
from nandlib.data.images import ImageLike, as_image, refuse_single
from nandlib.detectors.base import TorchDetector
from nandlib.detectors.config import TrainedConfig
from nandlib.detectors.features import FrozenFeatures, embedded_features, published_features
from nandlib.detectors.training import Run
from nandlib.errors import DataError, ModelError, nearest
from nandlib.models import VisionLanguageModel
from nandlib.models.base import own_randomness, whole_float32

FORMAT = "2"  # of the files of state: raised when a network or its features change, so that old files are refused
ONE = "object"  # the class of images that are given without one
Images = Mapping[str, Sequence[ImageLike]]
C = TypeVar("C", bound=TrainedConfig)
N = TypeVar("N", bound=nn.Module)


def state_of(network: nn.Module, prefix: str = "network.") -> dict[str, Tensor]:
    """A network's tensors under names that begin with `prefix`."""
    return {prefix + key: tensor.detach().cpu().clone() for key, tensor in network.state_dict().items()}


def restored(network: N, tensors: Mapping[str, Tensor], prefix: str = "network.") -> N:
    """A network with the tensors of `state_of`, frozen and in evaluation mode."""
    network.load_state_dict({key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)})
    network.requires_grad_(False).eval()
    return network


def settings(given: Any, kind: type[C]) -> C:
    """The settings that are given, or the defaults of that kind.

    Raises:
        DataError: If they are another detector's.
    """
    if given is not None and type(given) is not kind:
        raise DataError(f"config must be a {kind.__name__}, not {type(given).__name__}")
    return kind() if given is None else given


def by_class(images: Images | Sequence[ImageLike], name: str) -> dict[str, list[ImageLike]]:
    """Class → normal images.

    Args:
        images: Of every class, or of one.
        name: Of the detector.

    Raises:
        DataError: If there is none, or a class has none; if one image is given where a sequence is meant.
    """
    for key, own in images.items() if isinstance(images, Mapping) else ((ONE, images),):
        refuse_single(own, "normal images" if key == ONE else f"normal images of class {key!r}")
    found = {key: list(own) for key, own in (images.items() if isinstance(images, Mapping) else ((ONE, images),))}
    empty = [key for key, own in found.items() if not own]
    if not found or empty:
        raise DataError(f"{name} is trained on normal images: {'none were given' if not found else f'class {empty[0]!r} has none'}")
    return found


def one_class(images: Images | Sequence[ImageLike], name: str) -> tuple[str, list[ImageLike]]:
    """The only class, and its normal images, for a detector that is trained on one class at a time.

    Raises:
        DataError: If there is none, or more than one.
    """
    found = by_class(images, name)
    if len(found) > 1:
        raise DataError(f"{name} is trained on one class at a time, not on {len(found)}: {', '.join(found)}")
    return next(iter(found.items()))


@dataclass(frozen=True)
class Fit(Generic[C]):
    """What a trained detector knows besides its tensors.

    Attributes:
        config: Its settings.
        floors: Class → median of the raw maps of its training-normal images: what a map is above it counts.
    """

    config: C
    floors: Mapping[str, float]


class FittedDetector(TorchDetector, Generic[C]):
    """A detector that was trained here. NAND multiplies maps, so what is normal must be near 0: `maps` are raw maps less the floor, not
    below 0; with ``official`` set in its settings they are the raw maps.

    Args:
        features: The frozen backbone.
        tensors: Its state.
        fit: Settings and floors.
        class_name: Of the images that it is asked about; None: its only class, or to be named by `of_class` before it is asked.

    Raises:
        DataError: If it knows no such class.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[TrainedConfig]]

    @classmethod
    def features_of(cls, config: TrainedConfig, model: VisionLanguageModel | None, device: str = "cpu") -> FrozenFeatures:
        """The backbone that the settings name."""
        return embedded_features(model, config.stages) if config.backbone == "embedded" else published_features(config, device)

    def __init__(self, features: FrozenFeatures, tensors: Mapping[str, Tensor], fit: Fit[C], class_name: str | None = None) -> None:
        known = list(fit.floors)
        if class_name is None and len(known) == 1:
            class_name = known[0]
        if class_name is not None and class_name not in fit.floors:
            raise DataError(f"this {self.name} knows no class '{class_name}': {nearest(class_name, known)}")
        self.features, self.tensors, self.fitted, self.class_name = features, tensors, fit, class_name
        self.placed = {key: tensor.to(features.device) for key, tensor in tensors.items()}
        with own_randomness():  # what networks begin with is replaced
            self._build()
        super().__init__(features.preprocess)

    def _build(self) -> None:
        """Networks from `placed`, the tensors where the backbone runs."""

    def describe(self, layers: list[Tensor]) -> Tensor:
        """What the detector sees of the backbone's layers: ``(N, …)``."""
        raise NotImplementedError

    def raw_maps(self, seen: Tensor) -> Tensor:
        """The official maps ``(N, S, S)``, ≥ 0, of what `describe` gives."""
        raise NotImplementedError

    def official_scores(self, seen: Tensor) -> Tensor:
        """The official image scores ``(N,)`` of what `describe` gives; the maximum of the map, where no other is known."""
        return self.raw_maps(seen).amax((1, 2))

    def _see(self, batch: Tensor) -> Tensor:
        if batch.shape[-2:] != (self.features.size, self.features.size):
            sides = self.features.size, self.features.size, batch.shape[-1], batch.shape[-2]
            raise DataError("this {} was trained on images of {} x {} pixels, not {} x {}".format(self.name, *sides))
        if self.class_name is None:
            raise DataError(f"this {self.name} was trained on {len(self.classes)} classes: say which images these are, of_class(name)")
        return self.describe(self.features.layers(batch))

    @torch.no_grad()
    def maps(self, batch: Tensor) -> Tensor:
        with whole_float32():
            raw = self.raw_maps(self._see(batch)).cpu()
        return raw if self.fitted.config.official else (raw - self.fitted.floors[str(self.class_name)]).clamp_min(0)

    @torch.no_grad()
    def image_scores(self, images: Sequence[ImageLike]) -> np.ndarray:
        """The official image scores ``(N,)``; NAND takes the maximum of the map.

        Raises:
            DataError: If one image is given where a sequence is meant.
        """
        refuse_single(images, "images")
        if not len(images):
            return np.empty(0, np.float32)
        with whole_float32():
            scores = [self.official_scores(self._see(self.preprocess(as_image(image))[None])) for image in images]
        return torch.cat(scores).cpu().numpy()

    @torch.no_grad()
    def with_floors(self, seen: Mapping[str, Tensor], batch_size: int = 8) -> Self:
        """With the floor of every class: the median of the raw maps of its training-normal images, given as `describe` gives them."""
        floors = {}
        for name, own in seen.items():
            one = self.of_class(name)
            with whole_float32():
                maps = [one.raw_maps(part.to(one.features.device)).cpu() for part in own.split(batch_size)]
            floors[name] = float(torch.cat(maps).median())
        return type(self)(self.features, self.tensors, replace(self.fitted, floors=floors), self.class_name)

    @classmethod
    def fit(
        cls, normals: Images | Sequence[ImageLike], model: VisionLanguageModel | None = None, config: Any = None, run: Run = Run()
    ) -> Self:
        """Train on normal images.

        Args:
            normals: Class → images, or the images of one class.
            model: The embedded model; not needed at full size.
            config: Sizes, epochs, seed; None: those of the embedded size.
            run: Progress; where to keep the training's state, and where to run.

        Raises:
            DataError: If there are no images, more classes than it can be trained on together, or the loss is not a number.
            ModelError: If the backbone's weights are missing.
        """
        raise NotImplementedError

    @property
    def classes(self) -> tuple[str, ...]:
        """That it was trained on."""
        return tuple(self.fitted.floors)

    def of_class(self, class_name: str) -> Self:
        """The same detector for images of one of its classes.

        Raises:
            DataError: If it does not know the class.
        """
        return type(self)(self.features, self.tensors, self.fitted, class_name)

    def save(self, path: str | Path) -> Path:
        """Write the state as safetensors: tensors, settings, classes and floors, not the frozen backbone.

        Raises:
            DataError: If it cannot be written.
        """
        path = Path(path)
        said = {"format": FORMAT, "detector": self.name, "features": self.features.name, "floors": dict(self.fitted.floors)}
        said |= {"tensors": sorted(self.tensors)}
        said |= {"config": self.fitted.config.model_dump(mode="json", exclude=set(self.fitted.config.weight_fields))}
        entry = {"nandlib": json.dumps(said, sort_keys=True)}  # one: safetensors writes several in random order
        ready = {key: tensor.contiguous() for key, tensor in self.tensors.items()}
        written(path, lambda partial: save_file(ready, partial, entry))
        return path

    @classmethod
    def load(
        cls,
        path: str | Path,
        model: VisionLanguageModel | None = None,
        class_name: str | None = None,
        *,
        device: str = "cpu",
        **weights: str | Path | None,
    ) -> Self:
        """From a file that `save` wrote.

        Args:
            path: The file.
            model: The embedded model, where it was trained on its features.
            class_name: Of the images that it will be asked about; None: its only class, or to be named by `of_class`.
            device: Of a published backbone.
            weights: Files of the published backbones' weights, where it was trained on those: ``backbone_weights``, and, of HetNet-style's
                second teacher, ``second_weights``.

        Raises:
            ModelError: If the file is missing, of another version, detector or backbone.
            DataError: If it does not know the class.
        """
        path = Path(path)
        if not path.is_file():
            raise ModelError(f"{path} is missing: train a {cls.name} and save it")
        try:
            with safe_open(path, "pt") as file:
                said = json.loads((file.metadata() or {}).get("nandlib", "{}"))
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - the file is not held open
        except (SafetensorError, ValueError) as error:
            raise ModelError(f"{path} holds no state of a detector: {error}") from error
        said = said if isinstance(said, dict) else {}
        if said.get("detector") != cls.name:
            raise ModelError(f"{path} holds {said.get('detector') or 'something else'}, not {cls.name}")
        if said.get("format") != FORMAT:
            raise ModelError(f"{path} is of version {said.get('format')}, this is version {FORMAT}: train it again")
        broken = [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
        try:
            config = cast(C, cls.config_type.model_validate(said["config"]))
            floors = {key: float(own) for key, own in said["floors"].items()}
        except (ValidationError, KeyError, AttributeError, TypeError, ValueError) as error:
            raise ModelError(
                f"{path} is damaged, or of another version ({type(error).__name__} in its settings): train it again"
            ) from error
        broken += [f"floor of {key}" for key, own in floors.items() if not math.isfinite(own)]
        broken += sorted(set(said.get("tensors", tensors)) ^ set(tensors))
        if broken or not floors:
            raise ModelError(f"{path} is damaged ('{broken[0] if broken else 'floors'}' is not there, or holds no numbers): train it again")
        if unknown := set(weights) - set(config.weight_fields):
            raise TypeError(f"{cls.__name__}.load() got an unexpected keyword argument '{unknown.pop()}'")
        placed = {key: None if file is None else Path(file) for key, file in weights.items()}
        features = cls.features_of(config.model_copy(update=placed), model, device)
        if features.name != said.get("features"):
            raise ModelError(f"{path} was trained on the features '{said.get('features')}', not on '{features.name}'")
        try:
            return cls(features, tensors, Fit(config, floors), class_name)
        except (RuntimeError, KeyError) as error:  # of torch: a tensor is missing, or has another shape
            raise ModelError(f"{path} is damaged, or of another version: its tensors do not fit its settings; train it again") from error
