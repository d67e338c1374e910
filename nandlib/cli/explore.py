"""`nand explore`: the explorer on images of one's own, as a page in the browser without code, served by Voilà."""

from __future__ import annotations

import html
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nandlib.cli.app import ADAPT, app
from nandlib.cli.asked import Checkpoint, DetectorName, MapsFolder, Normals, Noun, Weights, check_source, chosen_detector
from nandlib.errors import DataError, NandError

if TYPE_CHECKING:
    import ipywidgets

    from nandlib.streaming.listing import Listing

OPTIONS = "NAND_EXPLORE"  # environment variable by which the page knows what the command was asked for
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'"  # Voilà's page asks for fonts elsewhere
LEFT = 120  # seconds until the kernel of a page that was closed ends: each holds the model and all maps
CELL = "from nandlib.cli.explore import page\n\npage()"


@app.command(rich_help_panel=ADAPT)
def explore(
    images: Annotated[list[Path], typer.Argument(help="folders of images, or image files")],
    noun: Noun = "object",
    detector: DetectorName = None,
    maps: MapsFolder = None,
    checkpoint: Checkpoint = None,
    normals: Normals = None,
    model: Weights = None,
    port: Annotated[int, typer.Option(help="of the page, on this machine alone", min=1, max=65535)] = 8866,
    browser: Annotated[bool, typer.Option(help="open it")] = True,
) -> None:
    """A page for your images: type a text, or click "this is fine", and see all maps and scores change (needs the extra 'study').

    Without --detector it offers all of the study's. Examples are told from what is normal: they need --normals. A page that was closed,
    or out of reach for two minutes (a machine that slept), ends: load it anew.

    Example:

      nand explore carpet/test --noun carpet --normals carpet/train/good
    """
    from nandlib.streaming.listing import find_images

    if detector or maps or checkpoint:
        check_source(detector, maps, checkpoint)
    if detector and not checkpoint:
        from nandlib.detectors.fit import check_name

        check_name(detector)
    for place in (images, *([[normals]] if normals else [])):
        find_images(place)  # what is wrong is said here, not in the page
    if importlib.util.find_spec("voila") is None:
        raise ModuleNotFoundError("No module named 'voila'", name="voila")
    _check_free(port)
    paths = {"maps": maps, "checkpoint": checkpoint, "normals": normals, "model": model}
    asked = {"images": [str(p.absolute()) for p in images], "noun": noun, "detector": detector}
    asked |= {name: str(path.absolute()) if path else None for name, path in paths.items()}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a kernel may end after the server
        notebook = _notebook(Path(folder))
        options = [f"--port={port}", "--Voila.port_retries=0", "--Voila.ip=127.0.0.1", "--Voila.auto_token=True"]
        options += [f"--Voila.tornado_settings={ {'headers': {'Content-Security-Policy': POLICY}} }"]
        options += [f"--MappingKernelManager.cull_idle_timeout={LEFT}", f"--MappingKernelManager.cull_interval={LEFT // 4}"]
        command = [sys.executable, "-m", "voila", str(notebook), *options]
        token = secrets.token_urlsafe(24)  # in the environment: others of this machine see a process's arguments
        typer.echo(f"http://127.0.0.1:{port}/?token={token}  (Ctrl+C ends it)")
        environment = os.environ | {OPTIONS: json.dumps(asked), "JUPYTER_TOKEN": token}
        server = subprocess.Popen([*command, *([] if browser else ["--no-browser"])], env=environment)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl+C does, and the server with it
        try:
            code = server.wait()
        except KeyboardInterrupt:
            server.terminate()
            server.wait()
            code = 0
    raise typer.Exit(code)


def _check_free(port: int) -> None:
    """Raise DataError if the port cannot be had: the address that is printed would be another program's, token and all."""
    with socket.socket() as ours:
        if os.name != "nt":  # there it would take the port from whoever has it
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            ours.bind(("127.0.0.1", port))
        except OSError as error:
            raise DataError(f"--port {port} cannot be used ({error.strerror}): give another") from error


def _notebook(folder: Path) -> Path:
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata["title"] = "NAND: what counts as normal?"
    path = folder / "explore.ipynb"
    nbformat.write(notebook, path)
    return path


def page() -> ipywidgets.Widget:
    """The explorer that the command asked for: called in the page's kernel."""
    try:
        return _explorer(json.loads(os.environ[OPTIONS]))
    except NandError as error:
        return _error(str(error))


def _explorer(asked: dict[str, Any]) -> ipywidgets.Widget:
    import ipywidgets

    from nandlib.models import load_model
    from nandlib.show.explorer.gallery import Gallery
    from nandlib.show.explorer.widget import Explorer
    from nandlib.show.style import use_style
    from nandlib.streaming.listing import Listing, find_images

    use_style()
    maps, checkpoint, normals, weights = (Path(asked[k]) if asked[k] else None for k in ("maps", "checkpoint", "normals", "model"))
    listing = Listing.of(asked["images"])
    images, unread = _read(listing)
    listing = replace(listing, places=tuple(map(str, images.values())))
    good = find_images([normals]) if normals else []
    model, detectors = load_model("mini", weights), None
    if asked["detector"] or maps:
        name = asked["detector"] or "maps"
        detectors = {name: chosen_detector(asked["detector"], maps, checkpoint, model, asked["noun"], good, listing)}
    explorer = Explorer(gallery=Gallery.of_images(images, model, noun=asked["noun"], normals=good, detectors=detectors))
    return ipywidgets.VBox([_error(f"left out: {'; '.join(unread)}"), explorer]) if unread else explorer


def _read(listing: Listing) -> tuple[dict[str, Path], list[str]]:
    """The images that can be read, by name, and of the others why not: DataError if there are none but these."""
    from nandlib.data.images import load_image

    images, unread = dict[str, Path](), list[str]()
    for name in listing:
        path = Path(listing.path(name))
        try:
            load_image(path).close()
            images[name] = path
        except DataError as error:
            unread.append(str(error))
    if not images:
        raise DataError(unread[0])
    return images, unread


def _error(message: str) -> ipywidgets.HTML:
    import ipywidgets

    from nandlib.show.explorer.page import STYLE

    return ipywidgets.HTML(f"{STYLE}<div class='nand-error' role='alert'>{html.escape(message)}</div>")
