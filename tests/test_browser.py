"""What people see, in a real browser: Debian's Chromium opens JupyterLab and the report. Where there is no Chromium they are skipped,
unless CI is set: then they fail.

Screenshots are kept where NAND_SCREENSHOTS says.
"""

import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import requests
import tiny_project
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from nandlib.show.notebooks import KERNEL
from nandlib.show.report import write_report
from nandlib.study.open_study import open_study

CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NOTEBOOKS = ("01_fig1_problem", "05_table2_deltas", "gallery", "lesson")  # pictures, tables, logs, a pupil's page; the pipeline runs all
SETTINGS = {  # all cells in the page, not only those in view; no news, no network
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
INSTALL = "no Chromium here: 'sudo apt-get install chromium' (Debian, Ubuntu), or CHROMIUM=/path/to/it"
SOON, START = 60_000, 180_000  # milliseconds: what an idle machine does in one or ten seconds takes far longer beside other tests
pytestmark = pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason=INSTALL)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None, INSTALL
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a JupyterLab in the tiny project, on copies of the notebooks that ask for the tiny study."""
    home = tmp_path_factory.mktemp("jupyter")
    for name, values in SETTINGS.items():
        path = home / "settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    kernel = home / "share/kernels/python3/kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": [*KERNEL, "--matplotlib=inline"], "display_name": "Python 3", "language": "python"}))
    folder = project / "lab"
    folder.mkdir(exist_ok=True)
    for path in (project / "notebooks").glob("*.ipynb"):
        (folder / path.name).write_text(path.read_text().replace('study = \\"mini\\"', 'study = \\"tiny\\"'))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = (
        os.environ
        | tiny_project.WARM
        | {
            "PYTHONPATH": str(project),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTER_PATH": str(home / "share"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        }
    )
    options = [
        "--no-browser",
        "--expose-app-in-browser",
        "--allow-root",
        f"--port={port}",
        "--IdentityProvider.token=",
        "--ServerApp.disable_check_xsrf=True",
        f"--ServerApp.root_dir={project}",
    ]
    log = (home / "log").open("w")
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=environment, cwd=project, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/api/status", home / "log")
        yield address
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(address: str, log: Path, answers: bool = False) -> None:
    """Until an address is there, or, with `answers`, until the server says anything about it."""
    for _ in range(120):
        try:
            if requests.get(address, timeout=20).ok or answers:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.5)
    pytest.fail(log.read_text()[-2000:])


def screenshot(page: Page, name: str) -> None:
    folder = os.environ.get("NAND_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")


RUN_ALL = """async () => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.revealed;
    await panel.context.ready;
    await panel.sessionContext.ready;
    await panel.sessionContext.session.kernel.info;
    await window.jupyterapp.commands.execute("notebook:run-all-cells");
}"""  # the menu's own command, when the kernel has answered: a click before that does nothing


def run_all(page: Page, lab: str, name: str) -> None:
    """Open a notebook, run all cells, and wait until the kernel has done them."""
    page.set_default_timeout(180_000)
    page.goto(f"{lab}/lab/tree/lab/{name}.ipynb?reset")
    page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell")
    page.evaluate(RUN_ALL)
    expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text(re.compile(r"\[\d+\]:"), timeout=60_000)
    errors = page.locator("[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0, errors.first.inner_text()
    warnings = page.locator("[data-mime-type='application/vnd.jupyter.stderr']")
    assert warnings.count() == 0, warnings.first.inner_text()


def close(page: Page, lab: str) -> None:
    """End the page and all kernels, so that they do not pile up."""
    page.close()
    for kernel in requests.get(f"{lab}/api/sessions", timeout=20).json():
        requests.delete(f"{lab}/api/sessions/{kernel['id']}", timeout=20).raise_for_status()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_in_jupyterlab(browser, lab, name):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        run_all(page, lab, name)
        outputs = page.locator(".jp-OutputArea-output")
        assert outputs.count() >= 2
        pictures = page.locator(".jp-OutputArea-output img")
        assert pictures.count() >= 1
        for k in range(pictures.count()):
            assert pictures.nth(k).evaluate("image => image.complete && image.naturalWidth > 100")
        if name == "gallery":
            said = " ".join(outputs.all_inner_texts())
            assert "pred_score before" in said and "rejected before" in said
            found = re.search(r"differ by (\S+) at most", said)
            assert pictures.count() == 1 and found is not None and float(found[1]) < 1e-4
        screenshot(page, f"{name}_1280")
        page.set_viewport_size({"width": 800, "height": 900})
        screenshot(page, f"{name}_800")
    finally:
        close(page, lab)


def test_typing_a_text_into_the_explorer(browser, lab):
    page = browser.new_page(viewport={"width": 1280, "height": 1600})
    try:
        run_all(page, lab, "explorer")
        result = page.locator(".nand-result")
        expect(result.locator("img")).to_have_count(5, timeout=30_000)
        after, numbers = result.locator("img").last, result.locator(".nand-auroc")
        caption = result.locator("figcaption").last
        picture, score, said = after.get_attribute("src"), caption.inner_text(), numbers.inner_text()
        assert re.search(r"AUROC \d+\.\d before, \d+\.\d after", said)
        _view(page, "explorer", 1280)
        page.get_by_placeholder("type a text and press Enter").click()
        page.keyboard.type("defect; damage; flaw; anomaly")  # damps whatever is left
        page.keyboard.press("Enter")
        expect(after).not_to_have_attribute("src", picture, timeout=SOON)
        assert caption.inner_text() != score and caption.inner_text().startswith("A_final, after: score")
        table = result.locator(".nand-numbers").inner_text()
        expect(page.locator(".nand-texts .jupyter-widget-tag:not(input)")).to_have_count(2)
        expect(page.get_by_placeholder("type a text and press Enter")).to_have_value("")
        assert numbers.inner_text().split(" before")[0] == said.split(" before")[0]
        _view(page, "explorer_typed", 1280)
        page.get_by_placeholder("type a text and press Enter").fill("x " * 60)  # too long: a message, and the last answer stays
        page.keyboard.press("Enter")
        expect(page.locator(".nand-error")).to_contain_text("too long", timeout=SOON)
        expect(result.locator("img")).to_have_count(5)
        tags = page.locator(".nand-texts .jupyter-widget-tag:not(input)")
        for left in (1, 0):
            tags.first.locator("i, .jupyter-widget-tag-close, .fa-times").first.click()
            expect(tags).to_have_count(left)
        expect(result).to_contain_text("No text is added")
        assert result.locator(".nand-numbers").inner_text() != table and numbers.inner_text() != said
        page.locator("select").nth(3).select_option(index=1)  # another detector
        expect(page.locator(".nand-error")).to_have_count(0)
        page.set_viewport_size({"width": 800, "height": 1600})
        _view(page, "explorer", 800)
        wide = "box => [...box.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > box.getBoundingClientRect().right + 1)"
        assert result.evaluate(f"box => ({wide})(box).map(e => e.outerHTML.slice(0, 80))") == []
    finally:
        close(page, lab)


@pytest.fixture
def own_page(project: Path, tmp_path: Path) -> Iterator[str]:
    """Address of `nand explore` on some images of a folder."""
    study = open_study("tiny", project)
    normals = study.images / study.rows("carpet", "train")["image"].iloc[0]
    for row in study.rows("carpet").groupby("group", dropna=False).head(2).itertuples():
        shutil.copy(study.images / row.image, tmp_path / str(row.image).replace("/", "_"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["nand", "explore", tmp_path, "--noun=carpet", f"--normals={normals.parent}", "--detector=patchcore"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # no warm process: it would not be this one that ends
    environment = os.environ | {"PYTHONPATH": str(project), "PATH": path, "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, f"--port={port}", "--no-browser"], env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/static/", tmp_path / "log", answers=True)
        yield (tmp_path / "log").read_text().split()[0]
    finally:
        server.terminate()
        server.wait(20)
        print((tmp_path / "log").read_text())  # seen if the test fails


def test_accepting_with_a_click_on_a_page_of_ones_own(browser, own_page):
    for stranger in (own_page.split("?")[0], own_page[:-1]):
        refused = requests.get(stranger, timeout=20)
        assert refused.status_code == 403 or "/login" in refused.url, "the page opens without its token"
    page = browser.new_page(viewport={"width": 1280, "height": 1500})
    try:
        answer = page.goto(own_page, timeout=START)
        accept = page.locator(".nand-accept")
        fine = accept.get_by_role("button", name="this is fine", exact=True)
        expect(fine.first).to_be_enabled(timeout=START)
        caption = accept.locator(".nand-thumb").first.locator(".widget-html-content")
        before, after = _scores(caption.inner_text())
        assert before == after and page.locator("pre, code").count() == 0  # no code is seen
        for label in ("image", "detector", "method", "Add as normal"):
            expect(page.get_by_label(label, exact=True)).to_be_visible()
        expect(page.locator(".widget-slider", has_text="threshold")).to_be_visible()
        screenshot(page, "explore_1280")
        fine.first.click()
        expect(fine.first).to_be_disabled(timeout=SOON)
        assert _scores(caption.inner_text())[1] < after
        expect(accept.locator(".nand-accepted")).to_contain_text("Accepted: ")
        screenshot(page, "explore_accepted_1280")
        accept.get_by_role("button", name="undo").click()
        expect(accept.locator(".nand-accepted")).to_have_text("Nothing is accepted by example.", timeout=SOON)
        assert _scores(caption.inner_text()) == (before, before)
        _draw_a_box(page, accept)
        screenshot(page, "explore_drawn_1280")
        accept.get_by_role("button", name="the image above is fine").click()
        expect(accept.locator(".nand-accepted")).to_contain_text("(a box)", timeout=SOON)
        accept.get_by_role("button", name="undo").click()
        expect(accept.locator(".nand-accepted")).to_have_text("Nothing is accepted by example.", timeout=SOON)
        accept.get_by_label("a box").uncheck()
        page.get_by_placeholder("type a text and press Enter").fill("defect; damage; flaw")
        page.keyboard.press("Enter")
        expect(page.locator(".nand-result")).to_contain_text("is nearest, of the model's generic defects", timeout=SOON)
        expect(page.get_by_placeholder("type a text and press Enter")).to_be_focused(timeout=SOON)  # for the next one
        expect(page.locator(".nand-error")).to_have_count(0)
        page.set_viewport_size({"width": 800, "height": 1500})
        screenshot(page, "explore_800")
        assert page.evaluate("document.documentElement.scrollWidth") <= 800
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    finally:
        page.close()


def _draw_a_box(page: Page, accept: Locator) -> None:
    """With the mouse, from lower right to upper left: the sliders say where it is."""
    accept.get_by_label("a box").check()
    canvas = accept.locator("canvas.nand-drawing")
    expect(canvas).to_be_visible(timeout=SOON)
    canvas.scroll_into_view_if_needed()
    place = canvas.bounding_box()
    for step, (x, y) in enumerate(((0.9, 0.6), (0.5, 0.5), (0.4, 0.1))):
        page.mouse.move(place["x"] + x * place["width"], place["y"] + y * place["height"], steps=4)
        (page.mouse.down, lambda: None, page.mouse.up)[step]()
    for name, sides in (("across %", "40 – 90"), ("down %", "10 – 60")):
        row = accept.locator(".widget-slider", has_text=name)
        expect(row.locator(".widget-readout")).to_have_text(sides, timeout=SOON)


def _scores(caption: str) -> tuple[float, float]:
    before, after = re.findall(r"(\d+\.\d+) → (\d+\.\d+)", caption)[0]
    return float(before), float(after)


def _view(page: Page, name: str, width: int) -> None:
    page.locator(".nand-texts").scroll_into_view_if_needed()
    screenshot(page, f"{name}_{width}")


@pytest.fixture
def report(browser, project) -> Iterator[Page]:
    """The report on a phone; what it asks for and complains about is kept."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.requests, page.complaints = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto((project / "figures/tiny/report.html").as_uri(), wait_until="load")
    yield page
    page.close()


