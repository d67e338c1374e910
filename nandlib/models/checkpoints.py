"""Weights on disk: every checkpoint format of the field is read once and kept as safetensors."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from nandlib.errors import ModelError

_WRAPPERS = ("trainable_linearlayer", "state_dict", "model")  # of APRIL-GAN's, of open_clip's and of DeiT's checkpoints
_ARCHIVE_EXTRAS = ("input_resolution", "context_length", "vocab_size")  # of OpenAI's TorchScript archives


def read_state(path: Path, *, verified: bool = False) -> dict[str, Tensor]:
    """The weights in a file: .safetensors, a pickled state dict (read with ``weights_only=True``), or a TorchScript archive.

    Args:
        path: The file.
        verified: Its hash is the published one. A TorchScript archive is code, and only then read.

    Raises:
        ModelError: If the file is missing, is none of these, or is an archive that nobody has verified.
    """
    if not path.is_file():
        raise ModelError(f"{path} is missing: 'nand doctor' says what each study needs and where it comes from")
    archive = _is_torchscript(path)
    if archive and not verified:
        raise ModelError(
            f"{path} is a TorchScript archive, which can run code: 'nand fetch' verifies and converts the published one; "
            f"else give its weights as .safetensors or as a state dict"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if archive:
            state = dict(torch.jit.load(path, map_location="cpu").state_dict())
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise ModelError(f"{path} holds no weights that can be read: {error}") from error
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and wrapper in state:
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} is not a state dict: it must map names to tensors")
    return {name.removeprefix("module."): tensor for name, tensor in state.items() if name not in _ARCHIVE_EXTRAS}


def unreadable(path: Path) -> str:
    """Why a file cannot be one of weights, by its first bytes; empty: it may be one."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return "" if file.keys() else "it holds no weights"
        return "" if path.stat().st_size else "it is empty"
    except (OSError, SafetensorError) as error:
        return str(error)


def refuse_infinite(state: Mapping[str, Tensor], what: object) -> None:
    """Raise ModelError where weights are no numbers: maps made with them would be none, and let every image pass."""
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise ModelError(f"{what}: '{name}' holds NaN or infinity: it is damaged, or a training diverged, which a lower rate mends")


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def convert(source: Path, target: Path) -> None:
    """Write the weights of `source`, whose hash has been verified, to `target` as safetensors."""
    state = {name: tensor.contiguous().clone() for name, tensor in read_state(source, verified=True).items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    save_file(state, partial)
    partial.replace(target)
