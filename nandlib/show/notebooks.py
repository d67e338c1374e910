"""Execute a notebook for a study with papermill, so that two runs give the same bytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat

from nandlib.errors import PresetError, nearest
from nandlib.study.open_study import OpenStudy

ON_DEMAND = ("sensitivity",)  # longer studies of their own: results in figures/<study>/<item>/, not in the report
VOLATILE = "metadata.papermill cell.metadata.papermill metadata.language_info.version"


def _by_item(folder: Path) -> dict[str, Path]:
    """Item → ``notebooks/NN_<item>_*.ipynb``, in reading order."""
    return {path.stem.split("_")[1]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}


def notebook_of(item: str, folder: Path) -> Path:
    """The notebook that makes one item.

    Raises:
        PresetError: If there is none.
    """
    found = _by_item(folder)
    if item not in found:
        raise PresetError(f"no notebook for '{item}' in {folder}: {nearest(item, found)}")
    return found[item]


def notebooks_of(study: OpenStudy) -> list[Path]:
    """The notebooks that belong to the report of a study, in reading order."""
    skipped = {*ON_DEMAND, *(() if study.compared else ("paper",))}
    return [path for item, path in _by_item(study.root / "notebooks").items() if item not in skipped]


def check_parameters(notebook: Path, given: Mapping[str, object]) -> None:
    """Refuse parameters that the notebook does not have: papermill would only warn.

    Raises:
        PresetError: For an unknown parameter.
    """
    import papermill

    known = papermill.inspect_notebook(str(notebook))
    for name in given:
        if name not in known:
            raise PresetError(f"{notebook}: unknown parameter '{name}': {nearest(name, known)}")


def execute(item: str, study: OpenStudy) -> Path:
    """Run the notebook of one item for one study; the executed copy goes to ``figures/<study>/notebooks/`` (or ``<item>/``).

    A notebook that fails leaves its copy, with the traceback, at that place.
    """
    import papermill

    source = notebook_of(item, study.root / "notebooks")
    parameters = {"study": study.name}
    check_parameters(source, parameters)
    target = study.figures / (item if item in ON_DEMAND else "notebooks") / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(study.root), os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    papermill.execute_notebook(
        str(source), str(target), parameters=parameters, cwd=str(study.root), kernel_name="python3", progress_bar=False, log_output=False
    )
    subprocess.run(
        [sys.executable, "-m", "nbstripout", "--keep-output", "--keep-count", "--drop-output-type", "stream:stderr"]
        + ["--extra-keys", VOLATILE, str(target)],
        check=True,
    )
    _finish(target, study.watermark)
    return target


def _finish(path: Path, watermark: str) -> None:
    """Stable cell ids (papermill gives the injected cell a random one) and plain texts (without addresses in memory), and what
    the reader must know under the title."""
    notebook = nbformat.read(path, as_version=4)
    if watermark:
        notebook.cells[0].source += f"\n\n**{watermark}: NOT A RESULT**"
    for k, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{k:02d}"
        for output in cell.get("outputs", ()):
            if "text/plain" in output.get("data", {}):
                output["data"]["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", output["data"]["text/plain"])
    nbformat.write(notebook, path)