def test_report_on_a_phone(report):
    for image in report.locator("img").all():
        image.scroll_into_view_if_needed()
        assert len(image.get_attribute("alt")) > 20
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    formulas = report.locator("math")
    assert formulas.count() >= 20 and report.locator("math:empty, mi:empty, mrow:empty").count() == 0
    assert report.complaints == []
    assert all(url.startswith(("file:", "data:")) for url in report.requests)
    assert report.evaluate("document.documentElement.scrollWidth") <= 390
    assert len(set(report.locator("img").evaluate_all("all => all.map(i => i.alt)"))) >= 8
    screenshot(report, "report_390")


HOSTILE = "<script>window.harm = 1</script> <img src=x onerror='window.harm = 2'> <a href='javascript:window.harm=3'>name</a>"


def test_names_and_texts_cannot_act_in_the_report(browser, project):
    """As if a text of the study were this: the page shows it, and runs none of it."""
    study = open_study("tiny", project)
    executed, target = study.figures / "notebooks/01_fig1_problem.ipynb", study.figures / "report.html"
    kept = {path: path.read_bytes() for path in (executed, target)}
    notebook = nbformat.read(executed, as_version=4)
    for shown in ({"text/markdown": HOSTILE}, {"text/html": HOSTILE}):
        output = nbformat.v4.new_output("display_data", shown)
        notebook.cells.append(nbformat.v4.new_code_cell("", id=f"hostile-{len(notebook.cells)}", outputs=[output]))
    notebook.cells.append(nbformat.v4.new_markdown_cell(HOSTILE, id="hostile-text"))
    nbformat.write(notebook, executed)
    page = browser.new_page()
    try:
        write_report(study)
        page.goto(target.as_uri(), wait_until="load")
        for link in page.get_by_role("main").locator("a", has_text="name").all():
            link.click()
        assert page.evaluate("window.harm") is None
        assert page.locator("script, [onerror], [href^=javascript]").count() == 0
        assert page.get_by_text("<script>window.harm = 1</script>").count() == 3
    finally:
        page.close()
        for path, content in kept.items():
            path.write_bytes(content)


