"""One safetensors file a class, recomputed only when something that it depends on has changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm


def update(
    folder: Path,
    classes: Sequence[str],
    fingerprint: Callable[[str], str],
    compute: Callable[[str], tuple[dict[str, Tensor], dict[str, str]]],
    progress: bool,
) -> None:
    """Bring ``<folder>/<class>.safetensors`` up to date: compute what changed, delete what does not belong."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.suffix != ".safetensors" or path.stem not in classes:
            path.unlink()
    for class_name in tqdm(classes, desc=folder.name, disable=not progress):
        path, key = folder / f"{class_name}.safetensors", fingerprint(class_name)
        if path.is_file() and _metadata(path).get("fingerprint") == key:
            continue
        tensors, metadata = compute(class_name)
        partial = path.with_suffix(".partial")  # a run that is killed leaves no truncated file behind
        # one entry: safetensors writes several in random order
        entry = {"nandlib": json.dumps({**metadata, "fingerprint": key}, sort_keys=True)}
        save_file({name: t.contiguous() for name, t in tensors.items()}, partial, entry)
        partial.replace(path)


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return json.loads((file.metadata() or {}).get("nandlib", "{}"))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of one class's file."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors, _metadata(path)
