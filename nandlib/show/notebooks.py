"""Execute a notebook for a study with papermill, so that two runs give the same bytes."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync

from nandlib.errors import DataError, PresetError, nearest
from nandlib.study.open_study import OpenStudy
from nandlib.study.place import Place

if TYPE_CHECKING:
    from nbformat import NotebookNode

# longer studies of their own: results in figures/<study>/<item>/, not in the report
ON_DEMAND = ("edge", "heartbeat", "kshot", "robustness", "sensitivity", "surface", "which")
KERNEL = [sys.executable, "-m", "nandlib.warm", "ipykernel_launcher", "-f", "{connection_file}"]  # in a warm process if one waits
MISSING = ("DataError", "PresetError", "FileNotFoundError")  # raised in a notebook: something is not there that it reads
VOLATILE = [
    "metadata.papermill",
    "metadata.widgets",
    "metadata.language_info.version",
    "cell.metadata.papermill",
    "cell.metadata.execution",
]


def _by_item(folder: Path) -> dict[str, Path]:
    """Item → ``notebooks/NN_<item>_*.ipynb``, in reading order."""
    return {path.stem.split("_")[1]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}


def notebook_of(item: str, folder: Path) -> Path:
    """The notebook that makes one item.

    Raises:
        PresetError: If there is none.
    """
    found = _by_item(folder)
    if item not in found and (folder / f"{item}.ipynb").is_file():
        raise PresetError(f"{item}.ipynb is there to be read and tried, and belongs to no study: 'make lab' opens it")
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


def execute(item: str, study: Place[Any]) -> Path:
    """Run the notebook of one item for one study; the executed copy goes to ``figures/<study>/notebooks/`` (or ``<item>/``).

    A notebook that fails leaves its copy, with the traceback, at that place; one that lacks what it reads leaves what was there.

    Raises:
        DataError: If something is not there that the notebook reads.
    """
    source = notebook_of(item, study.root / "notebooks")
    with _kernel(source, study.root) as kernel:  # it starts while these are imported
        import nbformat
        import papermill

        parameters = {"study": study.name}
        check_parameters(source, parameters)
        target = study.figures / (item if item in ON_DEMAND else "notebooks") / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{os.getpid()}_{target.name}")
        try:
            notebook = papermill.execute_notebook(
                str(source), str(partial), parameters=parameters, kernel_name="python3", progress_bar=False, log_output=False, km=kernel
            )
        except papermill.PapermillExecutionError as error:
            if error.ename in MISSING:  # what a stage before would have written, not an error of the notebook
                raise DataError(f"{source.name} for '{study.name}': {error.evalue}") from None
            partial.replace(target)
            raise
        finally:
            partial.unlink(missing_ok=True)
    for warning in _warnings(notebook):
        print(warning, file=sys.stderr)
    nbformat.write(move_links(finish(notebook, study.watermark), source.parent, target.parent), target)
    return target


def move_links(notebook: NotebookNode, before: Path, after: Path) -> NotebookNode:
    """Relative links of texts and of Markdown outputs, ``](../...)``, lead to the same files from another folder."""

    def moved(match: re.Match[str]) -> str:
        return f"]({Path(os.path.relpath(before / match[1], after)).as_posix()})"

    def text(written: str) -> str:
        return re.sub(r"\]\((\.\./[^)\s]+)\)", moved, written)

    for cell in notebook.cells:
        if cell["cell_type"] == "markdown":
            cell["source"] = text(cell["source"])
        for output in cell.get("outputs", ()):
            if "text/markdown" in output.get("data", {}):
                output["data"]["text/markdown"] = text(output["data"]["text/markdown"])
    return notebook


def _warnings(notebook: NotebookNode) -> list[str]:
    """What the cells wrote to stderr: said when the notebook is run, and not kept in its copy."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return [output["text"] for output in outputs if output.get("name") == "stderr"]


@contextmanager
def _kernel(notebook: Path, folder: Path) -> Iterator[AsyncKernelManager]:
    """A kernel of its own for one notebook, with the project as working directory; it imports what the notebook will."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    lines = [line.rstrip() for cell in cells if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines()]
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    kernel = AsyncKernelManager(kernel_name="python3")
    assert kernel.kernel_spec is not None
    kernel.kernel_spec.argv = KERNEL
    options = ["--matplotlib=inline", "--log-level=ERROR", *(f"--IPKernelApp.exec_lines={line}" for line in imports)]
    run_sync(kernel.start_kernel)(cwd=str(folder), extra_arguments=options)
    try:
        yield kernel
    finally:
        run_sync(kernel.shutdown_kernel)(now=True)


def finish(notebook: NotebookNode, watermark: str) -> NotebookNode:
    """An executed notebook without anything that differs from run to run: stable cell ids (papermill gives the injected cell a random
    one), no timestamps, no warnings, no addresses in memory; and what the reader must know under the title."""
    from nbstripout import strip_output

    notebook = strip_output(
        notebook, keep_output=True, keep_count=True, keep_id=True, extra_keys=VOLATILE, drop_output_types={"stream:stderr"}
    )
    if watermark:
        notebook.cells[0].source += f"\n\n**{watermark}: NOT A RESULT**"
    for k, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{k:02d}"
        for output in cell.get("outputs", ()):
            if "text/plain" in output.get("data", {}):
                output["data"]["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", output["data"]["text/plain"])
    return notebook
