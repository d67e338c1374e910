"""Fingerprints: what a stored result depends on, as one hash of settings, weights, images and code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grimp

from nandlib.errors import DataError
from nandlib.settings import RANDOM

if TYPE_CHECKING:
    from nandlib.study.open_study import OpenStudy

PACKAGE = Path(__file__).parents[1]


@cache
def import_graph() -> grimp.ImportGraph:
    """Which module of the package imports which, also inside functions; imports for types alone are left out."""
    return grimp.build_graph("nandlib", exclude_type_checking_imports=True, cache_dir=None)


def import_closure(*modules: str) -> list[str]:
    """Modules of the package that `modules` import, directly or not, and they themselves; sorted."""
    graph = import_graph()
    return sorted({*modules, *(found for module in modules for found in graph.find_upstream_modules(module))})


def module_path(module: str) -> Path:
    """The file of a module of the package."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def source_code(own: str, *modules: str) -> str:
    """The code that numbers depend on, as part of a fingerprint.

    Args:
        own: The module that puts the work together, alone: what it reads of a study enters fingerprints by content.
        modules: Those that compute, with all that they import from the package.
    """
    return "".join(module_path(module).read_text(encoding="utf-8") for module in [own, *import_closure(*modules)])


def digest(*parts: Any) -> str:
    """A fingerprint of anything that JSON can hold; the order of a mapping counts, since tensors follow it."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def content(paths: Sequence[Path]) -> list[str]:
    """Hash of the content of every file."""
    return [file_digest(path) for path in paths]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): bring it back, or, of an image, run the stage 'manifest' again"
        ) from error


def weight_contents(study: OpenStudy, *keys: str) -> dict[str, str]:
    """Hash of the content of the files of weights that the study loads: those whose key starts with one of `keys`."""
    files = {key: study.resolve(path) for key, path in study.config.weight_files().items() if key.startswith(keys)}
    return {key: "random" if path == RANDOM else content([path])[0] for key, path in files.items()}
