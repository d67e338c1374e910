"""What the study's own detectors share: a network on preprocessed tensors, callable on images of any kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nandlib.data.batch import inputs
from nandlib.data.images import ImageLike


class TorchDetector:
    """A detector on preprocessed tensors; callable on images of any kind. It can be copied and pickled.

    Args:
        preprocess: RGB image to the input ``(3, S, S)``.
    """

    def __init__(self, preprocess: Callable[[Image.Image], Tensor]) -> None:
        self.preprocess = preprocess

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def maps(self, batch: Tensor) -> Tensor:
        """Inputs ``(N, 3, S, S)`` to maps ``(N, H, W)``."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, images: Sequence[ImageLike], batch_size: int = 8) -> np.ndarray:
        """Maps ``(N, H, W)``, float32; of no image none, ``(0, 1, 1)``."""
        found = [self.maps(batch) for batch in inputs(images, self.preprocess, batch_size)]
        return torch.cat(found).float().numpy() if found else np.empty((0, 1, 1), np.float32)
