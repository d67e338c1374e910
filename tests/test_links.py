"""Every relative link of the pages and notebooks leads to a file, from the folder in which the page lies."""

import json
import re
from itertools import chain

import nbformat
import pytest

from nandlib.show.notebooks import move_links
from nandlib.study.open_study import project_root

ROOT = project_root()
LINK = re.compile(r"\]\(([^)\s]+)\)")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("data/*.md"), *ROOT.glob("nandlib/**/*.md"), *ROOT.glob("figures/*/*.md")]
NOTEBOOKS = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("figures/*/*/*.ipynb")]


def broken(text, folder):
    """Targets of links that are no file beside the page; addresses, anchors, and what a cell fills in are not asked."""
    targets = (target.split("#")[0] for target in LINK.findall(text))
    return [t for t in targets if t and "{" not in t and not re.match(r"[a-z]+:", t) and not (folder / t).exists()]


def said(path):
    """The texts of a notebook, and those that its cells wrote as Markdown."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            yield "".join(cell["source"])
        yield from ("".join(out["data"]["text/markdown"]) for out in cell.get("outputs", ()) if "text/markdown" in out.get("data", {}))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages(page):
    assert broken(page.read_text(encoding="utf-8"), page.parent) == []


def test_notebooks_and_their_executed_copies():
    lead_nowhere = {p.relative_to(ROOT).as_posix(): list(chain(*(broken(text, p.parent) for text in said(p)))) for p in NOTEBOOKS}
    assert {page: links for page, links in lead_nowhere.items() if links} == {}


def test_links_move_with_the_copy(tmp_path):
    """In texts and in what cells wrote, and back again; addresses and anchors stay."""
    written = "See [a](../nandlib/a.py), [b](https://example.org/x) and [c](#c)."
    output = nbformat.v4.new_output("display_data", {"text/markdown": written})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(written), nbformat.v4.new_code_cell("", outputs=[output])])
    move_links(notebook, tmp_path / "notebooks", tmp_path / "figures/mini/which")
    moved = written.replace("../nandlib", "../../../nandlib")
    assert notebook.cells[0].source == moved and notebook.cells[1].outputs[0].data["text/markdown"] == moved
    move_links(notebook, tmp_path / "figures/mini/which", tmp_path / "figures/mini")
    assert notebook.cells[0].source == written.replace("../nandlib", "../../nandlib")
