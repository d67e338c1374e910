"""All executed notebooks of a study as one HTML page that loads without any network."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import latex2mathml.converter
import nbformat
import pandas as pd
from bs4 import BeautifulSoup, Tag
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from nandlib.errors import DataError
from nandlib.evaluation import paper
from nandlib.settings import RESOURCES
from nandlib.show.detector_tables import gained, improved
from nandlib.show.notebooks import move_links, notebook_of, notebooks_of
from nandlib.show.style import LABELS
from nandlib.signals.config import SignalStudy
from nandlib.study.open_kind import NOTEBOOKS
from nandlib.study.open_study import OpenStudy
from nandlib.study.place import Place
from nandlib.surfaces.config import SurfaceStudy

TEMPLATE = RESOURCES / "report.html.jinja"
ACTIVE = ["script", "iframe", "object", "embed", "form", "link", "meta", "base", "svg"]
LINKS = re.compile(r"(https?:|mailto:|data:image/|[^:]*([/?#]|$))", re.I)  # what an address may begin with; others may act
_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.S)


def _mathml(match: re.Match[str]) -> str:
    block, inline = match.groups()
    try:
        return latex2mathml.converter.convert(block or inline, display="block" if block else "inline")
    except Exception:  # of a library that trusts what it reads: no equation, but a name with a dollar
        return match.group(0)


def _without_network(notebook: NotebookNode) -> NotebookNode:
    """Equations of texts, written or computed, as MathML, which browsers render by themselves; injected parameter cells are dropped."""
    cells = []
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", ()):
            continue
        if cell.cell_type == "markdown":
            cell.source = _MATH.sub(_mathml, cell.source)
        for output in cell.get("outputs", ()):
            if "text/markdown" in output.get("data", {}):
                output.data["text/markdown"] = _MATH.sub(_mathml, "".join(output.data["text/markdown"]))
        cells.append(cell)
    notebook.cells = cells
    return notebook


def _title(notebook: NotebookNode) -> str:
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return first.lstrip("# ").splitlines()[0]


def _captions(notebook: NotebookNode) -> list[str]:
    """An alternative text for every picture of a notebook, in order: the caption below it, without its marks."""
    found, waiting = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            waiting += sum("image/png" in output.get("data", {}) for output in cell.get("outputs", ()))
        elif waiting:
            caption = re.sub(r"<[^>]+>|[*`$#]", "", cell.source).split("\n\n")[0]
            found += [" ".join(caption.split())] * waiting
            waiting = 0
    return found + [_title(notebook)] * waiting


def _is_output(image: Tag) -> bool:
    """Whether an image is a picture that a cell has made, not one that a text asks for."""
    return image.find_parent(class_="output_png") is not None


def _disarm(soup: BeautifulSoup) -> None:
    """Show elements that act as the text that they are: a study's names and texts may come from anywhere."""
    for element in soup.find_all(lambda tag: tag.name in ACTIVE or (tag.name == "img" and not _is_output(tag))):
        element.replace_with(str(element))
    for element in soup.find_all(True):
        for name, value in list(element.attrs.items()):
            address = re.sub(r"[\x00-\x20]", "", str(value)) if name in ("href", "src", "action", "formaction", "xlink:href") else ""
            if name.startswith("on") or not LINKS.match(address):
                del element[name]


def _body(notebook: NotebookNode, exporter: HTMLExporter, number: int) -> str:
    """A notebook as HTML: pictures described, code folded, wide tables in boxes of their own that scroll."""
    captions = _captions(notebook)
    soup = BeautifulSoup(exporter.from_notebook_node(_without_network(notebook))[0], "html.parser")
    _disarm(soup)
    for image, caption in zip(soup.find_all("img"), captions, strict=True):
        image["alt"], image["loading"] = caption, "lazy"
    for cell in soup.select("thead th"):
        if cell.string:  # a long name of a column may break behind its underscores
            first, *rest = cell.string.split("_")
            cell.string = first
            cell.extend(piece for part in rest for piece in ("_", soup.new_tag("wbr"), part))
    for table in soup.find_all("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0", "role": "group", "aria-label": "table"}))
    for code in soup.select("div.highlight"):
        folded = code.wrap(soup.new_tag("details"))
        summary = soup.new_tag("summary")
        summary.string = "code"
        folded.insert(0, summary)
    for link in soup.select("a.anchor-link"):
        link.decompose()
    for element in soup.select("h1, h2, h3, [id^=cell-id]"):
        element.attrs.pop("id", None)
    for level in (2, 1):
        for heading in soup.find_all(f"h{level}"):
            heading.name = f"h{level + 1}"
    return re.sub(r'(?<=["#])T_(?=\w)', f"T{number}_", str(soup))  # ids of styled tables, which notebooks may share


def _glance(study: OpenStudy) -> str:
    """The headline numbers of every detector, the paper's beside ours."""
    theirs = paper.table3().rename(columns={"auroc_before": "paper_before", "auroc_after": "paper_after"})
    table = study.detectors.merge(theirs[["detector", "paper_before", "paper_after"]], on="detector", how="left")

    def number(value: float, form: str = ".1f") -> str:
        return "–" if pd.isna(value) else format(value, form)

    shown = pd.DataFrame(
        {
            "detector": [LABELS.get(name, name) for name in table["detector"]],
            "before": table["auroc_before"].map(number),
            "after": table["auroc_after"].map(number),
            "Δ [95 %]": [gained(row) for _, row in table.iterrows()],
            "share of the gap that is closed": table["gap_closed"].map(lambda closed: f"{number(closed, '.0f')} %"),
            "groups improved (significantly better, worse)": [improved(row) for _, row in table.iterrows()],
            "paper: before": table["paper_before"].map(number),
            "paper: after": table["paper_after"].map(number),
        }
    )
    return shown.to_html(index=False, border=0, classes="glance")


def write_report(study: OpenStudy) -> Path:
    """Write ``report.html`` from the executed notebooks, in reading order.

    Raises:
        DataError: If a notebook of the study has not been executed.
    """
    paths = [study.figures / "notebooks" / source.name for source in notebooks_of(study)]
    return _write(study, paths, glance=_glance(study), same_data=study.compared and not study.config.data.products)


def write_kind_report(study: Place[SignalStudy | SurfaceStudy]) -> Path:
    """The same of a study of another kind, from its executed notebook.

    Raises:
        DataError: If it has not been executed.
    """
    item = NOTEBOOKS[study.config.kind]
    how = f"'nand {study.config.kind} {study.name}' and 'nand notebook {item} {study.name}'"
    return _write(study, [study.figures / item / notebook_of(item, study.root / "notebooks").name], how)


def _write(study: Place[Any], paths: Sequence[Path], how: str = "'dvc repro'", **shown: object) -> Path:
    exporter = HTMLExporter(template_name="basic")  # pictures are in the outputs already; embed_images would break MathML
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    chapters = []
    for number, path in enumerate(paths, start=1):
        if not path.is_file():
            raise DataError(f"{path} is missing: run {how} first")
        notebook = move_links(nbformat.read(path, as_version=4), path.parent, study.figures)
        chapters.append({"id": path.stem, "title": html.escape(_title(notebook)), "body": _body(notebook, exporter, number)})
    template = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        title=html.escape(study.config.title),
        watermark=study.watermark,
        chapters=chapters,
        code_style=HtmlFormatter(style="default").get_style_defs(".highlight"),
        dark_code_style=HtmlFormatter(style="github-dark").get_style_defs(".highlight"),
        **shown,
    )
    target = study.figures / "report.html"
    target.write_text(page, encoding="utf-8")
    return target
