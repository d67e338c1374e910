"""One safetensors file a class, recomputed only when something that it depends on has changed."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.config import RANDOM
from nandlib.data.manifest import load_image
from nandlib.study.open_study import OpenStudy

BATCH = 8  # images per forward pass
NORMALS = 32  # training-normal images of a class, at most, that calibrate and set thresholds


def sources(*modules: ModuleType) -> str:
    """The code of modules, as part of a fingerprint."""
    return "".join(inspect.getsource(module) for module in modules)


def digest(*parts: Any) -> str:
    """A fingerprint of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def content(paths: Sequence[Path]) -> list[str]:
    """Hash of the content of every file."""
    return [file_digest(path) for path in paths]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weight_contents(study: OpenStudy, *keys: str) -> dict[str, str]:
    """Hash of the content of the files of weights that the study loads: those whose key starts with one of `keys`."""
    files = {key: study.resolve(path) for key, path in study.config.weight_files().items() if key.startswith(keys)}
    return {key: "random" if path == RANDOM else content([path])[0] for key, path in files.items()}


def image_paths(study: OpenStudy, class_name: str, split: str = "test") -> list[Path]:
    """The images of one class and split in manifest order."""
    return [study.images / name for name in study.rows(class_name, split)["image"]]


def some_normals(count: int) -> list[int]:
    """Positions of at most `NORMALS` of `count` training-normal images, evenly over their order."""
    return np.unique(np.linspace(0, count - 1, min(count, NORMALS)).round().astype(int)).tolist()


def splits(study: OpenStudy) -> tuple[str, ...]:
    """Splits whose maps are needed: train too if base maps are normalised by training-normal statistics."""
    return ("test", "train") if study.config.nand.base_normalisation == "train_normal" else ("test",)


def batches(paths: Sequence[Path], preprocess: Callable[[Image.Image], Tensor]) -> Iterator[Tensor]:
    """Preprocessed images ``(n, 3, S, S)``, `BATCH` at a time."""
    for start in range(0, len(paths), BATCH):
        yield torch.stack([preprocess(load_image(path)) for path in paths[start : start + BATCH]])


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
