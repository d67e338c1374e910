"""All executed notebooks of a study as one HTML page that loads without any network."""

from __future__ import annotations

import html
import re
from pathlib import Path

import jinja2
import latex2mathml.converter
import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from nandlib.errors import DataError
from nandlib.notebooks import notebooks_of
from nandlib.study import OpenStudy

TEMPLATE = Path(__file__).parent / "resources" / "report.html.jinja"
_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.S)


def _mathml(match: re.Match[str]) -> str:
    block, inline = match.groups()
    return latex2mathml.converter.convert(block or inline, display="block" if block else "inline")


def _without_network(notebook: NotebookNode) -> NotebookNode:
    """Equations as MathML, which browsers render by themselves; injected parameter cells are dropped."""
    cells = []
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", ()):
            continue
        if cell.cell_type == "markdown":
            cell.source = _MATH.sub(_mathml, cell.source)
        cells.append(cell)
    notebook.cells = cells
    return notebook


def _title(notebook: NotebookNode) -> str:
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return first.lstrip("# ").splitlines()[0]


def write_report(study: OpenStudy) -> Path:
    """Write ``report.html`` from the executed notebooks, in reading order.

    Raises:
        DataError: If a notebook of the study has not been executed.
    """
    exporter = HTMLExporter(template_name="basic", embed_images=True)
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    chapters = []
    for source in notebooks_of(study):
        path = study.figures / "notebooks" / source.name
        if not path.is_file():
            raise DataError(f"{path} is missing: run 'dvc repro' first")
        notebook = _without_network(nbformat.read(path, as_version=4))
        body, _ = exporter.from_notebook_node(notebook)
        chapters.append({"id": source.stem, "title": _title(notebook), "body": body})
    template = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        title=html.escape(study.config.title),
        watermark=study.watermark,
        chapters=chapters,
        code_style=HtmlFormatter(style="default").get_style_defs(".highlight"),
    )
    target = study.figures / "report.html"
    target.write_text(page, encoding="utf-8")
    return target
