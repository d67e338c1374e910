"""The reference of all functions, from their docstrings: what `make docs` writes."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pdoc

import nandlib

WITH_PUBLIC_NAMES = ("nandlib", "nandlib.models", "nandlib.data.layouts", "nandlib.data.drawn.products", "nandlib.data.drawn.defects")


def write_reference(folder: Path, *specifications: str) -> None:
    """Write ``index.html`` and a page for each module; equations are set by MathJax, which readers' browsers fetch.

    Args:
        folder: Where to.
        specifications: Modules, as pdoc names them; the whole package if not given.
    """
    vars(nandlib).update({name: getattr(nandlib, name) for name in nandlib.__all__})  # imported on first use, and not found before
    for package in map(import_module, WITH_PUBLIC_NAMES):  # what is public there would hide their modules
        modules = (own.name for own in iter_modules(package.__path__) if not own.name.startswith("_"))
        vars(package)["__all__"] = list(dict.fromkeys([*vars(package)["__all__"], *modules]))
    pdoc.render.configure(docformat="google", math=True)
    pdoc.pdoc(*(specifications or ("nandlib",)), output_directory=folder)


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))
