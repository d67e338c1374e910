"""One safetensors file a class, recomputed only when something that it depends on has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nandlib.data.held import written


def keep_only(folder: Path, classes: Sequence[str]) -> None:
    """Make the folder, and delete what belongs to no class."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.suffix != ".safetensors" or path.stem not in classes:
            path.unlink()


def is_current(path: Path, fingerprint: str) -> bool:
    """Whether a class's file is there and was made from the same."""
    return path.is_file() and _metadata(path).get("fingerprint") == fingerprint


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], fingerprint: str) -> None:
    """Write a class's file; a run that is killed leaves no truncated one behind."""
    # one entry: safetensors writes several in random order
    entry = {"nandlib": json.dumps({**metadata, "fingerprint": fingerprint}, sort_keys=True)}
    ready = {name: tensor.contiguous() for name, tensor in tensors.items()}
    written(path, lambda partial: save_file(ready, partial, entry))


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return json.loads((file.metadata() or {}).get("nandlib", "{}"))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of one class's file."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors, _metadata(path)
