"""Training by epochs that can be stopped and resumed with the same final bytes."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from nandlib.data.held import written
from nandlib.errors import DataError
from nandlib.models.base import own_randomness, whole_float32
from nandlib.settings import Section


class Stateful(Protocol):
    """A network or an optimiser."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any) -> Any: ...


@dataclass(frozen=True)
class Run:
    """How a training is shown, kept, and where it runs.

    Attributes:
        resume: File in which every epoch's state is kept; one that is there is gone on with.
        progress: Show a bar with the time left.
        device: Of a published backbone and of what is trained on it; at embedded size it is the embedded model's.
    """

    resume: Path | str | None = None
    progress: bool = False
    device: str = "cpu"


def train(
    name: str, epochs: int, epoch: Callable[[int], float], parts: Mapping[str, Stateful], seed: int, run: Run = Run(), key: str = ""
) -> None:
    """Run epochs. All that is drawn in one depends on the seed and its number alone: that is why a resumed training ends in the same bytes.

    Args:
        name: Of what is trained, for messages.
        epochs: How many.
        epoch: Trains one, from 0, and gives its loss; draws from torch's global generator.
        parts: Whose state is kept.
        seed: Of the draws.
        run: Resuming and progress.
        key: What the state depends on besides: a file with another key is refused.

    Raises:
        DataError: If a loss is not a number, or the file to resume from belongs to another training.
    """
    resume = None if run.resume is None else Path(run.resume)
    start = _resumed(resume, parts, key, name) if resume is not None and resume.is_file() else 0
    for number in tqdm(range(start, epochs), desc=name, initial=start, total=epochs, disable=not run.progress):
        with whole_float32(), own_randomness():
            torch.manual_seed(seed * 1_000_003 + number)
            loss = epoch(number)
        if not math.isfinite(loss):
            raise DataError(
                f"{name}: the loss is {loss} in epoch {number}, at a learning rate of {_rates(parts)}: lower it, or look for images "
                "without content"
            )
        if resume is not None:
            _keep({"key": key, "epoch": number + 1, **{part: own.state_dict() for part, own in parts.items()}}, resume)


def _keep(state: Mapping[str, Any], path: Path) -> None:
    content = io.BytesIO()  # torch's own writer does not say that a disk is full
    torch.save(dict(state), content)
    written(path, lambda partial: partial.write_bytes(content.getvalue()))


def _rates(parts: Mapping[str, Stateful]) -> str:
    """Of the optimisers among what is trained."""
    own = (part for part in parts.values() if isinstance(part, torch.optim.Optimizer))
    return " and ".join(dict.fromkeys(f"{group['lr']:g}" for optimiser in own for group in optimiser.param_groups)) or "none"


def _resumed(path: Path, parts: Mapping[str, Stateful], key: str, name: str) -> int:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        known = state["key"]
    except Exception as error:  # of a library that trusts what it reads
        raise DataError(f"{path} is no state of a training ({type(error).__name__}): remove it, or give another file") from error
    if known != key:
        raise DataError(f"{path} belongs to another training than this one of {name}: remove it, or give another file")
    try:
        for part, own in parts.items():
            own.load_state_dict(state[part])
        return int(state["epoch"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"{path} is of another version of {name} ({type(error).__name__}): remove it, or give another file") from error


def key_of(config: Section, seen: Tensor, classes: Mapping[str, int] | None = None) -> str:
    """Which training this is: its settings (but where its weights lie), the features of its images, and how many are of each class, where
    that counts."""
    images = hashlib.sha256(seen.contiguous().numpy().tobytes()).hexdigest()
    return (f"{json.dumps(classes)} " if classes else "") + f"{config.model_dump_json(exclude=set(config.weight_fields))} {images}"


def shuffled(count: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Positions of the images of every batch of an epoch; the last one may be smaller."""
    order = np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return [order[start : start + batch_size] for start in range(0, count, batch_size)]


def adamw(network: nn.Module, first: float = 1e-4) -> torch.optim.Optimizer:
    """The optimiser of UniAD and OneNIP: AdamW with weight decay 1e-4 on every parameter."""
    return torch.optim.AdamW(network.parameters(), first, weight_decay=1e-4)


def rate(epoch: int, epochs: int, first: float = 1e-4) -> float:
    """Their learning rate in an epoch, from 0: the first one, and a tenth of it after 801 of 1000, or the same share of another number."""
    return first if epoch < round(0.801 * epochs) else 0.1 * first


def descend(loss: Tensor, network: nn.Module, optimiser: torch.optim.Optimizer, clip: float = 0.1) -> float:
    """One step of an optimiser with the gradient's norm clipped; the norm before."""
    optimiser.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimiser.step()
    return float(norm)