def test_report_fits_a_window(report):
    report.set_viewport_size({"width": 1200, "height": 900})
    for box in (".scroll:has(.glance)", "math[display=block]"):
        seen, needed = report.locator(box).first.evaluate("b => [[b.clientWidth, b.clientHeight], [b.scrollWidth, b.scrollHeight]]")
        assert seen == needed, box  # nothing to scroll
    wide = "all => all.filter(b => b.scrollWidth > b.clientWidth).map(b => b.closest('section').querySelector('h2').innerText)"
    assert set(report.locator(".scroll").evaluate_all(wide)) <= {"Can the same text do more?"}  # some twenty columns
    assert report.evaluate("document.documentElement.scrollWidth") <= 1200
    screenshot(report, "report_1200")


def test_report_contents_lead_somewhere(report):
    links = report.locator("nav a")
    assert links.count() == report.locator("main > section").count() - 1
    for link in links.all():
        assert report.locator(f"[id='{link.get_attribute('href')[1:]}']").count() == 1
    identifiers = report.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(identifiers)) == len(identifiers)
    levels = report.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(e => +e.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_report_in_the_dark_and_in_print(report):
    def colours() -> list[str]:
        return report.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")

    def contrast(pair: list[str]) -> float:
        light = []
        for colour in pair:
            channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
            linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
            light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
        return (max(light) + 0.05) / (min(light) + 0.05)

    report.emulate_media(color_scheme="light")
    light = colours()
    report.emulate_media(color_scheme="dark")
    dark = colours()
    assert light != dark and contrast(light) > 7 and contrast(dark) > 7
    report.set_viewport_size({"width": 1280, "height": 900})
    screenshot(report, "report_dark_1280")
    report.emulate_media(color_scheme="dark", media="print")
    assert colours()[1] == "rgb(255, 255, 255)"
    assert report.locator("details").first.is_hidden()
    assert len(report.pdf(format="A4")) > 50_000
