"""Weights and inputs that anyone can regenerate: what the reference values in ``fixtures/`` were computed with."""

import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FIXTURES = Path(__file__).parent / "fixtures"


def normal(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, np.float32)


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of one parameter: noise seeded by its name, scaled by what kind of parameter it is."""
    if name.endswith("logit_scale"):
        return np.full(shape, math.log(100), np.float32)
    z = normal(zlib.crc32(name.encode()), shape)
    if name.endswith("bias"):
        return 0.1 * z
    if name.endswith("weight") and len(shape) == 1:
        return 1 + 0.1 * z
    if "embedding" in name:
        return 0.5 * z
    fan = shape[0] if name.endswith(("proj", "text_projection")) else math.prod(shape[1:])
    return z * np.float32(1.5 / math.sqrt(fan))


@torch.no_grad()
def regenerate(module: nn.Module) -> nn.Module:
    for name, parameter in module.named_parameters():
        parameter.copy_(torch.from_numpy(weight(name, tuple(parameter.shape))))
    return module.eval()


class Reference(dict[str, Tensor]):
    """Stored numbers that remember which of them were looked at, by whichever test: `test_zz_references_are_used_whole` asks."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Tensor:
        self.read.add(key)
        return super().__getitem__(key)


@cache
def reference(name: str) -> Reference:
    with np.load(FIXTURES / f"{name}.npz") as stored:
        return Reference({key: torch.from_numpy(stored[key]) for key in stored.files})
