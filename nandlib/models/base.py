"""The interface that every vision-language model of the study shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from nandlib.errors import DataError, ModelError


@dataclass(frozen=True)
class ImageFeatures:
    """What one forward pass of the image tower gives; enough for A and for every A_sup.

    Attributes:
        tokens: ``(N, L, P, D)`` patch tokens E_I^l of L layers in the space of the text features, unit norm, on the model's device:
            they are many, and `nandlib.method.operators.similarities` brings home what is made of them.
        image: ``(N, D)`` feature of the whole image in the same space, unit norm, in main memory.
        grid: ``(h, w)`` with ``h * w == P``.
    """

    tokens: Tensor
    image: Tensor
    grid: tuple[int, int]


class VisionLanguageModel(Protocol):
    """A frozen image tower, a frozen text tower, and projections of patch tokens into the space of the texts.

    Attributes:
        temperature: Factor on cosine similarities before a softmax (Eq. 2 to 4).
        image_size: Side in pixels of the square input.
        n_layers: Number of layers L whose patch tokens are used.
        tower: The bare image tower, a module on preprocessed images.
    """

    temperature: float
    image_size: int
    n_layers: int

    @property
    def tower(self) -> nn.Module: ...

    def preprocess(self, image: Image.Image) -> Tensor:
        """RGB image of any size to the model's input ``(3, image_size, image_size)``."""

    def encode_image(self, batch: Tensor) -> ImageFeatures:
        """Features of preprocessed images ``(N, 3, image_size, image_size)``."""

    def raw_tokens(self, batch: Tensor) -> list[Tensor]:
        """Patch tokens of the image tower before the projections: L times ``(N, P, width of the layer)``. The model may remember them:
        they are to be read alone."""

    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        """Text features ``(n, D)`` as the tower gives them: not normalised."""

    def patch_backbone(self) -> nn.Module:
        """A module from preprocessed images to descriptors ``(N, C, h, w)``, for PatchCore."""


class _Whole:
    """Who is in `whole_float32`, and what torch's settings were before."""

    lock, inside, before = Lock(), 0, ("", False)


@contextmanager
def whole_float32() -> Iterator[None]:
    """Context, or decorator, in which float32 is that, whatever autocast is around it, and a GPU's convolutions the same every time; torch
    lets them round to ten bits (TF32), which moves tokens by a thousandth. Settings of the process, which the last thread that leaves puts
    back."""
    cudnn: Any = torch.backends.cudnn  # its types know no `conv`
    with _Whole.lock:
        if not _Whole.inside:
            _Whole.before = cudnn.conv.fp32_precision, cudnn.deterministic
            cudnn.conv.fp32_precision, cudnn.deterministic = "ieee", True
        _Whole.inside += 1
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        with _Whole.lock:
            _Whole.inside -= 1
            if not _Whole.inside:
                cudnn.conv.fp32_precision, cudnn.deterministic = _Whole.before


def refuse_text(sentences: Sequence[str]) -> None:
    """Raise DataError for one sentence where several are meant: its letters would be taken for sentences."""
    if isinstance(sentences, str):
        raise DataError(f"sentences must be a sequence of texts, not one: [{sentences!r}]")


@contextmanager
def own_randomness() -> Iterator[None]:
    """Context in which what is seeded and drawn leaves torch's generators as they were, those of GPUs in use too."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
        yield


def why_not(device: str) -> str | None:
    """Why torch cannot use a device here, in a line; None where it can."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return None


@dataclass(frozen=True)
class Placement:
    """Where and how precisely the image tower runs; its features are float32.

    Attributes:
        device: A torch device.
        precision: ``"float32"``, or ``"autocast"``: bfloat16 where torch deems it safe.
        compiled: CLIP's image tower by ``torch.compile``, which takes a compiler, and some minutes before the first image.

    Raises:
        ModelError: If there is no such precision.
    """

    device: str = "cpu"
    precision: Literal["float32", "autocast"] = "float32"
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "autocast"):
            raise ModelError(f"precision is {self.precision!r}: 'float32' or 'autocast'")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Context of a network's forward pass: its precision, and see `whole_float32`."""
        with whole_float32(), torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "autocast"):
            yield
